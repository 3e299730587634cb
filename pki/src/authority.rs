//! An authority: a self-signed certificate, its key, and the certificates it signs. Only [`crate::signer`] holds one.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::der;
use crate::ec::{EcError, EcKey, Pkcs8, PublicPoint};
use crate::profile::{LONGEST_LEAF, Profile, ProfileError, ServerName};
use crate::request::PublicKey;
use crate::rotation::{BACKDATE, Generation, Schedule, after, before};

/// Bytes of a serial number: random, so that nobody can foresee a certificate's content (CA/B Forum BR 7.1 asks for 8).
const SERIAL_BYTES: usize = 16;

/// When authorities rotate: each signs for a year, is known a month before, and is valid long enough that a cluster
/// which was off for a year finds everything still in order.
pub const AUTHORITY_SCHEDULE: Schedule = Schedule {
    lifetime: SignedDuration::from_hours(5 * 365 * 24),
    active_for: SignedDuration::from_hours(365 * 24),
    ahead: SignedDuration::from_hours(30 * 24),
    longest_issue: LONGEST_LEAF,
};

/// Which authority. Each is trusted for its own kind of peer only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityKind {
    /// Signs the API servers' certificates.
    Servers,
    /// Signs certificates of users and components.
    Clients,
    /// Signs certificates of nodes, as clients and as servers.
    Nodes,
}

impl AuthorityKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Servers, Self::Clients, Self::Nodes];

    /// The name in file names and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Clients => "clients",
            Self::Nodes => "nodes",
        }
    }
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The profile does not allow it.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A key failed.
    #[error("the authority's key failed")]
    Key(#[from] EcError),
    /// The certificate could not be laid out.
    #[error("could not lay out a certificate")]
    Layout(#[source] rcgen::Error),
    /// The certificate came out wrong.
    #[error("could not lay out a certificate: the result does not parse")]
    Unreadable,
    /// No random bytes.
    #[error("could not make a serial number: the operating system gave no random bytes")]
    Random,
}

/// What is kept of one generation of an authority.
pub(crate) struct AuthorityKey {
    pub(crate) pkcs8: Pkcs8,
    pub(crate) certificate: CertificateDer<'static>,
    key: EcKey,
    issuer: Issuer<'static, PublicPoint>,
}

/// A certificate and how long it holds.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf; for an API server also the authority that signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

impl Issued {
    /// The chain in PEM, the leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| crate::trust::to_pem("CERTIFICATE", certificate)).collect()
    }
}

impl AuthorityKey {
    /// A new authority of `kind`, valid in this time.
    pub(crate) fn create(
        kind: AuthorityKind,
        cluster: &str,
        id: u32,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let pkcs8 = Pkcs8::generate()?;
        let key = EcKey::for_certificates(&pkcs8)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, format!("martello {}", short(cluster)));
        params.distinguished_name.push(DnType::CommonName, format!("martello-{}-ca-{id}", kind.name()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        set_validity(&mut params, not_before, not_after);
        let unsigned = params.self_signed(&PublicPoint(key.public().to_vec())).map_err(AuthorityError::Layout)?;
        let tbs = der::tbs(unsigned.der()).ok_or(AuthorityError::Unreadable)?;
        let certificate = der::certificate(&tbs, &key.sign(&tbs)?);
        Self::load(pkcs8, CertificateDer::from(certificate))
    }

    /// An authority that was stored.
    pub(crate) fn load(pkcs8: Pkcs8, certificate: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        let key = EcKey::for_certificates(&pkcs8)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, PublicPoint(key.public().to_vec()))
            .map_err(AuthorityError::Layout)?;
        Ok(Self { pkcs8, certificate, key, issuer })
    }
}

/// Issues what `profile` describes to `key`, for `lifetime` or as long as profile and authority allow.
pub(crate) fn issue(
    authority: &Generation<Arc<AuthorityKey>>,
    profile: &Profile,
    key: &PublicKey,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Issued, AuthorityError> {
    profile.check()?;
    let not_before = before(now, BACKDATE).max(authority.not_before);
    let not_after = after(now, lifetime.min(profile.max_lifetime())).min(authority.not_after);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial()?);
    set_validity(&mut params, not_before, not_after);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if profile.is_for_server() {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    }];
    params.subject_alt_names = profile.server_names().into_iter().map(alternative_name).collect::<Result<_, _>>()?;

    let material = &authority.material;
    let unsigned = params.signed_by(key.info(), &material.issuer).map_err(AuthorityError::Layout)?;
    let subject = der::distinguished_name(&profile.common_name(), profile.organizations());
    let tbs = der::with_subject(unsigned.der(), &subject).ok_or(AuthorityError::Unreadable)?;
    let leaf = CertificateDer::from(der::certificate(&tbs, &material.key.sign(&tbs)?));
    let mut chain = vec![leaf];
    if matches!(profile, Profile::Server { .. }) {
        // So that a machine that joins can compare the authority with the fingerprint it was given.
        chain.push(material.certificate.clone());
    }
    Ok(Issued { chain, not_before, not_after })
}

fn alternative_name(name: ServerName) -> Result<SanType, AuthorityError> {
    Ok(match name {
        ServerName::Dns(name) => SanType::DnsName(name.try_into().map_err(AuthorityError::Layout)?),
        ServerName::Ip(address) => SanType::IpAddress(address),
    })
}

fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    // A positive number of full length.
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    params.not_before = epoch + since_epoch(not_before);
    params.not_after = epoch + since_epoch(not_after);
}

fn short(cluster: &str) -> &str {
    cluster.get(..8).unwrap_or(cluster)
}
