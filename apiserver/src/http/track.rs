//! Telling apart which requests are long: they are not counted as in flight and have no deadline.

use martello_api::attributes::Target;

use super::info::RequestInfo;

const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// Whether a request may last as long as it likes.
#[must_use]
pub fn is_long_running(info: &RequestInfo) -> bool {
    match &info.target {
        Target::Resource(target) => info.verb == "watch" || STREAMS.contains(&target.subresource.as_str()),
        Target::Path(_) => false,
    }
}
