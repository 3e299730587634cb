//! Who asks: a client certificate, a token, or nobody known.

use std::sync::Arc;

use http::{HeaderMap, header};
use jiff::Timestamp;
use martello_api::identity::User;

use self::{credentials::Refused, secret_tokens::SecretUse};
use crate::{registry::call::Note, server::Core};

pub mod bearer;
pub mod config;
pub mod credentials;
pub mod foreign;
pub mod impersonation;
pub mod mapping;
pub mod oidc;
pub mod providers;
pub mod rules;
pub mod secret_tokens;
pub mod shared;
pub mod url;
pub mod webhook;

pub use impersonation::{Acting, impersonate};

/// Somebody who was recognized.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who it is.
    pub user: Arc<User>,
    /// The Secret whose token was shown, if it was one of a Secret.
    pub secret: Option<SecretUse>,
}

impl From<Arc<User>> for Known {
    fn from(user: Arc<User>) -> Self {
        Self { user, secret: None }
    }
}

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
    /// The bearer token has a length that none has.
    #[error("the bearer token was refused: it has {0} bytes")]
    TokenLength(usize),
    /// The bearer token.
    #[error("the bearer token was refused: {0}")]
    Token(Refused),
    /// There are none, and the configuration lets nobody in without them.
    #[error(
        "there are no credentials, and requests without are not let in here (anonymous of --authentication-config)"
    )]
    Nothing,
}

impl AuthnError {
    /// What the audit trail says of it besides.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        match self {
            Self::Token(refused) => refused.notes(),
            _ => Vec::new(),
        }
    }
}

const EXPIRED: &str = "the client certificate has expired since the connection was made";

/// Finds out who asks. The certificate comes first, as upstream's; a token counts where no certificate holds. Credentials
/// of which none holds are refused, and never taken for none. Of the request, its path and headers are looked at.
pub async fn authenticate(
    core: &Arc<Core>,
    peer: &Peer,
    (path, headers): (&str, &HeaderMap),
    now: Timestamp,
) -> Result<Known, AuthnError> {
    let refused = match peer {
        Peer::Internal(user) => return Ok(Arc::clone(user).into()),
        Peer::Certificate(user, expires) if now < *expires => return Ok(Arc::clone(user).into()),
        Peer::Certificate(..) => Some(Arc::from(EXPIRED)),
        Peer::Refused(why) => Some(Arc::clone(why)),
        Peer::Unknown => None,
    };
    match (bearer(headers), refused) {
        (None, None) if core.foreign.get().is_some_and(|foreign| !foreign.lets_in_anonymous(path)) => {
            Err(AuthnError::Nothing)
        }
        (None, None) => Ok(Arc::new(User::anonymous()).into()),
        (None, Some(why)) => Err(AuthnError::Certificate(why)),
        (Some(token), _) if token.is_empty() || token.len() > MAX_TOKEN_BYTES => {
            Err(AuthnError::TokenLength(token.len()))
        }
        (Some(token), _) => {
            let accepted = credentials::token_user(core, &token, &[], now).await;
            let accepted = accepted.map_err(AuthnError::Token)?;
            Ok(Known { user: Arc::new(accepted.user), secret: accepted.secret })
        }
    }
}

/// The bearer token, as upstream reads it: what follows the first space, up to the next. One with letters that no token has is a
/// wrong one, and not none.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(header::AUTHORIZATION)?.as_bytes());
    let mut parts = value.trim_ascii().split(' ');
    let token = parts.next().filter(|scheme| scheme.eq_ignore_ascii_case("bearer")).and_then(|_| parts.next())?;
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_that_is_no_text_is_a_wrong_one_and_not_none() {
        let shown = |value: &[u8]| {
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())]))
        };
        assert_eq!(shown(b" Bearer a.b.c ").as_deref(), Some("a.b.c"));
        assert_eq!((shown(b"bearer a b").as_deref(), shown(b"Bearer  a")), (Some("a"), None));
        assert!(shown(b"bearer \xffa").is_some_and(|token| token != "a"));
        assert!(shown(b"Bearer a\xa0").is_some_and(|token| token != "a"));
        assert_eq!((shown(b"Basic eDp5"), shown(b"Bearer"), bearer(&HeaderMap::new())), (None, None, None));
    }
}
