//! The keys that sign and verify tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use jsonwebtoken::DecodingKey;
use ring::digest::{SHA256, digest};

use super::MAX_TOKEN_LIFETIME;
use crate::ec::{EcError, EcKey, Pkcs8};
use crate::rotation::Schedule;

/// When signing keys rotate: each signs for three months and is published a week before.
pub(crate) const TOKEN_SCHEDULE: Schedule = Schedule {
    lifetime: SignedDuration::from_hours(365 * 24),
    active_for: SignedDuration::from_hours(90 * 24),
    ahead: SignedDuration::from_hours(7 * 24),
    longest_issue: MAX_TOKEN_LIFETIME,
};

/// A key that signs tokens. Only the signer holds one.
pub(crate) struct TokenKey {
    pkcs8: Pkcs8,
    key: EcKey,
    public: PublicTokenKey,
    /// The first part of every token, ready made.
    header: String,
}

impl TokenKey {
    pub(crate) fn create() -> Result<Self, EcError> {
        Self::load(Pkcs8::generate()?)
    }

    pub(crate) fn load(pkcs8: Pkcs8) -> Result<Self, EcError> {
        let key = EcKey::for_tokens(&pkcs8)?;
        let public = PublicTokenKey::new(key.public());
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{}"}}"#, public.id));
        Ok(Self { pkcs8, key, public, header })
    }

    pub(crate) fn public(&self) -> PublicTokenKey {
        self.public.clone()
    }

    pub(crate) fn pkcs8(&self) -> &Pkcs8 {
        &self.pkcs8
    }

    /// The token with this payload (JWS compact serialization, RFC 7515 §3.1).
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<String, EcError> {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

/// The public half of a signing key.
#[derive(Clone)]
pub(crate) struct PublicTokenKey {
    /// Its id in tokens (`kid`): the hash of the key, so that it can't be given to another one.
    pub(crate) id: String,
    /// The coordinates of the point, in base64url.
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) decoding: DecodingKey,
}

impl PublicTokenKey {
    /// The key with this uncompressed point: `04`, x, y.
    fn new(point: &[u8]) -> Self {
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        Self {
            id: URL_SAFE_NO_PAD.encode(digest(&SHA256, point)),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
            decoding: DecodingKey::from_ec_der(point),
        }
    }
}

/// The keys whose tokens are accepted now. Clones share them; a replacement reaches all at once.
#[derive(Clone)]
pub struct KeySet(Arc<ArcSwap<BTreeMap<String, PublicTokenKey>>>);

impl KeySet {
    pub(crate) fn new(keys: Vec<PublicTokenKey>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(by_id(keys))))
    }

    pub(crate) fn replace(&self, keys: Vec<PublicTokenKey>) {
        self.0.store(Arc::new(by_id(keys)));
    }

    pub(crate) fn load(&self) -> Arc<BTreeMap<String, PublicTokenKey>> {
        self.0.load_full()
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.load().contains_key(id)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.load().keys()).finish()
    }
}

fn by_id(keys: Vec<PublicTokenKey>) -> BTreeMap<String, PublicTokenKey> {
    keys.into_iter().map(|key| (key.id.clone(), key)).collect()
}
