//! Is this token ours, does it hold now, and is it for us?

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Validation};
use martello_api::identity::User;

use super::Inner;
use super::cache::{SignedClaims, TokenHash};
use super::claims::{BoundObject, Claims};

/// Longest token that is looked at; one bound to a pod has about 1.2 KiB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 10;

/// Why a token is refused. Nothing of the token is in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is too long.
    #[error("the token has {length} bytes; the limit is {MAX_TOKEN_BYTES}")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// It is not a token of a service account.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// It was signed with another key or algorithm, or changed.
    #[error("the token was not signed by this cluster")]
    NotSigned,
    /// It comes from another issuer.
    #[error("the token comes from another issuer")]
    Issuer,
    /// It does not hold any more.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// It does not hold yet.
    #[error("the token is not valid before {0}; check the clocks")]
    NotYetValid(Timestamp),
    /// It is for someone else.
    #[error("token audiences {} is invalid for the target audiences {}", listed(has), listed(wanted))]
    Audience {
        /// Those that it is for.
        has: Vec<String>,
        /// Those that were asked for.
        wanted: Vec<String>,
    },
}

/// A list as Go prints one.
fn listed(audiences: &[String]) -> String {
    let quoted: Vec<String> = audiences.iter().map(|audience| format!("{audience:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// A token that holds. Whether what it is bound to still exists is not known here.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Arc<Claims>,
    /// Which of the audiences that were asked for it is for.
    pub audiences: Vec<String>,
}

impl VerifiedToken {
    /// The service account as a user, with what upstream adds about pod, node and token.
    #[must_use]
    pub fn user(&self) -> User {
        let bound = &self.claims.kubernetes;
        let mut user = User::service_account(&bound.namespace, &bound.serviceaccount.name);
        user.uid = Some(bound.serviceaccount.uid.clone()).filter(|uid| !uid.is_empty());
        let mut add = |key: &str, value: String| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        add("credential-id", format!("JTI={}", self.claims.jti));
        let mut add_bound = |kind: &str, object: &Option<BoundObject>| {
            if let Some(object) = object {
                add(&format!("{kind}-name"), object.name.clone());
                if !object.uid.is_empty() {
                    add(&format!("{kind}-uid"), object.uid.clone());
                }
            }
        };
        add_bound("pod", &bound.pod);
        add_bound("node", &bound.node);
        user
    }

    /// Whether the use of this token at `now` is to be noted as stale.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.claims.kubernetes.warnafter.is_some_and(|after| now.as_second() > after)
    }
}

pub(super) fn verify(
    tokens: &Inner,
    token: &str,
    audiences: &[&str],
    now: Timestamp,
) -> Result<VerifiedToken, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong { length: token.len() });
    }
    let hash = TokenHash::of(token);
    let signed = match tokens.verified.get(&hash).filter(|signed| tokens.keys.contains(&signed.key_id)) {
        Some(signed) => signed,
        None => {
            let signed = verify_signature(tokens, token)?;
            check_time(&signed.claims, now)?;
            tokens.verified.insert(hash, signed.clone());
            signed
        }
    };
    if let Err(error) = check_time(&signed.claims, now) {
        tokens.verified.remove(&hash);
        return Err(error);
    }
    let own = [tokens.issuer.as_str()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    let matching: Vec<String> = wanted
        .iter()
        .filter(|wanted| signed.claims.aud.iter().any(|aud| aud == *wanted))
        .map(|&aud| aud.to_owned())
        .collect();
    if matching.is_empty() {
        let wanted = wanted.iter().map(|&audience| audience.to_owned()).collect();
        return Err(TokenError::Audience { has: signed.claims.aud.clone(), wanted });
    }
    Ok(VerifiedToken { claims: signed.claims, audiences: matching })
}

fn verify_signature(tokens: &Inner, token: &str) -> Result<SignedClaims, TokenError> {
    let header =
        jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed("it is not a JWT that we issue"))?;
    // The algorithm is ours to choose, not the token's: neither `none` nor an HMAC with our public key as its key.
    if header.alg != Algorithm::ES256 {
        return Err(TokenError::NotSigned);
    }
    let keys = tokens.keys.load();
    let key = header.kid.as_deref().and_then(|id| keys.get(id)).ok_or(TokenError::NotSigned)?;
    let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &signature_only())
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(_) => TokenError::Malformed("its claims are not a service account's"),
            _ => TokenError::NotSigned,
        })?
        .claims;
    if claims.iss != tokens.issuer {
        return Err(TokenError::Issuer);
    }
    if !claims.is_consistent() {
        return Err(TokenError::Malformed("its subject is not its service account"));
    }
    Ok(SignedClaims { claims: Arc::new(claims), key_id: key.id.as_str().into() })
}

/// Times and audiences are checked here, with the time that was passed in, and on every use.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn check_time(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let time = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    if now.as_second() >= claims.exp.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenError::Expired(time(claims.exp)));
    }
    if now.as_second() < claims.nbf.saturating_sub(LEEWAY_SECONDS) {
        return Err(TokenError::NotYetValid(time(claims.nbf)));
    }
    Ok(())
}
