//! Acting as another: what each way of doing so asks the authorizer about.
//!
//! The constrained ways come first. They ask with verbs of their own for each part of the other, and besides whether the
//! call itself may be made in this way; nodes and service accounts get the groups that they always have. The old way, the
//! verb `impersonate` and nothing else, comes last. The first way that allows everything counts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use http::HeaderMap;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::{
        ANONYMOUS, GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_UNAUTHENTICATED, NODE_USER_PREFIX,
        SERVICE_ACCOUNT_USER_PREFIX, User,
    },
    names,
    status::ApiError,
};
use martello_policy::Decision;
use parking_lot::Mutex;
use serde_json::json;

use crate::{http::query::decode, registry::validation::field::Field, server::Core};

const GROUP: &str = "authentication.k8s.io";
/// What the token of a pod's service account says of the node that the pod is on.
const NODE_OF_TOKEN: &str = "authentication.kubernetes.io/node-name";
/// From so many parts of a kind on, the right to all of them is asked for first.
const MANY: usize = 4;
/// Requestors whose last way is remembered; beyond that all are forgotten.
const MOST_REMEMBERED: usize = 10_000;

/// By which way each requestor succeeded last: it is tried first, and a refusal is told in its words.
static LAST: LazyLock<Mutex<HashMap<String, Way>>> = LazyLock::new(Mutex::default);

/// As whom a request asks to act, as its headers say it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Asked {
    /// Reads the headers; `None` if none of them is there.
    ///
    /// What is no UTF-8 is refused: to pass over it would let the request act as the one who only passes it on.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut asked = Self::default();
        let mut any = false;
        for (key, value) in headers {
            let key = key.as_str();
            let Some(what) = key.strip_prefix("impersonate-") else { continue };
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| ApiError::bad_request(format!("the value of the header {key} is not UTF-8")))?
                .to_owned();
            match what {
                "user" if asked.name.is_empty() => asked.name = value,
                "uid" if asked.uid.is_none() => asked.uid = Some(value).filter(|uid| !uid.is_empty()),
                "user" | "uid" => {}
                "group" => asked.groups.push(value),
                _ => match what.strip_prefix("extra-") {
                    Some(extra) => asked.extra.entry(unescaped(extra)).or_default().push(value),
                    None => continue,
                },
            }
            any = true;
        }
        if any && asked.name.is_empty() {
            return Err(ApiError::bad_request(asked.without_name()));
        }
        Ok(any.then_some(asked))
    }

    /// Upstream's words for a request that would act with the groups of nobody.
    fn without_name(&self) -> String {
        let list = |values: &[String]| {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let groups = if self.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&self.groups) };
        let uid = self.uid.as_deref().unwrap_or_default();
        let extra = if self.extra.is_empty() {
            "map[string][]string(nil)".to_owned()
        } else {
            let listed: Vec<String> =
                self.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
            format!("map[string][]string{{{}}}", listed.join(", "))
        };
        format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{groups}, Extra:{extra}}} without impersonating a user name"
        )
    }

    fn names_only(&self) -> bool {
        self.uid.is_none() && self.groups.is_empty() && self.extra.is_empty()
    }
}

/// A way to act as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A pod's service account as the node that the pod is on.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    /// A service account.
    ServiceAccount,
    /// Anybody else.
    UserInfo,
    /// Whoever, by the verb `impersonate` alone.
    Legacy,
}

const WAYS: [Way; 5] = [Way::AssociatedNode, Way::ArbitraryNode, Way::ServiceAccount, Way::UserInfo, Way::Legacy];

impl Way {
    /// The name in verbs; the old way has none.
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => return None,
        })
    }

    /// What the requestor must be allowed to do to each part of the other.
    fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Legacy => "impersonate",
        }
    }

    /// Whether it is for such another.
    fn fits(self, asked: &Asked, requestor: &User) -> bool {
        let (node, account) = (node_of(&asked.name), account_of(&asked.name));
        match self {
            Self::AssociatedNode => {
                let own = requestor.extra.get(NODE_OF_TOKEN).map(Vec::as_slice);
                asked.names_only()
                    && account_of(&requestor.name).is_some()
                    && matches!((own, node), (Some([own]), Some(node)) if own == node)
            }
            Self::ArbitraryNode => asked.names_only() && node.is_some(),
            Self::ServiceAccount => asked.names_only() && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

/// As whom a request acts.
#[derive(Clone, Debug)]
pub struct Acting {
    /// The user.
    pub user: Arc<User>,
    /// The verb by which the requestor may act as that user in a constrained way; the audit trail tells it.
    pub constraint: Option<&'static str>,
}

/// As whom a request acts, if it asks to act as another: each part of the other is authorized by itself.
pub fn impersonate(
    core: &Core,
    user: Arc<User>,
    headers: &HeaderMap,
    verb: &str,
    target: &Target,
) -> Result<Acting, ApiError> {
    let Some(asked) = Asked::of(headers)? else { return Ok(Acting { user, constraint: None }) };
    let last = LAST.lock().get(&user.name).copied();
    let ways = last.into_iter().chain(WAYS.into_iter().filter(|way| Some(*way) != last));
    let mut refused = None;
    for way in ways.filter(|way| way.fits(&asked, &user)) {
        match (Attempt { core, requestor: &user, asked: &asked, way }).other(verb, target) {
            Ok(other) => {
                remember(&user.name, way);
                let constraint = way.name().map(|_| way.verb());
                return Ok(Acting { user: Arc::new(other), constraint });
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| ApiError::forbidden("", "", "", "no way to act as another fits")))
}

fn remember(requestor: &str, way: Way) {
    let mut last = LAST.lock();
    if last.len() >= MOST_REMEMBERED {
        last.clear();
    }
    last.insert(requestor.to_owned(), way);
}

/// One way, tried for one request.
struct Attempt<'a> {
    core: &'a Core,
    requestor: &'a Arc<User>,
    asked: &'a Asked,
    way: Way,
}

impl Attempt<'_> {
    /// The other, if the requestor may act as it in this way.
    fn other(&self, verb: &str, target: &Target) -> Result<User, ApiError> {
        if let Some(way) = self.way.name() {
            self.ask(&format!("impersonate-on:{way}:{verb}"), target.clone())?;
        }
        let asked = self.asked;
        let mut other = User {
            name: asked.name.clone(),
            uid: asked.uid.clone(),
            groups: asked.groups.clone(),
            extra: asked.extra.clone(),
        };
        self.name(&mut other)?;
        if let Some(uid) = &asked.uid {
            self.may(self.part("uids", uid))?;
        }
        self.groups()?;
        self.extra()?;
        if asked.name == ANONYMOUS {
            add(&mut other.groups, GROUP_UNAUTHENTICATED);
        } else if !other.is_in(GROUP_UNAUTHENTICATED) {
            add(&mut other.groups, GROUP_AUTHENTICATED);
        }
        Ok(other)
    }

    /// Asks about the name, and fills in the groups that follow from it.
    fn name(&self, other: &mut User) -> Result<(), ApiError> {
        let mut target = self.part("users", &self.asked.name);
        if let Some(node) = node_of(&self.asked.name).filter(|_| self.is_constrained()) {
            "nodes".clone_into(&mut target.resource);
            // A pod's own node is asked about as all nodes are: which one it is was looked up already.
            let asked = if self.way == Way::AssociatedNode { "*" } else { node };
            asked.clone_into(&mut target.name);
            other.groups = vec![GROUP_NODES.to_owned()];
        }
        if let Some((namespace, account)) = account_of(&self.asked.name) {
            "serviceaccounts".clone_into(&mut target.resource);
            namespace.clone_into(&mut target.namespace);
            account.clone_into(&mut target.name);
            if self.asked.groups.is_empty() {
                other.groups = User::service_account(namespace, account).groups;
            }
        }
        self.may(target)
    }

    fn groups(&self) -> Result<(), ApiError> {
        let groups = &self.asked.groups;
        if self.is_constrained() {
            if groups.iter().any(String::is_empty) {
                return Err(
                    self.refused(&self.part("groups", ""), "impersonating the empty string group is not allowed")
                );
            }
            if groups.iter().any(|group| group == GROUP_MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(self.refused(&self.part("groups", GROUP_MASTERS), why));
            }
            if groups.len() >= MANY && self.may(self.part("groups", "*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.may(self.part("groups", group)))
    }

    fn extra(&self) -> Result<(), ApiError> {
        let extra = &self.asked.extra;
        let of =
            |key: &str, value: &str| ResourceTarget { subresource: key.to_owned(), ..self.part("userextras", value) };
        if self.is_constrained() {
            if let Some(why) = extra.iter().find_map(|(key, values)| extra_fault(key, values)) {
                return Err(self.refused(&self.part("userextras", ""), &why));
            }
            let count: usize = extra.values().map(Vec::len).sum();
            if count >= MANY && self.may(of("*", "*")).is_ok() {
                return Ok(());
            }
        }
        let mut parts = extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        parts.try_for_each(|(key, value)| self.may(of(key, value)))
    }

    fn is_constrained(&self) -> bool {
        self.way.name().is_some()
    }

    /// A part of the other, as the authorizer is asked about it.
    fn part(&self, resource: &str, name: &str) -> ResourceTarget {
        let old = !self.is_constrained() && matches!(resource, "users" | "groups" | "serviceaccounts");
        ResourceTarget {
            group: if old { String::new() } else { GROUP.to_owned() },
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..ResourceTarget::default()
        }
    }

    fn may(&self, part: ResourceTarget) -> Result<(), ApiError> {
        self.ask(self.way.verb(), Target::Resource(part))
    }

    fn ask(&self, verb: &str, target: Target) -> Result<(), ApiError> {
        let attributes = Attributes { user: Arc::clone(self.requestor), verb: verb.to_owned(), target };
        match self.core.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(denial) => Err(denial.to_api_error()),
        }
    }

    /// A refusal whatever the requestor's rights are.
    fn refused(&self, part: &ResourceTarget, why: &str) -> ApiError {
        let (user, verb, group) = (&self.requestor.name, self.way.verb(), &part.group);
        let asked = format!(
            "User {user:?} cannot {verb} resource {:?} in API group {group:?} at the cluster scope: {why}",
            part.resource
        );
        ApiError::forbidden(group, &part.resource, &part.name, &asked)
    }
}

fn extra_fault(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut causes = Vec::new();
    Field::new(&json!(key), "extra.key").domain_prefixed_path(&mut causes);
    let faults: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match faults.as_slice() {
        [] => {}
        [one] => return Some(format!("impersonating an invalid key in extra is not allowed: {one}")),
        all => return Some(format!("impersonating an invalid key in extra is not allowed: [{}]", all.join(", "))),
    }
    if key.to_lowercase() != key {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    values
        .iter()
        .any(String::is_empty)
        .then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// The key that a header's name bears; one that is badly escaped is taken as it stands.
fn unescaped(key: &str) -> String {
    let mut rest = key.split('%');
    let is_hex = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    rest.next();
    if rest.all(is_hex) { decode(key, false) } else { key.to_owned() }
}

fn add(groups: &mut Vec<String>, group: &str) {
    if !groups.iter().any(|own| own == group) {
        groups.push(group.to_owned());
    }
}

/// The node that a user name belongs to.
fn node_of(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_USER_PREFIX).filter(|name| names::dns1123_subdomain(name).is_empty())
}

/// Namespace and name of the service account that a user name belongs to.
fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?.split_once(':')?;
    let sound = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    sound.then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &[u8])]) -> HeaderMap {
        let all =
            all.iter().map(|(key, value)| (HeaderName::from_static(key), HeaderValue::from_bytes(value).unwrap()));
        all.collect()
    }

    fn named(name: &str) -> Asked {
        Asked { name: name.to_owned(), ..Asked::default() }
    }

    #[test]
    fn whom_a_request_wants_to_be_is_read_as_utf8() {
        let asked = Asked::of(&headers(&[
            ("impersonate-user", "jos\u{e9}".as_bytes()),
            ("impersonate-group", b"tellers"),
            ("impersonate-extra-acme.com%2fproject", b"x"),
        ]));
        let asked = asked.unwrap().unwrap();
        assert_eq!((asked.name.as_str(), asked.groups), ("jos\u{e9}", vec!["tellers".to_owned()]));
        assert_eq!(asked.extra, BTreeMap::from([("acme.com/project".to_owned(), vec!["x".to_owned()])]));
        assert_eq!(Asked::of(&headers(&[("accept", b"*/*"), ("impersonated", b"x")])).unwrap(), None);
    }

    #[test]
    fn a_name_that_cannot_be_read_is_refused_and_not_passed_over() {
        for key in ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-scopes"] {
            let refused = Asked::of(&headers(&[(key, b"jos\xe9")])).unwrap_err();
            assert!(refused.code == 400 && refused.message.contains(key), "{}", refused.message);
        }
    }

    #[test]
    fn the_groups_of_nobody_are_not_acted_with() {
        let refused = Asked::of(&headers(&[("impersonate-group", b"g")])).unwrap_err();
        assert_eq!(
            refused.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        );
    }

    #[test]
    fn keys_of_extra_are_unescaped_where_all_of_them_can_be() {
        assert_eq!(unescaped("acme.com%2fproject%25"), "acme.com/project%");
        assert_eq!(unescaped("acme.com%2fproject%zz"), "acme.com%2fproject%zz");
        assert_eq!(unescaped("a%2"), "a%2");
    }

    #[test]
    fn constrained_ways_look_at_the_keys_of_extra() {
        let fault = |key: &str| extra_fault(key, &["v".to_owned()]);
        assert_eq!(fault("acme.com/project"), None);
        let invalid = "impersonating an invalid key in extra is not allowed: ";
        let host = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let path = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        for (key, why) in [
            (
                "scopes",
                format!(
                    "{invalid}extra.key: Invalid value: \"scopes\": must be a domain-prefixed path (such as \"acme.io/foo\")"
                ),
            ),
            ("a.b/c d", format!("{invalid}extra.key: Invalid value: \"c d\": {path}")),
            (
                "_/\"",
                format!(
                    "{invalid}[extra.key: Invalid value: \"_\": {host}, extra.key: Invalid value: \"\\\"\": {path}]"
                ),
            ),
            ("a.b/Cd", "impersonating a non-lowercase key in extra is not allowed: \"a.b/Cd\"".to_owned()),
        ] {
            assert_eq!(fault(key), Some(why));
        }
    }

    #[test]
    fn each_way_is_for_others_of_its_kind() {
        let fitting = |asked: &Asked, requestor: &User| -> Vec<Way> {
            WAYS.into_iter().filter(|way| way.fits(asked, requestor)).collect()
        };
        let person = User::authenticated("jane", ["x"]);
        assert_eq!(fitting(&named("bob"), &person), [Way::UserInfo, Way::Legacy]);
        assert_eq!(fitting(&named("system:serviceaccount:a:b"), &person), [Way::ServiceAccount, Way::Legacy]);
        assert_eq!(fitting(&named("system:serviceaccount:a:B_"), &person), [Way::UserInfo, Way::Legacy]);
        assert_eq!(fitting(&named("system:node:n1"), &person), [Way::ArbitraryNode, Way::Legacy]);
        let grouped = Asked { groups: vec!["g".to_owned()], ..named("system:node:n1") };
        assert_eq!(fitting(&grouped, &person), [Way::Legacy]);
        let mut agent = User::service_account("a", "agent");
        agent.extra.insert(NODE_OF_TOKEN.to_owned(), vec!["n1".to_owned()]);
        assert_eq!(fitting(&named("system:node:n1"), &agent), [Way::AssociatedNode, Way::ArbitraryNode, Way::Legacy]);
        assert_eq!(fitting(&named("system:node:n2"), &agent), [Way::ArbitraryNode, Way::Legacy]);
    }
}
