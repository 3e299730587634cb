//! Public keys that ask for a certificate: certificate signing requests (PKCS#10, RFC 2986) and bare keys.

use std::net::IpAddr;

use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::X509Name;

use crate::blocks::blocks;

/// Longest request that is read; one with an RSA-4096 key and many names has 4 KiB.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Smallest RSA key: 112 bits of strength (NIST SP 800-57 part 1, table 2).
const MIN_RSA_BITS: usize = 2048;
/// Largest RSA key, so that verifying stays cheap.
const MAX_RSA_BITS: usize = 8192;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is too long.
    #[error("the certificate signing request has {length} bytes; the limit is {MAX_REQUEST_BYTES}")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// It can't be read.
    #[error("the certificate signing request is malformed: {0}")]
    Malformed(&'static str),
    /// It is not PEM of the right type; in upstream's words.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NoPem,
    /// Something else, in upstream's words.
    #[error("{0}")]
    Other(String),
    /// Whoever sent it does not hold the private key.
    #[error("the signature of the certificate signing request is wrong")]
    Signature,
    /// The key is of a kind that is not certified.
    #[error("the public key is not accepted: {0}")]
    Key(&'static str),
}

/// A public key that may be certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(SubjectPublicKeyInfo);

impl PublicKey {
    /// The key in a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// When it is malformed, or of a kind or size that is not certified.
    pub fn from_spki(der: &[u8]) -> Result<Self, RequestError> {
        let (rest, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der)
            .map_err(|_| RequestError::Malformed("its key is not a public key"))?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed("bytes follow its key"));
        }
        match parsed.parsed() {
            Ok(ParsedKey::RSA(rsa)) if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&rsa.key_size()) => {
                return Err(RequestError::Key("an RSA key has 2048 to 8192 bits"));
            }
            Ok(ParsedKey::RSA(_) | ParsedKey::EC(_)) => {}
            // Ed25519 is unknown to the parser; the list below decides.
            Ok(ParsedKey::Unknown(_)) => {}
            _ => return Err(RequestError::Key("use ECDSA P-256 or P-384, Ed25519, or RSA")),
        }
        SubjectPublicKeyInfo::from_der(der)
            .map(Self)
            .map_err(|_| RequestError::Key("use ECDSA P-256 or P-384, Ed25519, or RSA"))
    }

    pub(crate) fn info(&self) -> &SubjectPublicKeyInfo {
        &self.0
    }
}

/// A request whose signature was verified: the sender holds the key. What it asks for is only asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The key to be certified.
    pub key: PublicKey,
    /// The common name it asks for.
    pub common_name: String,
    /// The organizations it asks for.
    pub organizations: Vec<String>,
}

impl CertificateRequest {
    /// Reads and verifies a request in PEM.
    ///
    /// # Errors
    /// When it is too long or malformed, its signature is wrong, or its key is not accepted.
    pub fn from_pem(pem: &str) -> Result<Self, RequestError> {
        check_length(pem.len())?;
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RequestError::Malformed("it is not PEM with a CERTIFICATE REQUEST"))?;
        Self::from_der(&der)
    }

    /// Reads and verifies a request in DER.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        check_length(der.len())?;
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed("it is not PKCS#10"))?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed("bytes follow it"));
        }
        let info = &request.certification_request_info;
        let key = PublicKey::from_spki(info.subject_pki.raw)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(Self {
            key,
            common_name: common_name(&info.subject).ok_or(RequestError::Malformed("it has not one common name"))?,
            organizations: organizations(&info.subject)
                .ok_or(RequestError::Malformed("an organization is not text"))?,
        })
    }
}

/// All that a request may ask for; unlike [`CertificateRequest`] any subject and any names may be in it. Its signature was
/// verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// The key to be certified, where it is of a kind that is certified here.
    pub key: Option<PublicKey>,
    /// The common name it asks for, where there is just one.
    pub common_name: Option<String>,
    /// The organizations it asks for.
    pub organizations: Vec<String>,
    /// DNS names it asks for.
    pub dns_names: Vec<String>,
    /// Addresses it asks for.
    pub addresses: Vec<IpAddr>,
    /// How many other names (mail addresses, URIs …) it asks for: none of our signers grants one.
    pub other_names: usize,
}

impl SigningRequest {
    /// Reads and verifies a request in PEM.
    ///
    /// # Errors
    /// When it is too long or malformed, or its signature is wrong.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestError> {
        check_length(pem.len())?;
        let der = in_pem(pem).ok_or(RequestError::NoPem)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| RequestError::Malformed("it is not PKCS#10"))?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed("bytes follow it"));
        }
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        let info = &request.certification_request_info;
        let mut read = Self {
            key: PublicKey::from_spki(info.subject_pki.raw).ok(),
            common_name: common_name(&info.subject),
            organizations: organizations(&info.subject)
                .ok_or(RequestError::Malformed("an organization is not text"))?,
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| read.take(name));
            }
        }
        Ok(read)
    }

    fn take(&mut self, name: &GeneralName<'_>) {
        let address = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok(),
            _ => <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok(),
        };
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.addresses.push(address),
                None => self.other_names += 1,
            },
            _ => self.other_names += 1,
        }
    }
}

/// What the first block of a PEM holds, if that is a request, whatever comes after it.
#[must_use]
pub fn in_pem(pem: &[u8]) -> Option<Vec<u8>> {
    let first = blocks(pem).into_iter().next()?;
    (first.label == "CERTIFICATE REQUEST").then_some(first.contents)
}

/// Checks that PEM holds certificates and nothing else, at least one.
///
/// # Errors
/// With upstream's words for what is wrong.
pub fn check_certificates(pem: &[u8]) -> Result<(), RequestError> {
    let other = |why: &str| RequestError::Other(why.to_owned());
    let found = blocks(pem);
    for block in &found {
        if block.label != "CERTIFICATE" {
            return Err(other(&format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label)));
        }
        if block.has_headers {
            return Err(other("no PEM block headers are permitted"));
        }
        let mut rest = block.contents.as_slice();
        if rest.is_empty() {
            return Err(other("found CERTIFICATE PEM block containing 0 certificates"));
        }
        while !rest.is_empty() {
            (rest, _) = X509Certificate::from_der(rest).map_err(|_| other("x509: malformed certificate"))?;
        }
    }
    if found.is_empty() {
        return Err(other("must contain at least one CERTIFICATE PEM block"));
    }
    Ok(())
}

fn check_length(length: usize) -> Result<(), RequestError> {
    if length > MAX_REQUEST_BYTES { Err(RequestError::TooLong { length }) } else { Ok(()) }
}

/// The one common name of a subject; `None` when there is none, more than one, or it is not text.
pub(crate) fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut names = subject.iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => Some(name.as_str().ok()?.to_owned()),
        _ => None,
    }
}

/// The organizations of a subject; `None` when one is not text.
pub(crate) fn organizations(subject: &X509Name<'_>) -> Option<Vec<String>> {
    subject.iter_organization().map(|name| Some(name.as_str().ok()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn request() -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_request_says_who_asks_and_proves_its_key() {
        let read = CertificateRequest::from_der(&request()).unwrap();
        assert_eq!((read.common_name.as_str(), read.organizations), ("jane", vec!["dev".to_owned()]));
    }

    #[test]
    fn a_request_for_any_signer_tells_all_that_it_asks_for() {
        let names = vec!["worker.example.com".to_owned(), "10.0.0.7".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let read = SigningRequest::from_pem(pem.as_bytes()).unwrap();
        assert_eq!((read.dns_names.as_slice(), read.other_names), (&["worker.example.com".to_owned()][..], 0));
        assert_eq!(read.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(SigningRequest::from_pem(b"nope"), Err(RequestError::NoPem));
        let other = pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
        assert_eq!(SigningRequest::from_pem(format!("{other}{pem}").as_bytes()), Err(RequestError::NoPem));
        let headed = pem.replacen("REQUEST-----", "REQUEST-----\nA: b\n", 1);
        assert!(SigningRequest::from_pem(headed.as_bytes()).is_ok());
        assert!(check_certificates(pem.as_bytes()).is_err());
        assert_eq!(
            check_certificates(b"nope").unwrap_err().to_string(),
            "must contain at least one CERTIFICATE PEM block"
        );
    }

    #[test]
    fn certificates_are_refused_in_upstreams_words() {
        let told = |pem: &str| check_certificates(pem.as_bytes()).unwrap_err().to_string();
        let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n");
        assert_eq!(told(&block("FOO", "aGk=\n")), "only CERTIFICATE PEM blocks are allowed, found \"FOO\"");
        assert_eq!(told(&block("CERTIFICATE", "A: b\n\naGk=\n")), "no PEM block headers are permitted");
        assert_eq!(told(&block("CERTIFICATE", "aGk=\n")), "x509: malformed certificate");
        assert_eq!(told(&block("CERTIFICATE", "")), "found CERTIFICATE PEM block containing 0 certificates");
        let own = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap().cert.pem();
        assert_eq!(check_certificates(format!("before\n{own}{own}").as_bytes()), Ok(()));
    }

    #[test]
    fn a_request_with_a_wrong_signature_is_refused() {
        let mut der = request();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Signature)));
    }

    #[test]
    fn requests_that_are_too_long_are_not_parsed() {
        let long = "A".repeat(MAX_REQUEST_BYTES + 1);
        assert!(matches!(CertificateRequest::from_pem(&long), Err(RequestError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
            prop_assert!(CertificateRequest::from_der(&bytes).is_err());
            prop_assert!(CertificateRequest::from_pem(&text).is_err());
            prop_assert!(PublicKey::from_spki(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_is_read_or_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut der = request();
            let at = at.index(der.len());
            der[at] = to;
            drop(CertificateRequest::from_der(&der));
        }
    }
}
