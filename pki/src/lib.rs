//! Certificate authorities, issuance profiles, identities that reload themselves, and tokens.
//!
//! [`Pki`] is what a server holds: a [`Signer`] (the only holder of private keys of authorities), the [`Trust`] in
//! their generations, [`Tokens`] of service accounts and [`JoinTokens`] of machines that want to become nodes.
//! A node holds an [`enroll::NodeIdentity`]. [`verify::authenticate`] turns a client's chain into a user.

pub mod authority;
pub mod blocks;
pub mod enroll;
mod foreign;
pub mod identity;
pub mod join;
pub mod oidc;
pub mod pod_certificate;
pub mod profile;
pub mod request;
pub mod rotation;
pub mod signer;
pub mod tls;
pub mod token;
pub mod trust;
pub mod verify;

mod der;
mod ec;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use martello_kms::Kms;
use tokio_util::sync::CancellationToken;

pub use authority::AuthorityKind;
pub use foreign::{ForeignError, ForeignTrust, foreign_config, foreign_config_as};
pub use identity::{FromSigner, Identity, Leaf};
pub use join::{JoinToken, JoinTokens};
pub use profile::{Profile, ServerName};
pub use signer::{Rotated, SignError, Signer};
pub use tls::{ClientCertificates, client_config, joining_config, server_config};
pub use token::{TokenSpec, Tokens};
pub use trust::{Bundle, Fingerprint, Trust};
pub use verify::authenticate;

use identity::IdentityError;
use join::JoinError;
use signer::LocalSigner;

/// The directory of the authorities, in the data directory.
const PKI_DIR: &str = "pki";
/// How often rotation is looked after; its steps are days apart.
const ROTATION_INTERVAL: Duration = Duration::from_secs(600);
/// Names by which a server is called from inside and from its own machine.
const OWN_NAMES: [&str; 7] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "::1",
];

/// Why there are no authorities.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The authorities could not be read or made.
    #[error("could not open the authorities of the cluster")]
    Signer(#[from] SignError),
    /// The join tokens could not be read.
    #[error("could not open the join tokens of the cluster")]
    Join(#[from] JoinError),
}

/// The identities of a cluster, as its server holds them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pki {
    signer: Signer,
    trust: Trust,
    tokens: Tokens,
    join: JoinTokens,
}

impl Pki {
    /// Opens the authorities in `data_dir`, or makes them on the first boot.
    ///
    /// # Errors
    /// When they can't be read, made or stored.
    pub fn load_or_create(data_dir: &Path, kms: &Kms, now: Timestamp) -> Result<Self, PkiError> {
        Self::load_or_create_with(data_dir, kms, token::DEFAULT_ISSUER, now)
    }

    /// As [`Self::load_or_create`], with another issuer of service account tokens.
    ///
    /// # Errors
    /// When they can't be read, made or stored.
    pub fn load_or_create_with(data_dir: &Path, kms: &Kms, issuer: &str, now: Timestamp) -> Result<Self, PkiError> {
        let directory = data_dir.join(PKI_DIR);
        let file = kms.sealed_file(directory.join("authorities"), "pki authorities");
        let local = LocalSigner::open(file, &kms.cluster(), now)?;
        let (trust, keys) = (local.trust(), local.token_keys());
        let signer = Signer::new(Arc::new(local));
        let join = JoinTokens::open(kms.sealed_file(directory.join("join-tokens"), "pki join tokens"), kms.clone())?;
        Ok(Self { tokens: Tokens::new(issuer, signer.clone(), keys), signer, trust, join })
    }

    /// The signer.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The trusted authorities.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Service account tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Join tokens.
    #[must_use]
    pub fn join_tokens(&self) -> &JoinTokens {
        &self.join
    }

    /// The authorities for servers in PEM: for kubeconfigs and the ConfigMap `kube-root-ca.crt`.
    #[must_use]
    pub fn server_ca_pem(&self) -> String {
        self.trust.load().servers.pem().to_owned()
    }

    /// The identity of a server that is called by `names` besides its usual ones, and where its renewals come from.
    ///
    /// # Errors
    /// When a name is none, or signing fails.
    pub fn server_identity(
        &self,
        names: impl IntoIterator<Item = ServerName>,
        now: Timestamp,
    ) -> Result<(Identity, FromSigner), IdentityError> {
        let mut all: Vec<ServerName> = OWN_NAMES.iter().map(|&name| name.into()).collect();
        for name in names {
            if !all.contains(&name) && !matches!(&name, ServerName::Ip(address) if address.is_unspecified()) {
                all.push(name);
            }
        }
        self.identity(Profile::Server { names: all }, now)
    }

    /// An identity of this process with `profile`, and where its renewals come from.
    ///
    /// # Errors
    /// When the profile does not allow it, or signing fails.
    pub fn identity(&self, profile: Profile, now: Timestamp) -> Result<(Identity, FromSigner), IdentityError> {
        let source = FromSigner { signer: self.signer.clone(), profile, lifetime: None };
        let leaf = Leaf::issue(&source.signer, &source.profile, None, now)?;
        Ok((Identity::new(leaf), source))
    }

    /// A certificate and key for a user, for a kubeconfig.
    ///
    /// # Errors
    /// When the name or a group belongs to another kind of identity, or signing fails.
    pub fn user_certificate(
        &self,
        name: &str,
        groups: &[&str],
        lifetime: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Leaf::issue(&self.signer, &Profile::User { name: name.to_owned(), groups }, lifetime, now)
    }

    /// Performs what is due of the rotation of authorities and signing keys.
    ///
    /// # Errors
    /// When a new key could not be made or stored; what was in use stays in use.
    pub fn rotate(&self, now: Timestamp) -> Result<Vec<Rotated>, SignError> {
        self.signer.rotate(now)
    }

    /// Looks after rotation until `shutdown`.
    pub async fn run(&self, clock: impl Fn() -> Timestamp, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(ROTATION_INTERVAL)).await.is_some() {
            if let Err(error) = self.rotate(clock()) {
                tracing::error!(error = &error as &dyn std::error::Error, "could not rotate the cluster's keys");
            }
        }
    }
}

#[cfg(test)]
mod tests;
