//! The signer: the only holder of the authorities' and token signing keys. Everyone else asks it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use martello_kms::SealedFile;
use parking_lot::Mutex;

use crate::authority::{self, AUTHORITY_SCHEDULE, AuthorityError, AuthorityKey, AuthorityKind, Issued};
use crate::ec::EcError;
use crate::profile::Profile;
use crate::request::PublicKey;
use crate::rotation::{Action, Rotating, Schedule};
use crate::state::{self, Keys, StateError};
use crate::token::Claims;
use crate::token::keys::{KeySet, TOKEN_SCHEDULE, TokenKey};
use crate::trust::{Bundle, Bundles, Trust, TrustError};

/// What the holder of the keys answers. In this process it is the holder itself; a socket to a confined process can stand in for it.
pub trait SignerService: Send + Sync {
    /// Issues a certificate.
    ///
    /// # Errors
    /// When the profile does not allow it, or signing fails.
    fn certify(
        &self,
        profile: &Profile,
        key: &PublicKey,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, SignError>;

    /// Signs a service account's token.
    ///
    /// # Errors
    /// When signing fails.
    fn sign_token(&self, claims: &Claims) -> Result<String, SignError>;

    /// Performs what is due of the rotation of authorities and signing keys, and says what that was.
    ///
    /// # Errors
    /// When a new key could not be made or stored; what was in use stays in use.
    fn rotate(&self, now: Timestamp) -> Result<Vec<Rotated>, SignError>;
}

/// A step of a rotation that was performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The authority; `None` for the signing keys of tokens.
    pub authority: Option<AuthorityKind>,
    /// What was done.
    pub action: Action,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// There is no authority that can sign now.
    #[error("there is no authority for {0} that can sign")]
    NoAuthority(&'static str),
    /// There is no key for tokens.
    #[error("there is no signing key for tokens")]
    NoTokenKey,
    /// A key failed.
    #[error("the signing key of tokens failed")]
    TokenKey(#[from] EcError),
    /// The claims could not be encoded.
    #[error("could not encode a token's claims")]
    Claims(#[source] serde_json::Error),
    /// The keys could not be stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// A new bundle can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A handle to the signer. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<dyn SignerService>);

impl Signer {
    /// A handle to a signer, here or elsewhere.
    #[must_use]
    pub fn new(service: Arc<dyn SignerService>) -> Self {
        Self(service)
    }

    /// Issues what `profile` describes to `key`, for `lifetime` (or the profile's own) or as long as is allowed.
    ///
    /// # Errors
    /// When the profile does not allow it, or signing fails.
    pub fn certify(
        &self,
        profile: &Profile,
        key: &PublicKey,
        lifetime: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<Issued, SignError> {
        self.0.certify(profile, key, lifetime.unwrap_or_else(|| profile.default_lifetime()), now)
    }

    /// Signs a service account's token.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign_token(&self, claims: &Claims) -> Result<String, SignError> {
        self.0.sign_token(claims)
    }

    /// Performs what is due of the rotation of authorities and signing keys.
    ///
    /// # Errors
    /// When a new key could not be made or stored; what was in use stays in use.
    pub fn rotate(&self, now: Timestamp) -> Result<Vec<Rotated>, SignError> {
        self.0.rotate(now)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Holds the keys in this process, and on disk in a sealed file.
pub(crate) struct LocalSigner {
    keys: ArcSwap<Keys>,
    /// One rotation at a time.
    rotating: Mutex<()>,
    file: SealedFile,
    cluster: String,
    trust: Trust,
    token_keys: KeySet,
}

impl LocalSigner {
    /// Reads the keys, or makes them on the first boot, and performs what is due of their rotation.
    pub(crate) fn open(file: SealedFile, cluster: &str, now: Timestamp) -> Result<Self, SignError> {
        let mut keys = state::read(&file)?.unwrap_or_default();
        if !rotate(&mut keys, cluster, now)?.is_empty() {
            state::write(&file, &keys)?;
        }
        Ok(Self {
            trust: Trust::new(bundles(&keys)?),
            token_keys: KeySet::new(public_keys(&keys.tokens)),
            keys: ArcSwap::from_pointee(keys),
            rotating: Mutex::new(()),
            file,
            cluster: cluster.to_owned(),
        })
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust.clone()
    }

    pub(crate) fn token_keys(&self) -> KeySet {
        self.token_keys.clone()
    }
}

impl SignerService for LocalSigner {
    fn certify(
        &self,
        profile: &Profile,
        key: &PublicKey,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, SignError> {
        let kind = profile.authority();
        let keys = self.keys.load();
        let active = keys.authority(kind).active().filter(|active| active.not_after > now);
        let active = active.ok_or(SignError::NoAuthority(kind.name()))?;
        Ok(authority::issue(active, profile, key, lifetime, now)?)
    }

    fn sign_token(&self, claims: &Claims) -> Result<String, SignError> {
        let payload = serde_json::to_vec(claims).map_err(SignError::Claims)?;
        let keys = self.keys.load();
        let active = keys.tokens.active().ok_or(SignError::NoTokenKey)?;
        Ok(active.material.sign(&payload)?)
    }

    fn rotate(&self, now: Timestamp) -> Result<Vec<Rotated>, SignError> {
        let _one_at_a_time = self.rotating.lock();
        let mut keys = Keys::clone(&self.keys.load());
        let done = rotate(&mut keys, &self.cluster, now)?;
        if done.is_empty() {
            return Ok(done);
        }
        // First on disk, then trusted, then used.
        let bundles = bundles(&keys)?;
        state::write(&self.file, &keys)?;
        self.trust.replace(bundles);
        self.token_keys.replace(public_keys(&keys.tokens));
        self.keys.store(Arc::new(keys));
        for Rotated { authority, action } in &done {
            tracing::info!(key = authority.map_or("tokens", AuthorityKind::name), ?action, "rotated a signing key");
        }
        Ok(done)
    }
}

fn rotate(keys: &mut Keys, cluster: &str, now: Timestamp) -> Result<Vec<Rotated>, SignError> {
    let mut done = Vec::new();
    for kind in AuthorityKind::ALL {
        let actions = step(keys.authority_mut(kind), &AUTHORITY_SCHEDULE, now, |id, not_before, not_after| {
            Ok(Arc::new(AuthorityKey::create(kind, cluster, id, not_before, not_after)?))
        })?;
        done.extend(actions.into_iter().map(|action| Rotated { authority: Some(kind), action }));
    }
    let actions = step(&mut keys.tokens, &TOKEN_SCHEDULE, now, |_, _, _| Ok(Arc::new(TokenKey::create()?)))?;
    done.extend(actions.into_iter().map(|action| Rotated { authority: None, action }));
    Ok(done)
}

fn step<K>(
    rotating: &mut Rotating<K>,
    schedule: &Schedule,
    now: Timestamp,
    make: impl Fn(u32, Timestamp, Timestamp) -> Result<K, SignError>,
) -> Result<Vec<Action>, SignError> {
    let actions = rotating.plan(schedule, now);
    for action in &actions {
        rotating.apply(*action, schedule, now, &make)?;
    }
    Ok(actions)
}

fn bundles(keys: &Keys) -> Result<Bundles, TrustError> {
    let bundle = |kind| {
        // The newest first: it is the one that clients with an old bundle will miss last.
        let mut generations: Vec<_> = keys.authority(kind).iter().collect();
        generations.sort_by_key(|generation| std::cmp::Reverse(generation.id));
        Bundle::new(kind, generations.iter().map(|generation| generation.material.certificate.clone()).collect())
    };
    Ok(Bundles {
        servers: bundle(AuthorityKind::Servers)?,
        clients: bundle(AuthorityKind::Clients)?,
        nodes: bundle(AuthorityKind::Nodes)?,
    })
}

fn public_keys(tokens: &Rotating<Arc<TokenKey>>) -> Vec<crate::token::keys::PublicTokenKey> {
    tokens.iter().map(|generation| generation.material.public()).collect()
}
