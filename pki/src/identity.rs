//! The identity of a component: a key and its certificate chain, renewed in the running process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use martello_kms::SecretBytes;
use rcgen::{CertificateParams, DnType, PublicKeyData};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ec::{EcError, EcKey, Pkcs8};
use crate::profile::Profile;
use crate::request::{PublicKey, RequestError};
use crate::signer::{SignError, Signer};
use crate::trust::to_pem;

/// Longest sleep of a renewal loop, so that a machine that was suspended notices soon.
const MAX_SLEEP: Duration = Duration::from_secs(600);
/// Shortest pause after a renewal failed.
const MIN_RETRY: Duration = Duration::from_secs(5);

/// Why there is no new identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key could not be made or used.
    #[error("the identity's key failed")]
    Key(#[from] EcError),
    /// The request could not be laid out.
    #[error("could not lay out a certificate signing request")]
    Request(#[source] rcgen::Error),
    /// The own key is not accepted, which does not happen.
    #[error("the identity's key is not accepted")]
    OwnKey(#[from] RequestError),
    /// The chain can't be used with the key.
    #[error("the certificate that was issued can't be used: {0}")]
    Unusable(String),
    /// The signer refused.
    #[error("no certificate was issued")]
    Sign(#[from] SignError),
    /// Whoever issues can't be reached, or refused.
    #[error("no certificate was issued: {0}")]
    Remote(String),
}

/// A private key without a certificate yet.
#[derive(Clone)]
pub struct LeafKey {
    pkcs8: Pkcs8,
    public: PublicKey,
}

impl LeafKey {
    /// A new key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_pkcs8(Pkcs8::generate()?)
    }

    pub(crate) fn from_pkcs8(pkcs8: Pkcs8) -> Result<Self, IdentityError> {
        let spki = EcKey::for_certificates(&pkcs8)?.subject_public_key_info();
        Ok(Self { pkcs8, public: PublicKey::from_spki(&spki)? })
    }

    pub(crate) fn pkcs8(&self) -> &Pkcs8 {
        &self.pkcs8
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// A certificate signing request in PEM, which proves that its sender has the key.
    ///
    /// # Errors
    /// When the request can't be laid out or signed.
    pub fn request_pem(&self, common_name: &str) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let request =
            params.serialize_request(&EcKey::for_certificates(&self.pkcs8)?).map_err(IdentityError::Request)?;
        Ok(to_pem("CERTIFICATE REQUEST", request.der()))
    }

    /// The key with the chain that was issued for it.
    ///
    /// # Errors
    /// When the chain is empty, malformed, or for another key.
    pub fn with_chain(self, chain: Vec<CertificateDer<'static>>) -> Result<Leaf, IdentityError> {
        let unusable = |why: &str| IdentityError::Unusable(why.to_owned());
        let leaf = chain.first().ok_or_else(|| unusable("the chain is empty"))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| unusable("it is malformed"))?;
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
        let not_before = time(parsed.validity().not_before).map_err(|_| unusable("it begins at no time"))?;
        let not_after = time(parsed.validity().not_after).map_err(|_| unusable("it ends at no time"))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.expose()));
        let signing = rustls::crypto::ring::sign::any_ecdsa_type(&der)
            .map_err(|error| IdentityError::Unusable(error.to_string()))?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|_| unusable("it is for another key"))?;
        Ok(Leaf { key: self, certified: Arc::new(certified), not_before, not_after })
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey([redacted])")
    }
}

/// A key and its certificate chain.
#[derive(Clone, Debug)]
pub struct Leaf {
    key: LeafKey,
    certified: Arc<CertifiedKey>,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

impl Leaf {
    /// A new key with a certificate from `signer`.
    ///
    /// # Errors
    /// When the profile does not allow it, or signing fails.
    pub fn issue(
        signer: &Signer,
        profile: &Profile,
        lifetime: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let key = LeafKey::generate()?;
        let issued = signer.certify(profile, key.public_key(), lifetime, now)?;
        key.with_chain(issued.chain)
    }

    /// The chain, the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The chain in PEM, the leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(|certificate| to_pem("CERTIFICATE", certificate)).collect()
    }

    /// The private key in PEM, for a kubeconfig. It must not touch a disk of ours.
    #[must_use]
    pub fn key_pem(&self) -> SecretBytes {
        SecretBytes::from(to_pem("PRIVATE KEY", self.key.pkcs8.expose()))
    }

    pub(crate) fn key(&self) -> &LeafKey {
        &self.key
    }

    /// When it is to be renewed.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        renew_at(self.not_before, self.not_after)
    }
}

/// When a certificate of this validity is to be renewed: after two thirds of its life.
#[must_use]
pub fn renew_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.duration_since(not_before);
    crate::rotation::after(not_before, life / 3 * 2)
}

/// How long to wait at `now`: until it is time to renew, or after a failure a tenth of what is left.
pub(crate) fn pause(renew_at: Timestamp, not_after: Timestamp, failed: bool, now: Timestamp) -> Duration {
    let until = |time: Timestamp| Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO);
    let wanted = until(renew_at);
    if failed && wanted.is_zero() {
        return (until(not_after) / 10).clamp(MIN_RETRY, MAX_SLEEP);
    }
    wanted.min(MAX_SLEEP)
}

/// The current key and chain of a component. Clones share it; a renewal reaches every TLS configuration at once.
#[derive(Clone)]
pub struct Identity(Arc<ArcSwap<Leaf>>);

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a component gets its next certificate from.
pub trait LeafSource: Send + Sync {
    /// A new key with a new chain.
    fn renew(&self, now: Timestamp) -> BoxFuture<'_, Result<Leaf, IdentityError>>;
}

/// Gets certificates from a signer.
#[derive(Clone, Debug)]
pub struct FromSigner {
    /// Who signs.
    pub signer: Signer,
    /// What is asked for.
    pub profile: Profile,
    /// For how long; `None` is the profile's own.
    pub lifetime: Option<SignedDuration>,
}

impl LeafSource for FromSigner {
    fn renew(&self, now: Timestamp) -> BoxFuture<'_, Result<Leaf, IdentityError>> {
        Box::pin(std::future::ready(Leaf::issue(&self.signer, &self.profile, self.lifetime, now)))
    }
}

impl Identity {
    /// An identity that begins with this key and chain.
    #[must_use]
    pub fn new(leaf: Leaf) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(leaf)))
    }

    /// The current key and chain.
    #[must_use]
    pub fn load(&self) -> Arc<Leaf> {
        self.0.load_full()
    }

    /// Uses another key and chain from now on; connections that stand keep theirs.
    pub fn replace(&self, leaf: Leaf) {
        self.0.store(Arc::new(leaf));
    }

    /// Renews the identity whenever two thirds of its life are over, until `shutdown`.
    pub async fn run(&self, source: &dyn LeafSource, clock: impl Fn() -> Timestamp, shutdown: CancellationToken) {
        let mut failed = false;
        loop {
            let leaf = self.load();
            let pause = pause(leaf.renew_at(), leaf.not_after, failed, clock());
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            let now = clock();
            if self.load().renew_at() > now {
                continue;
            }
            let renewed = tokio::select! {
                renewed = source.renew(now) => renewed,
                () = shutdown.cancelled() => return,
            };
            failed = renewed.is_err();
            match renewed {
                Ok(leaf) => {
                    tracing::info!(not_after = %leaf.not_after, "renewed a certificate");
                    self.replace(leaf);
                }
                Err(error) => {
                    let not_after = self.load().not_after;
                    tracing::warn!(error = &error as &dyn std::error::Error, %not_after, "could not renew a certificate");
                }
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("not_after", &self.0.load().not_after).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
