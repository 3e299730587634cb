//! Tokens of identity providers (OpenID Connect): signature, issuer, audience and time. What the claims mean is for the caller.

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use crate::token::MAX_TOKEN_BYTES;

/// Algorithms of signatures that are verified: none that both sides could make with the same key.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 10;
/// Most keys of a provider.
const MAX_KEYS: usize = 100;

/// Claims of a token.
pub type Claims = Map<String, Value>;

/// Why a token is refused. Nothing of the token is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// It is no JWT, or too long.
    #[error("oidc: malformed jwt")]
    Malformed,
    /// It was signed with another key: the provider may have new ones.
    #[error("oidc: verify token: no key of the provider signed it")]
    UnknownKey,
    /// It was changed, or signed otherwise.
    #[error("oidc: verify token: failed to verify signature")]
    Signature,
    /// It comes from another issuer.
    #[error("oidc: id token issued by a different provider")]
    Issuer,
    /// It is for others.
    #[error("oidc: verify token: expected audience in {0:?}")]
    Audience(Vec<String>),
    /// It does not hold any more, or not yet.
    #[error("oidc: verify token: token is expired or not valid yet")]
    Time,
    /// The keys can't be read.
    #[error("the keys of the provider can't be read: {0}")]
    Keys(String),
}

/// The keys of a provider, each with its name if it has one.
#[derive(Clone, Default)]
pub struct Keys(Vec<(Option<String>, DecodingKey)>);

impl Keys {
    /// Reads the provider's document (RFC 7517). Keys of kinds that are not verified here are left out.
    ///
    /// # Errors
    /// When it is no such document, or has too many keys.
    pub fn read(document: &[u8]) -> Result<Self, OidcError> {
        let set: JwkSet = serde_json::from_slice(document).map_err(|error| OidcError::Keys(error.to_string()))?;
        if set.keys.len() > MAX_KEYS {
            return Err(OidcError::Keys(format!("there are {} keys; the limit is {MAX_KEYS}", set.keys.len())));
        }
        let usable = |jwk: &Jwk| {
            let key = DecodingKey::from_jwk(jwk).ok()?;
            Some((jwk.common.key_id.clone(), key))
        };
        Ok(Self(set.keys.iter().filter_map(usable).collect()))
    }

    /// Those that may have signed a token that names `kid`, or no key at all.
    fn of<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a DecodingKey> {
        let kid = kid.filter(|kid| !kid.is_empty());
        self.0.iter().filter(move |(name, _)| kid.is_none() || name.as_deref() == kid).map(|(_, key)| key)
    }
}

/// The issuer that a token claims to come from; unverified, to find out whom to ask.
#[must_use]
pub fn claimed_issuer(token: &str) -> Option<String> {
    use base64::Engine as _;
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

/// The claims of a token that `issuer` signed for one of `audiences` and that holds `now`.
///
/// # Errors
/// When it does not.
pub fn verify(
    token: &str,
    keys: &Keys,
    issuer: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<Claims, OidcError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(OidcError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| OidcError::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(OidcError::Signature);
    }
    let mut validation = Validation::new(header.alg);
    // Times and audiences are checked below, with the time that was passed in.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let kid = header.kid.as_deref();
    let signed = keys.of(kid).find_map(|key| jsonwebtoken::decode::<Claims>(token, key, &validation).ok());
    let Some(claims) = signed.map(|signed| signed.claims) else {
        // Of a token that names no key, the provider may have the right one by now.
        let known = kid.is_some() && keys.of(kid).next().is_some();
        return Err(if known { OidcError::Signature } else { OidcError::UnknownKey });
    };
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(OidcError::Issuer);
    }
    let named = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|wanted| named.contains(&wanted.as_str())) {
        return Err(OidcError::Audience(audiences.to_vec()));
    }
    let seconds = |key: &str| claims.get(key).and_then(Value::as_f64);
    let now = now.as_second();
    let ended = seconds("exp").is_none_or(|end| (now - LEEWAY_SECONDS) as f64 >= end);
    let begins = seconds("nbf").is_some_and(|begin| ((now + LEEWAY_SECONDS) as f64) < begin);
    if ended || begins { Err(OidcError::Time) } else { Ok(claims) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_issuer() {
        // {"iss":"https://idp.example.com"}
        assert_eq!(
            claimed_issuer("e30.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbSJ9.x").as_deref(),
            Some("https://idp.example.com")
        );
        assert_eq!(claimed_issuer("a.b"), None);
        assert_eq!(claimed_issuer("garbage"), None);
    }

    /// A token of a key of its own, and that key as a provider tells it.
    fn signed(claims: &Value) -> (String, Value) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let text = format!("{}.{}", encode(br#"{"alg":"ES256","kid":"k"}"#), encode(claims.to_string().as_bytes()));
        let signature = pair.sign(&random, text.as_bytes()).unwrap();
        let point = pair.public_key().as_ref();
        let key = serde_json::json!({"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig",
            "x": encode(&point[1..33]), "y": encode(&point[33..])});
        (format!("{text}.{}", encode(signature.as_ref())), key)
    }

    #[test]
    fn a_token_holds_for_its_audience_in_its_time() {
        let judged = |claims: Value, second: i64| {
            let (token, key) = signed(&claims);
            let keys = Keys::read(serde_json::json!({"keys": [key]}).to_string().as_bytes()).unwrap();
            verify(&token, &keys, "i", &["a".to_owned(), "b".to_owned()], Timestamp::from_second(second).unwrap())
                .map(drop)
        };
        let claims = serde_json::json!({"iss": "i", "aud": ["x", "b"], "nbf": 1000, "exp": 2000});
        let with = |key: &str, value: Value| {
            let mut claims = claims.clone();
            claims[key] = value;
            claims
        };
        assert_eq!(judged(claims.clone(), 1500), Ok(()));
        // Clocks may differ by a little.
        for (second, holds) in [(989, false), (990, true), (2009, true), (2010, false)] {
            assert_eq!(judged(claims.clone(), second).is_ok(), holds, "{second}");
        }
        for (key, value, why) in [
            ("exp", Value::Null, OidcError::Time),
            ("exp", "2000".into(), OidcError::Time),
            ("aud", "c".into(), OidcError::Audience(vec!["a".to_owned(), "b".to_owned()])),
            ("iss", "j".into(), OidcError::Issuer),
        ] {
            assert_eq!(judged(with(key, value), 1500), Err(why), "{key}");
        }
        assert_eq!(judged(with("aud", "a".into()), 1500), Ok(()));
        let (token, _) = signed(&claims);
        let keys = Keys::read(serde_json::json!({"keys": [signed(&claims).1]}).to_string().as_bytes()).unwrap();
        let other = verify(&token, &keys, "i", &["b".to_owned()], Timestamp::from_second(1500).unwrap());
        assert_eq!(other.map(drop), Err(OidcError::Signature), "another key of the same name");
    }

    #[test]
    fn a_provider_has_so_many_keys_and_no_more() {
        let (_, key) = signed(&Value::Null);
        let read =
            |count: usize| Keys::read(serde_json::json!({"keys": vec![key.clone(); count]}).to_string().as_bytes());
        assert!(read(MAX_KEYS).is_ok() && matches!(read(MAX_KEYS + 1), Err(OidcError::Keys(_))));
    }

    #[test]
    fn unsigned_tokens_and_shared_keys_are_refused() {
        let keys = Keys::default();
        let now = Timestamp::UNIX_EPOCH;
        // {"alg":"HS256"}, {"alg":"none"}
        for header in ["eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJub25lIn0"] {
            assert!(verify(&format!("{header}.e30.x"), &keys, "i", &[], now).is_err());
        }
        assert!(Keys::read(b"{}").is_err());
        assert!(Keys::read(br#"{"keys":[]}"#).is_ok());
    }
}
