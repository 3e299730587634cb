//! Who asks: a client certificate, a token, or nobody known.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::{GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, User},
    status::ApiError,
};
use martello_policy::Decision;

use crate::{http::query::decode, server::Core};

pub mod config;
pub mod credentials;
pub mod foreign;
pub mod mapping;
pub mod oidc;
pub mod url;
pub mod webhook;

/// What a connection proved, once for all of its requests.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Nothing.
    Unknown,
    /// A client certificate that is not trusted, and why.
    Refused(Arc<str>),
    /// A client certificate of this user, and until when it holds: a connection may live longer.
    Certificate(Arc<User>, Timestamp),
    /// It is one of our own components in this process.
    Internal(Arc<User>),
}

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Why nobody is recognized although credentials were shown; for the audit trail, not for the client.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    /// The client certificate, and there is no token besides.
    #[error("{0}")]
    Certificate(Arc<str>),
    /// The bearer token.
    #[error("the bearer token was refused: {0}")]
    Token(String),
}

const EXPIRED: &str = "the client certificate has expired since the connection was made";

/// Finds out who asks. The certificate comes first, as upstream's; a token counts where no certificate holds. Credentials
/// of which none holds are refused, and never taken for none.
pub async fn authenticate(
    core: &Arc<Core>,
    peer: &Peer,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Arc<User>, AuthnError> {
    let refused = match peer {
        Peer::Internal(user) => return Ok(Arc::clone(user)),
        Peer::Certificate(user, expires) if now < *expires => return Ok(Arc::clone(user)),
        Peer::Certificate(..) => Some(Arc::from(EXPIRED)),
        Peer::Refused(why) => Some(Arc::clone(why)),
        Peer::Unknown => None,
    };
    match (bearer(headers), refused) {
        (None, None) => Ok(Arc::new(User::anonymous())),
        (None, Some(why)) => Err(AuthnError::Certificate(why)),
        (Some(token), _) if token.is_empty() || token.len() > MAX_TOKEN_BYTES => {
            Err(AuthnError::Token(format!("it has {} bytes", token.len())))
        }
        (Some(token), _) => {
            let accepted = credentials::token_user(core, token, &[], now).await;
            let accepted = accepted.map_err(|error| AuthnError::Token(error.to_string()))?;
            Ok(Arc::new(accepted.user))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    None
}

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user as whom a request acts, if it asks to act as another: each part of the other is authorized by itself.
pub fn impersonate(core: &Core, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, ApiError> {
    let all = |name: &'static str| {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (name, groups, uid) = (all(USER), all(GROUP), all(UID));
    let extras: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(key, value)| {
            Some((decode(key.as_str().strip_prefix(EXTRA)?, false), value.to_str().ok()?.to_owned()))
        })
        .collect();
    if name.is_empty() && groups.is_empty() && uid.is_empty() && extras.is_empty() {
        return Ok(user);
    }
    let Some(name) = name.into_iter().next().filter(|name| !name.is_empty()) else {
        return Err(ApiError::bad_request(nobody(&groups, &uid, &extras)));
    };
    let allowed = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let target = ResourceTarget {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..ResourceTarget::default()
        };
        let attributes =
            Attributes { user: Arc::clone(&user), verb: "impersonate".to_owned(), target: Target::Resource(target) };
        match core.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(denial) => Err(denial.to_api_error()),
        }
    };
    let mut other = User { name: name.clone(), ..User::default() };
    match other.as_service_account() {
        Some((namespace, account)) => {
            allowed("", "serviceaccounts", "", namespace, account)?;
            other.groups = User::service_account(namespace, account).groups;
        }
        None => allowed("", "users", "", "", &name)?,
    }
    for group in groups {
        allowed("", "groups", "", "", &group)?;
        other.groups.push(group);
    }
    for uid in uid {
        allowed("authentication.k8s.io", "uids", "", "", &uid)?;
        other.uid = Some(uid);
    }
    for (key, value) in extras {
        allowed("authentication.k8s.io", "userextras", &key, "", &value)?;
        other.extra.entry(key).or_default().push(value);
    }
    if name != martello_api::identity::ANONYMOUS {
        if !other.is_in(GROUP_AUTHENTICATED) && !other.is_in(GROUP_UNAUTHENTICATED) {
            other.groups.push(GROUP_AUTHENTICATED.to_owned());
        }
    } else if !other.is_in(GROUP_UNAUTHENTICATED) {
        other.groups.push(GROUP_UNAUTHENTICATED.to_owned());
    }
    Ok(Arc::new(other))
}

/// Upstream's words for a request that would act with the groups of nobody.
fn nobody(groups: &[String], uid: &[String], extras: &[(String, String)]) -> String {
    let list = |values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if groups.is_empty() { "[]string(nil)".to_owned() } else { list(groups) };
    let uid = uid.first().map_or("", String::as_str);
    let extra = if extras.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let mut keyed: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
        for (key, value) in extras {
            keyed.entry(key).or_default().push(value.clone());
        }
        let listed: Vec<String> = keyed.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
        format!("map[string][]string{{{}}}", listed.join(", "))
    };
    format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{groups}, Extra:{extra}}} without impersonating a user name"
    )
}
