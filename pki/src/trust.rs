//! Which authorities are trusted, for which kind of peer. Replaced in the running process when they rotate.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::AuthorityKind;
use crate::tls::provider;

/// Most certificates in a bundle that is read: generations of one authority, of which three overlap at most.
const MAX_BUNDLE_CERTIFICATES: usize = 32;
/// Characters of base64 per line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// Why a bundle can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The text holds no certificate, or something else.
    #[error("the bundle of authorities for {kind} is malformed: {why}")]
    Malformed {
        /// Which bundle.
        kind: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A certificate can't be trusted.
    #[error("an authority for {kind} can't be used")]
    Unusable {
        /// Which bundle.
        kind: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The verifier could not be built.
    #[error("no verifier for {kind} could be made: {why}")]
    Verifier {
        /// Which bundle.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// A fingerprint is not one.
    #[error("{0:?} is no fingerprint of an authority; it has the form sha256:<64 hex digits>")]
    Fingerprint(String),
}

/// The trusted generations of one authority, ready to verify with.
#[derive(Clone)]
pub struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
    pem: String,
    verifiers: Option<Verifiers>,
}

#[derive(Clone)]
struct Verifiers {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
}

impl Bundle {
    /// A bundle of these authorities; none of them means that nobody is trusted.
    ///
    /// # Errors
    /// When a certificate can't be used.
    pub fn new(kind: AuthorityKind, certificates: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let kind = kind.name();
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|source| TrustError::Unusable { kind, source })?;
        }
        let pem = certificates.iter().map(|certificate| to_pem("CERTIFICATE", certificate)).collect();
        let verifiers = if certificates.is_empty() { None } else { Some(Verifiers::new(kind, roots)?) };
        Ok(Self { certificates, pem, verifiers })
    }

    /// A bundle in PEM.
    ///
    /// # Errors
    /// When it holds no certificate, too many, or one that can't be used.
    pub fn from_pem(kind: AuthorityKind, pem: &str) -> Result<Self, TrustError> {
        let malformed = |why| TrustError::Malformed { kind: kind.name(), why };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(MAX_BUNDLE_CERTIFICATES + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("it is not PEM"))?;
        match certificates.len() {
            0 => Err(malformed("it holds no certificate")),
            1..=MAX_BUNDLE_CERTIFICATES => Self::new(kind, certificates),
            _ => Err(malformed("it holds too many certificates")),
        }
    }

    /// The authorities in PEM, for kubeconfigs and the ConfigMap `kube-root-ca.crt`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authorities' certificates.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The fingerprints of the authorities.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.certificates.iter().filter_map(|certificate| Fingerprint::of(certificate)).collect()
    }

    pub(crate) fn clients(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.verifiers.as_ref().map(|verifiers| &verifiers.clients)
    }

    pub(crate) fn servers(&self) -> Option<&Arc<dyn ServerCertVerifier>> {
        self.verifiers.as_ref().map(|verifiers| &verifiers.servers)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("fingerprints", &self.fingerprints()).finish()
    }
}

impl Verifiers {
    fn new(kind: &'static str, roots: RootCertStore) -> Result<Self, TrustError> {
        let failed =
            |error: rustls::server::VerifierBuilderError| TrustError::Verifier { kind, why: error.to_string() };
        let roots = Arc::new(roots);
        Ok(Self {
            clients: WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
                .build()
                .map_err(failed)?,
            servers: WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(failed)?,
        })
    }
}

/// The bundles of all authorities.
#[derive(Clone, Debug)]
pub struct Bundles {
    /// Trusted to sign API servers.
    pub servers: Bundle,
    /// Trusted to sign users and components.
    pub clients: Bundle,
    /// Trusted to sign nodes.
    pub nodes: Bundle,
}

impl Bundles {
    /// The bundle of one kind.
    #[must_use]
    pub fn of(&self, kind: AuthorityKind) -> &Bundle {
        match kind {
            AuthorityKind::Servers => &self.servers,
            AuthorityKind::Clients => &self.clients,
            AuthorityKind::Nodes => &self.nodes,
        }
    }

    /// Bundles in PEM, as a node gets them when it joins.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn from_pem(servers: &str, clients: &str, nodes: &str) -> Result<Self, TrustError> {
        Ok(Self {
            servers: Bundle::from_pem(AuthorityKind::Servers, servers)?,
            clients: Bundle::from_pem(AuthorityKind::Clients, clients)?,
            nodes: Bundle::from_pem(AuthorityKind::Nodes, nodes)?,
        })
    }
}

/// The bundles that are trusted now. Clones share them; a replacement reaches every TLS configuration at once.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ArcSwap<Bundles>>);

impl Trust {
    /// Trusts these bundles.
    #[must_use]
    pub fn new(bundles: Bundles) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(bundles)))
    }

    /// What is trusted now.
    #[must_use]
    pub fn load(&self) -> Arc<Bundles> {
        self.0.load_full()
    }

    /// Trusts other bundles from now on.
    pub fn replace(&self, bundles: Bundles) {
        self.0.store(Arc::new(bundles));
    }
}

/// SHA-256 of an authority's public key, as `kubeadm` writes it: `sha256:<hex>` of the `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate's key; `None` if it is not a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        digest(&SHA256, parsed.tbs_certificate.subject_pki.raw).as_ref().try_into().ok().map(Self)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let malformed = || TrustError::Fingerprint(text.chars().take(100).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(malformed)?;
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(malformed());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(index * 2..index * 2 + 2).ok_or_else(malformed)?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `der` as PEM (RFC 7468).
pub(crate) fn to_pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(PEM_LINE) {
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_fingerprint_is_read_as_it_is_written(bytes: [u8; 32]) {
            let fingerprint = Fingerprint(bytes);
            prop_assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", digits in "sha256:\\PC{0,64}") {
            drop(text.parse::<Fingerprint>());
            drop(digits.parse::<Fingerprint>());
            prop_assert!(Bundle::from_pem(AuthorityKind::Nodes, &text).is_err());
        }

        #[test]
        fn pem_is_read_back(der in proptest::collection::vec(any::<u8>(), 1..400)) {
            let read = CertificateDer::from_pem_slice(to_pem("CERTIFICATE", &der).as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der.as_slice());
        }
    }
}
