//! Service account tokens: signed statements (JWT, ES256) bound to a service account and to the pod that uses it.

mod cache;
mod claims;
mod discovery;
pub(crate) mod keys;
mod verify;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use self::claims::{BoundObject, Claims, KubernetesClaims, TokenSpec};
pub use self::discovery::JWKS_PATH;
pub use self::keys::KeySet;
pub use self::verify::{MAX_TOKEN_BYTES, TokenError, VerifiedToken};
use crate::signer::{SignError, Signer};
use cache::VerifiedCache;

/// The issuer, and the audience of tokens for the API server itself, unless configured otherwise.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc";
/// Shortest life of a token, as upstream's TokenRequest has it.
pub const MIN_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Longest life of a token; who asks for more gets this, and the answer says so. Signing keys stay trusted as long. Agents
/// and client libraries renew within the hour; a token that was stolen should be worthless by tomorrow.
pub const MAX_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// Issues and verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    issuer: String,
    signer: Option<Signer>,
    keys: KeySet,
    verified: VerifiedCache,
}

/// A token that was issued.
#[derive(Clone)]
pub struct IssuedToken {
    /// The token. Secret: whoever has it is the service account.
    pub token: String,
    /// When it expires.
    pub expires: Timestamp,
    /// Its id, for the audit trail.
    pub id: String,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Issues by `signer` under the name `issuer`, and verifies with `keys`.
    #[must_use]
    pub fn new(issuer: impl Into<String>, signer: Signer, keys: KeySet) -> Self {
        Self(Arc::new(Inner { issuer: issuer.into(), signer: Some(signer), keys, verified: VerifiedCache::default() }))
    }

    /// The issuer's name, which is also the API server's own audience.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Issues a token. Whether account, pod and node exist is for the caller to have checked.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, spec: TokenSpec, now: Timestamp) -> Result<IssuedToken, SignError> {
        let claims = Claims::new(&self.0.issuer, spec, now);
        let signer = self.0.signer.as_ref().ok_or(SignError::NoTokenKey)?;
        let token = signer.sign_token(&claims)?;
        let expires = Timestamp::from_second(claims.exp).unwrap_or(now);
        Ok(IssuedToken { token, expires, id: claims.jti })
    }

    /// Verifies a token for one of `audiences`; an empty list means the API server's own. Whether account, pod and
    /// node still exist is for the caller to check.
    ///
    /// # Errors
    /// When it is malformed, not signed by this cluster, expired, not valid yet, or for another audience.
    pub fn verify(&self, token: &str, audiences: &[&str], now: Timestamp) -> Result<VerifiedToken, TokenError> {
        verify::verify(&self.0, token, audiences, now)
    }

    /// The public keys, as served under `/openid/v1/jwks` (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        discovery::jwks(&self.0.keys)
    }

    /// What is served under `/.well-known/openid-configuration`; the keys are to be found at `base_url`.
    #[must_use]
    pub fn openid_configuration(&self, base_url: &str) -> serde_json::Value {
        discovery::openid_configuration(&self.0.issuer, base_url)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
