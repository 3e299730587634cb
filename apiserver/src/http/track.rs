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

const TAKEN_OVER: [&str; 3] = ["attach", "exec", "portforward"];

/// Whether the client acts inside of a pod over the connection: never a mere read, whatever the method.
#[must_use]
pub fn takes_over(target: &Target) -> bool {
    match target {
        Target::Resource(target) => {
            target.group.is_empty() && target.resource == "pods" && TAKEN_OVER.contains(&target.subresource.as_str())
        }
        Target::Path(_) => false,
    }
}
