//! Telling apart which requests are long: they are not counted as in flight and have no deadline.

use std::time::Duration;

use martello_api::attributes::Target;

use super::info::RequestInfo;

/// How long a request that is no stream may take, whoever answers it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// Whether a request may last as long as it likes.
#[must_use]
pub fn is_long_running(info: &RequestInfo) -> bool {
    match &info.target {
        Target::Resource(target) => info.verb == "watch" || STREAMS.contains(&target.subresource.as_str()),
        Target::Path(_) => false,
    }
}

/// How long a request may take until the head of its answer; none for one that lasts.
#[must_use]
pub fn deadline(info: &RequestInfo) -> Option<Duration> {
    (!is_long_running(info)).then_some(REQUEST_TIMEOUT)
}

const TAKEN_OVER: [&str; 3] = ["attach", "exec", "portforward"];

/// Whether the client acts inside of a pod over the connection: never a mere read, whatever the method. Through the agent of a
/// node, whose own paths lead to `exec` and its like, it does so as well once the connection is switched.
#[must_use]
pub fn takes_over(target: &Target, switches: bool) -> bool {
    match target {
        Target::Resource(target) if target.group.is_empty() => match &*target.resource {
            "pods" => TAKEN_OVER.contains(&target.subresource.as_str()),
            "nodes" => switches && target.subresource == "proxy",
            _ => false,
        },
        _ => false,
    }
}

/// Whether somebody else than this server answers what is behind a proxy: nobody here knows what a request does there, a GET
/// included.
#[must_use]
pub fn is_proxied(target: &Target) -> bool {
    matches!(target, Target::Resource(target) if target.group.is_empty() && target.subresource == "proxy")
}

#[cfg(test)]
mod tests {
    use martello_api::attributes::ResourceTarget;

    use super::*;

    fn target(resource: &str, subresource: &str) -> Target {
        let (resource, subresource) = (resource.into(), subresource.into());
        Target::Resource(ResourceTarget { resource, subresource, ..ResourceTarget::default() })
    }

    #[test]
    fn only_streams_last_whoever_answers() {
        let limit = |path: &str, query: &str| {
            deadline(&RequestInfo::parse(&http::Method::GET, path, &crate::http::query::Query::parse(query)))
        };
        let things = "/apis/extension.example.com/v1/namespaces/a/things";
        assert_eq!(limit(things, ""), Some(REQUEST_TIMEOUT));
        assert_eq!(limit("/apis/extension.example.com/v1", ""), Some(REQUEST_TIMEOUT));
        assert_eq!(limit(things, "watch=1"), None);
        assert_eq!(limit("/api/v1/namespaces/a/pods/p/log", "follow=1"), None);
    }

    #[test]
    fn a_connection_through_a_nodes_agent_is_taken_over_once_it_switches() {
        assert!(takes_over(&target("pods", "exec"), false) && takes_over(&target("nodes", "proxy"), true));
        assert!(!takes_over(&target("nodes", "proxy"), false) && !takes_over(&target("services", "proxy"), true));
        assert!(is_proxied(&target("services", "proxy")) && !is_proxied(&target("pods", "log")));
    }
}
