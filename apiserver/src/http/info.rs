//! What a request is about, read from its method, path and query: upstream's `RequestInfo`.

use http::Method;
use martello_api::attributes::{ResourceTarget, Target};

use super::query::{Query, decode};
use crate::registry::select::pinned_name;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; `proxy` for the paths of old that
    /// begin with it; for paths outside the API the method in lower case.
    pub verb: &'static str,
    /// The decoded path.
    pub path: String,
    /// A resource, or a path outside the API.
    pub target: Target,
    /// Path segments that follow the subresource (of `proxy`).
    pub rest: String,
    /// Whether a segment that has to say something is empty, as in `/api//v1`: upstream's router knows no such path. A
    /// namespace may be empty, which means all of them, and so may what is left of the path of `proxy`.
    pub has_gap: bool,
    /// Whether it says `watch` or `proxy` and not of what, which upstream can't read.
    pub is_unfinished: bool,
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request.
    #[must_use]
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let path = decode(path, false);
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let leads_with_gap = path.starts_with("//");
        let (group, version, parts) = match segments.as_slice() {
            ["api", version, parts @ ..] if !parts.is_empty() => ("", *version, parts),
            ["apis", group, version, parts @ ..] if !group.is_empty() && !parts.is_empty() => (*group, *version, parts),
            segments => {
                let has_gap = leads_with_gap || (segments.len() > 1 && segments.contains(&""));
                let target = Target::Path(path.clone());
                let (verb, rest) = (lower(method), String::new());
                return Self { verb, target, path, rest, has_gap, is_unfinished: false };
            }
        };
        let mut target =
            ResourceTarget { group: group.to_owned(), version: version.to_owned(), ..ResourceTarget::default() };
        let mut verb = verb_of(method);
        let mut parts = parts;
        let special = match parts.first() {
            Some(&"watch") => Some("watch"),
            Some(&"proxy") => Some("proxy"),
            _ => None,
        };
        let is_unfinished = special.is_some() && parts.len() == 1;
        if let (Some(special), [_, tail @ ..]) = (special, parts)
            && !tail.is_empty()
        {
            (verb, parts) = (special, tail);
        }
        let parts = strip_namespace(parts, &mut target);
        let is_empty = |place: usize| parts.get(place).is_some_and(|part| part.is_empty());
        // The proxies of old are read, and lead nowhere any more.
        let has_gap = leads_with_gap || verb == "proxy" || version.is_empty() || is_empty(0) || is_empty(2);
        let mut rest = String::new();
        if let [resource, tail @ ..] = parts {
            target.resource = (*resource).to_owned();
            if let [name, tail @ ..] = tail {
                target.name = (*name).to_owned();
                if let [subresource, tail @ ..] = tail
                    && verb != "proxy"
                {
                    target.subresource = (*subresource).to_owned();
                    rest = tail.join("/");
                    if path.ends_with('/') {
                        rest.push('/');
                    }
                }
            }
        }
        let verb = collection_verb(verb, &mut target, query);
        let target = Target::Resource(target);
        Self { verb, path: path.clone(), target, rest, has_gap, is_unfinished }
    }

    /// The resource asked for, if it is one.
    #[must_use]
    pub fn resource(&self) -> Option<&ResourceTarget> {
        match &self.target {
            Target::Resource(target) => Some(target),
            Target::Path(_) => None,
        }
    }
}

/// `namespaces/{ns}/…` names the namespace of what follows, except where a namespace itself is meant.
fn strip_namespace<'a>(parts: &'a [&'a str], target: &mut ResourceTarget) -> &'a [&'a str] {
    match parts {
        ["namespaces", name, tail @ ..] => {
            target.namespace = (*name).to_owned();
            match tail {
                [next, ..] if !NAMESPACE_SUBRESOURCES.contains(next) => tail,
                _ => parts,
            }
        }
        _ => parts,
    }
}

/// A verb on an object becomes the one on its collection where no name is given.
fn collection_verb(verb: &'static str, target: &mut ResourceTarget, query: &Query) -> &'static str {
    // A name in the path makes it a get, whatever else is asked. What is below an object without a name is never read, so that
    // no name need be looked for.
    if verb == "get" && target.name.is_empty() {
        if target.subresource.is_empty()
            && let Some(name) = pinned_name(query)
        {
            target.name = name;
        }
        return if query.flag("watch").unwrap_or(false) { "watch" } else { "list" };
    }
    if verb == "delete" && target.name.is_empty() { "deletecollection" } else { verb }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD => "get",
        _ => "",
    }
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::TRACE => "trace",
        Method::CONNECT => "connect",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, uri: &str) -> (String, ResourceTarget) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query));
        (info.verb.to_owned(), info.resource().cloned().unwrap_or_default())
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let (verb, target) = parse(&Method::GET, "/api/v1/namespaces/shop/pods/web/log");
        assert_eq!((verb.as_str(), target.namespace.as_str(), target.resource.as_str()), ("get", "shop", "pods"));
        assert_eq!((target.name.as_str(), target.subresource.as_str()), ("web", "log"));
        let (verb, target) = parse(&Method::PUT, "/api/v1/namespaces/shop/finalize");
        assert_eq!((verb.as_str(), target.resource.as_str(), target.name.as_str()), ("update", "namespaces", "shop"));
        assert_eq!(target.subresource, "finalize");
        let (verb, target) = parse(&Method::GET, "/apis/apps/v1/watch/namespaces/shop/deployments");
        assert_eq!(
            (verb.as_str(), target.resource.as_str(), target.namespace.as_str()),
            ("watch", "deployments", "shop")
        );
        let (verb, _) = parse(&Method::DELETE, "/api/v1/namespaces/shop/pods");
        assert_eq!(verb, "deletecollection");
        let (verb, target) = parse(&Method::GET, "/api/v1/pods?watch=1&fieldSelector=metadata.name%3Dx");
        assert_eq!((verb.as_str(), target.name.as_str()), ("watch", "x"));
        let (verb, target) = parse(&Method::GET, "/api/v1/namespaces/shop");
        assert_eq!((verb.as_str(), target.namespace.as_str(), target.name.as_str()), ("get", "shop", "shop"));
    }

    #[test]
    fn a_name_is_authorized_only_where_the_same_name_is_selected() {
        let named = |selector: &str| parse(&Method::GET, &format!("/api/v1/secrets?fieldSelector={selector}")).1.name;
        assert_eq!(named("metadata.name%3Dx"), "x");
        assert_eq!(named("metadata.namespace!%3Da,metadata.name%3D%3Dx"), "x");
        for selector in [
            // One term, whose value has a comma: everything outside of that namespace.
            "metadata.namespace!%3Dx%5C,metadata.name%3Dallowed",
            "metadata.name!%3Dallowed",
            "metadata.name%3Da/b",
            "metadata.name%3D..",
            "metadata.name%3D",
            "metadata.name%3Dallowed,nonsense",
            "metadata.name%3Dallowed&limit=many",
            "metadata.name%3Dallowed&timeoutSeconds=",
            "metadata.name%3Dallowed&labelSelector=a%3D,%3D",
        ] {
            assert_eq!(named(selector), "", "{selector}");
        }
        assert_eq!(named("metadata.name%3Dx&limit=5&labelSelector=a%3Db"), "x");
    }

    #[test]
    fn the_proxies_of_old_are_read_and_lead_nowhere() {
        let info = |path: &str| RequestInfo::parse(&Method::POST, path, &Query::default());
        let old = info("/api/v1/proxy/namespaces/shop/pods/web/log");
        let target = old.resource().cloned().unwrap_or_default();
        assert_eq!((old.verb, target.namespace.as_str(), target.resource.as_str()), ("proxy", "shop", "pods"));
        assert_eq!((target.name.as_str(), target.subresource.as_str()), ("web", ""));
        assert!(old.has_gap && !old.is_unfinished);
        assert!(info("/api/v1/watch").is_unfinished);
        assert!(info("/apis/apps/v1/proxy/").is_unfinished);
        assert!(!info("/api/v1/watch/pods").is_unfinished);
    }

    #[test]
    fn leading_slashes_say_nothing() {
        let info = RequestInfo::parse(&Method::GET, "//api/v1/pods", &Query::default());
        assert_eq!((info.verb, info.has_gap), ("list", true));
        assert_eq!(info.resource().map(|target| target.resource.as_str()), Some("pods"));
    }

    #[test]
    fn a_named_object_is_read_and_never_its_collection() {
        let (verb, target) = parse(&Method::GET, "/api/v1/namespaces/shop/secrets/one?watch=true");
        assert_eq!((verb.as_str(), target.name.as_str()), ("get", "one"));
        let (verb, target) = parse(&Method::GET, "/api/v1/watch/namespaces/shop/secrets/one");
        assert_eq!((verb.as_str(), target.name.as_str()), ("watch", "one"));
    }

    #[test]
    fn an_empty_segment_is_no_missing_one() {
        let info = |path: &str| RequestInfo::parse(&Method::GET, path, &Query::default());
        for path in
            ["//api/v1", "/api//v1", "/apis//apps/v1/deployments", "/apis/apps//v1", "/api/v1//pods", "/openapi//v3"]
        {
            assert!(info(path).has_gap, "{path}");
        }
        for path in ["/", "/api/v1/", "/api/v1/pods//", "/api/v1/namespaces/shop/pods/web/proxy//a//b"] {
            assert!(!info(path).has_gap, "{path}");
        }
        assert_eq!(info("/apis//v1/secrets").resource(), None);
        assert_eq!(info("/api/v1/namespaces/shop/pods/web/proxy//a//b/").rest, "/a//b/");
        let (verb, target) = parse(&Method::GET, "/api/v1/namespaces//pods");
        assert_eq!((verb.as_str(), target.namespace.as_str(), target.resource.as_str()), ("list", "", "pods"));
        let nameless = info("/api/v1/namespaces/shop/pods//log");
        assert!(!nameless.has_gap);
        assert_eq!(nameless.resource().map(|target| target.subresource.as_str()), Some("log"));
        assert_eq!(nameless.verb, "list");
        let pinned = RequestInfo::parse(
            &Method::GET,
            "/api/v1/namespaces/shop/pods//log",
            &Query::parse("fieldSelector=metadata.name%3Dweb&watch=1"),
        );
        assert_eq!((pinned.verb, pinned.resource().map(|target| target.name.as_str())), ("watch", Some("")));
    }

    #[test]
    fn a_path_outside_the_api_is_no_resource() {
        let info = RequestInfo::parse(&Method::GET, "/healthz", &Query::default());
        assert_eq!(info.target, Target::Path("/healthz".into()));
        let info = RequestInfo::parse(&Method::GET, "/apis/apps/v1", &Query::default());
        assert_eq!(info.resource(), None);
    }
}
