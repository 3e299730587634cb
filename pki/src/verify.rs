//! From a client's certificate chain to a user.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use martello_api::identity::{GROUP_NODES, NODE_USER_PREFIX, User};
use ring::digest::{SHA256, digest};
use rustls::CertificateError;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::profile::{Profile, ProfileError};
use crate::request::{common_name, organizations};
use crate::trust::{Bundle, Trust};

/// Most certificates in a chain that is looked at. Ours have two.
pub const MAX_CHAIN: usize = 5;

/// Why a client's certificate makes no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no certificate, or too many.
    #[error("a chain of {length} certificates; 1 to {MAX_CHAIN} are looked at")]
    ChainLength {
        /// How many there are.
        length: usize,
    },
    /// It was not issued by an authority for clients or nodes of this cluster.
    #[error("the client certificate was not issued by this cluster for clients or nodes")]
    UnknownIssuer,
    /// It does not hold any more.
    #[error("the client certificate has expired")]
    Expired,
    /// It does not hold yet.
    #[error("the client certificate is not valid yet; check the clocks")]
    NotYetValid,
    /// It is not for clients.
    #[error("the certificate is not for clients: it lacks the extended key usage clientAuth")]
    Purpose,
    /// It can't be read, or a signature is wrong.
    #[error("the client certificate is malformed or wrongly signed")]
    Malformed,
    /// The subject is not that of a user.
    #[error("the client certificate names no user: its subject needs one common name and organizations in text")]
    Subject,
    /// The authority for clients signed an identity that is not a user's.
    #[error("the client certificate's identity is not one that the authority for clients may give")]
    NotAUser(#[source] ProfileError),
    /// The authority for nodes signed an identity that is not a node's.
    #[error("the client certificate comes from the authority for nodes, and {name:?} is not a node")]
    NotANode {
        /// The common name.
        name: String,
    },
}

/// The user that the chain of a client, the leaf first, belongs to at `now`. That the client holds the key was proven
/// by the handshake. To be called once per connection, and again when one lives longer than its certificate.
///
/// # Errors
/// When the chain is not from this cluster, does not hold now, is not for clients, or names someone its authority may
/// not name.
pub fn authenticate(trust: &Trust, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<User, VerifyError> {
    let (leaf, others) = match chain.split_first() {
        Some(parts) if chain.len() <= MAX_CHAIN => parts,
        _ => return Err(VerifyError::ChainLength { length: chain.len() }),
    };
    let bundles = trust.load();
    let mut user = match verify(&bundles.clients, leaf, others, now) {
        Ok(()) => read_user(leaf)?,
        Err(VerifyError::UnknownIssuer) => {
            verify(&bundles.nodes, leaf, others, now)?;
            read_node(leaf)?
        }
        Err(error) => return Err(error),
    };
    let id = digest(&SHA256, leaf);
    let hex: String = id.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={hex}")]);
    Ok(user)
}

/// Until when the leaf of a chain holds, so that a connection does not outlive it.
#[must_use]
pub fn expires(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(chain.first()?).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

fn verify(
    bundle: &Bundle,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let verifier: &Arc<dyn ClientCertVerifier> = bundle.clients().ok_or(VerifyError::UnknownIssuer)?;
    let seconds = u64::try_from(now.as_second()).map_err(|_| VerifyError::NotYetValid)?;
    verifier
        .verify_client_cert(leaf, others, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        .map(|_| ())
        .map_err(|error| reason(&error))
}

fn reason(error: &rustls::Error) -> VerifyError {
    let rustls::Error::InvalidCertificate(error) = error else { return VerifyError::Malformed };
    match error {
        CertificateError::UnknownIssuer => VerifyError::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => VerifyError::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => VerifyError::NotYetValid,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => VerifyError::Purpose,
        _ => VerifyError::Malformed,
    }
}

fn read_user(leaf: &CertificateDer<'_>) -> Result<User, VerifyError> {
    let (name, groups) = read_subject(leaf)?;
    // The authority would not have signed it; but what it signed before a rule was added is judged by the rule, too.
    let profile = Profile::User { name, groups };
    profile.check().map_err(VerifyError::NotAUser)?;
    match profile {
        Profile::User { name, groups } => Ok(User::authenticated(name, groups)),
        _ => Err(VerifyError::Subject),
    }
}

fn read_node(leaf: &CertificateDer<'_>) -> Result<User, VerifyError> {
    let (name, groups) = read_subject(leaf)?;
    let node = name.strip_prefix(NODE_USER_PREFIX).filter(|node| crate::profile::check_node(node).is_ok());
    match node {
        Some(node) if groups == [GROUP_NODES] => Ok(User::node(node)),
        _ => Err(VerifyError::NotANode { name }),
    }
}

/// Common name and organizations of a leaf that is for clients, in so many words.
fn read_subject(leaf: &CertificateDer<'_>) -> Result<(String, Vec<String>), VerifyError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| VerifyError::Malformed)?;
    // A certificate without any extended key usage would be for everything.
    let for_clients = matches!(parsed.extended_key_usage(), Ok(Some(usage)) if usage.value.client_auth);
    if !for_clients {
        return Err(VerifyError::Purpose);
    }
    let subject = parsed.subject();
    common_name(subject).zip(organizations(subject)).ok_or(VerifyError::Subject)
}

#[cfg(test)]
mod tests;
