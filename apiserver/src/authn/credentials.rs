//! Users of certificates and tokens. A token holds as long as what it is bound to exists.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{identity::User, status::ApiError};
use martello_pki::token::{BoundObject, Claims, TokenError};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::{
    Peer,
    secret_tokens::{self, Marked, SecretUse},
};
use crate::{
    registry::{call::Note, object},
    server::Core,
};

/// A user of a token, and for whom the token is.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The user.
    pub user: User,
    /// Audiences that both sides know.
    pub audiences: Vec<String>,
    /// The Secret that the token stands in, if it stands in one.
    pub secret: Option<SecretUse>,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is none of ours, or does not hold.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// What it is bound to is gone.
    #[error("{0}")]
    Bound(String),
    /// The Secret that it stands in was marked invalid.
    #[error(transparent)]
    Marked(#[from] Marked),
    /// An identity provider or a webhook should know it, and does not.
    #[error("{0}")]
    Foreign(String),
}

impl Refused {
    /// Upstream's words, which a review tells.
    #[must_use]
    pub fn upstream(&self) -> String {
        const INVALID: &str = "invalid bearer token";
        let more = match self {
            Self::Token(TokenError::Expired(_)) => "service account token has expired".to_owned(),
            Self::Token(TokenError::NotYetValid(_)) => "service account token is not valid yet".to_owned(),
            Self::Token(error @ TokenError::Audience { .. }) => error.to_string(),
            Self::Token(_) => return INVALID.to_owned(),
            Self::Foreign(why) => why.clone(),
            Self::Marked(marked) => marked.to_string(),
            Self::Bound(_) => "service account token has been invalidated".to_owned(),
        };
        format!("[{INVALID}, {more}]")
    }

    /// What the audit trail says of it besides.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        match self {
            Self::Marked(marked) => marked.notes().into(),
            _ => Vec::new(),
        }
    }
}

/// What a chain of client certificates, the leaf first, proves.
pub fn certificate_peer(core: &Core, chain: &[CertificateDer<'_>], now: Timestamp) -> Peer {
    let user = match martello_pki::authenticate(core.pki.trust(), chain, now) {
        Ok(user) => user,
        Err(error) => return Peer::Refused(error.to_string().into()),
    };
    match martello_pki::verify::expires(chain) {
        Some(expires) => Peer::Certificate(core.users.share(user), expires),
        None => Peer::Refused("the client certificate's end can't be read".into()),
    }
}

/// The audience of this server itself.
#[must_use]
pub fn own_audiences(core: &Core) -> Vec<String> {
    vec![core.pki.tokens().issuer().to_owned()]
}

/// The user of a token: signature, time and audience hold, and what it is bound to exists.
pub async fn token_user(core: &Arc<Core>, token: &str, wanted: &[String], now: Timestamp) -> Result<Accepted, Refused> {
    let own = own_audiences(core);
    let wanted = if wanted.is_empty() { &own } else { wanted };
    if let Ok(user) = core.pki.join_tokens().authenticate(token, now) {
        let audiences: Vec<String> = own.iter().filter(|one| wanted.contains(one)).cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience { has: own.clone(), wanted: wanted.to_vec() }.into());
        }
        return Ok(Accepted { user, audiences, secret: None });
    }
    let foreign = core.foreign.get();
    if let Some(foreign) = foreign
        && let Some(answer) = foreign.of_provider(token, &own, wanted, now).await
    {
        return answer.map_err(Refused::Foreign);
    }
    let audiences: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let verified = match core.pki.tokens().verify(token, &audiences, now) {
        Err(error @ (TokenError::Malformed(_) | TokenError::NotSigned | TokenError::Issuer)) => {
            let answer = match foreign {
                Some(foreign) => foreign.of_webhook(token, &own, wanted, now).await,
                None => None,
            };
            return answer.map_or(Err(Refused::Token(error)), |answer| answer.map_err(Refused::Foreign));
        }
        verified => verified?,
    };
    let secret = check_bound(core, &verified.claims, now).await?;
    Ok(Accepted { user: verified.user(), audiences: verified.audiences, secret })
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Bound(error.message)
    }
}

/// Whether everything that a token is bound to is still the same object, and is not long since to be deleted: what only waits for
/// a finalizer, which whoever holds the token may have set, is gone all the same. Answers the Secret that the token stands in,
/// if it is in one.
async fn check_bound(core: &Arc<Core>, claims: &Claims, now: Timestamp) -> Result<Option<SecretUse>, Refused> {
    let bound = &claims.kubernetes;
    let namespace = &bound.namespace;
    let account = same(core, "serviceaccounts", namespace, &bound.serviceaccount, now).await?;
    if let Some(pod) = &bound.pod {
        same(core, "pods", namespace, pod, now).await?;
    } else if let Some(node) = &bound.node {
        same(core, "nodes", "", node, now).await?;
    }
    let Some(secret) = &bound.secret else { return Ok(None) };
    let secret = same(core, "secrets", namespace, secret, now).await?;
    if !claims.stands_in_secret {
        return Ok(None);
    }
    Ok(Some(secret_tokens::used(core, &account, &secret, now)?))
}

async fn same(
    core: &Arc<Core>,
    plural: &str,
    namespace: &str,
    bound: &BoundObject,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let kind = core.registry.find("", "v1", plural).ok_or_else(ApiError::unauthorized)?;
    let entry = core.get(kind, namespace, &bound.name).await?;
    if *entry.uid != *bound.uid {
        return Err(ApiError::new(401, "Unauthorized", format!("{plural} {:?} is another one by now", bound.name)));
    }
    let found = core.value(kind, &entry).await?;
    if ended_long_ago(&found, now) {
        return Err(ApiError::new(401, "Unauthorized", format!("{plural} {:?} of the token is gone", bound.name)));
    }
    Ok(found)
}

/// Seconds after which a token ends that is bound to what is being deleted, as upstream's.
const DELETED_GRACE_SECONDS: i64 = 60;

fn ended_long_ago(object: &Value, now: Timestamp) -> bool {
    let deleted = object::text(object, &["metadata", "deletionTimestamp"]);
    deleted.parse::<Timestamp>().is_ok_and(|deleted| now.as_second() - deleted.as_second() > DELETED_GRACE_SECONDS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_for_a_finalizer_bears_tokens_for_a_minute_only() {
        let now: Timestamp = "2026-01-02T00:01:00Z".parse().unwrap();
        let deleted = |at: &str| json!({"metadata": {"deletionTimestamp": at, "finalizers": ["example.com/stay"]}});
        assert!(!ended_long_ago(&json!({"metadata": {}}), now));
        assert!(!ended_long_ago(&deleted("2026-01-02T00:00:00Z"), now));
        assert!(ended_long_ago(&deleted("2026-01-01T23:59:59Z"), now));
        assert!(!ended_long_ago(&deleted("2026-01-02T00:01:30Z"), now), "a pod that is still to be ended gently");
    }
}
