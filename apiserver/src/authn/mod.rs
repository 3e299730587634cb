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

/// As whom a request asks to act, as its headers say it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    names: Vec<String>,
    groups: Vec<String>,
    uids: Vec<String>,
    extras: Vec<(String, String)>,
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
                "user" => asked.names.push(value),
                "group" => asked.groups.push(value),
                "uid" => asked.uids.push(value),
                _ => match what.strip_prefix("extra-") {
                    Some(extra) => asked.extras.push((decode(extra, false), value)),
                    None => continue,
                },
            }
            any = true;
        }
        Ok(any.then_some(asked))
    }
}

/// The user as whom a request acts, if it asks to act as another: each part of the other is authorized by itself.
pub fn impersonate(core: &Core, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, ApiError> {
    let Some(Asked { names, groups, uids: uid, extras }) = Asked::of(headers)? else { return Ok(user) };
    let Some(name) = names.into_iter().next().filter(|name| !name.is_empty()) else {
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
            if groups.is_empty() {
                other.groups = User::service_account(namespace, account).groups;
            }
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

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &[u8])]) -> HeaderMap {
        let all =
            all.iter().map(|(key, value)| (HeaderName::from_static(key), HeaderValue::from_bytes(value).unwrap()));
        all.collect()
    }

    #[test]
    fn whom_a_request_wants_to_be_is_read_as_utf8() {
        let asked = Asked::of(&headers(&[
            ("impersonate-user", "jos\u{e9}".as_bytes()),
            ("impersonate-group", b"tellers"),
            ("impersonate-extra-acme.com%2fproject", b"x"),
        ]));
        let asked = asked.unwrap().unwrap();
        assert_eq!((asked.names, asked.groups), (vec!["jos\u{e9}".to_owned()], vec!["tellers".to_owned()]));
        assert_eq!(asked.extras, [("acme.com/project".to_owned(), "x".to_owned())]);
        assert_eq!(Asked::of(&headers(&[("accept", b"*/*"), ("impersonated", b"x")])).unwrap(), None);
    }

    #[test]
    fn a_name_that_cannot_be_read_is_refused_and_not_passed_over() {
        for key in ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-scopes"] {
            let refused = Asked::of(&headers(&[(key, b"jos\xe9")])).unwrap_err();
            assert!(refused.code == 400 && refused.message.contains(key), "{}", refused.message);
        }
    }
}
