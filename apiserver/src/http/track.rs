//! Telling apart which requests are long: they are not counted as in flight and have no deadline.

use std::time::Duration;

use martello_api::{attributes::Target, cron::duration, status::ApiError};

use super::{info::RequestInfo, query::Query};

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

/// How long a request may take until the head of its answer: as long as the client asks for, and never longer than others
/// may; none for one that lasts.
///
/// # Errors
/// 400 where what the client asks for is no time.
pub fn deadline(info: &RequestInfo, query: &Query) -> Result<Option<Duration>, ApiError> {
    if is_long_running(info) {
        return Ok(None);
    }
    let asked =
        match query.get("timeout") {
            "" => None,
            asked => Some(duration::parse(asked).map_err(|why| {
                ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}"))
            })?),
        };
    let asked = asked.and_then(|asked| Duration::try_from(asked).ok()).filter(|asked| !asked.is_zero());
    Ok(Some(asked.map_or(REQUEST_TIMEOUT, |asked| asked.min(REQUEST_TIMEOUT))))
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
            let query = Query::parse(query);
            deadline(&RequestInfo::parse(&http::Method::GET, path, &query), &query).unwrap()
        };
        let things = "/apis/extension.example.com/v1/namespaces/a/things";
        assert_eq!(limit(things, ""), Some(REQUEST_TIMEOUT));
        assert_eq!(limit("/apis/extension.example.com/v1", ""), Some(REQUEST_TIMEOUT));
        assert_eq!(limit(things, "watch=1"), None);
        assert_eq!(limit("/api/v1/namespaces/a/pods/p/log", "follow=1"), None);
        assert_eq!(limit(things, "watch=1&timeout=x"), None);
    }

    #[test]
    fn a_client_may_ask_for_less_time_and_never_for_more() {
        let limit = |query: &str| {
            let query = Query::parse(query);
            deadline(&RequestInfo::parse(&http::Method::GET, "/api/v1/pods", &query), &query)
        };
        assert_eq!(limit("timeout=5s").unwrap(), Some(Duration::from_secs(5)));
        for query in ["", "timeout=", "timeout=0", "timeout=-5s", "timeout=100h"] {
            assert_eq!(limit(query).unwrap(), Some(REQUEST_TIMEOUT), "{query}");
        }
        let error = limit("timeout=x").unwrap_err();
        let why = "invalid timeout specified in the request URL - time: invalid duration \"x\"";
        assert_eq!((error.code, error.message.as_str()), (400, why));
    }

    #[test]
    fn a_connection_through_a_nodes_agent_is_taken_over_once_it_switches() {
        assert!(takes_over(&target("pods", "exec"), false) && takes_over(&target("nodes", "proxy"), true));
        assert!(!takes_over(&target("nodes", "proxy"), false) && !takes_over(&target("services", "proxy"), true));
        assert!(is_proxied(&target("services", "proxy")) && !is_proxied(&target("pods", "log")));
    }
}
