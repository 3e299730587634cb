//! What pods' certificates are asked for with, and what they are issued as.

use jiff::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Sizes of RSA keys that pods may have.
const RSA_BITS: [usize; 2] = [3072, 4096];

/// What is wrong with a key, or with the proof that somebody holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It is no public key.
    #[error("must be a valid PKIX-serialized public key")]
    Malformed,
    /// An elliptic curve that is not used.
    #[error("elliptic public keys must use curve P256 or P384")]
    Curve,
    /// An RSA key of this size.
    #[error("RSA keys must have modulus size 3072 or 4096")]
    Modulus(usize),
    /// A key of another kind.
    #[error("unknown public key type; supported types are Ed25519, ECDSA, and RSA")]
    Kind,
    /// The signature is not one of the key.
    #[error("could not verify proof-of-possession signature")]
    Proof,
}

/// Checks that `signature` is that of `key`, a `SubjectPublicKeyInfo`, over `signed`.
///
/// # Errors
/// When the key is none that pods may have, or the signature is not its own.
pub fn check_proof(key: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), KeyFault> {
    let (rest, parsed) = SubjectPublicKeyInfo::from_der(key).map_err(|_| KeyFault::Malformed)?;
    if !rest.is_empty() {
        return Err(KeyFault::Malformed);
    }
    let algorithm = check_key(&parsed)?;
    let bytes = &*parsed.subject_public_key.data;
    UnparsedPublicKey::new(algorithm, bytes).verify(signed, signature).map_err(|_| KeyFault::Proof)
}

/// How signatures of a key are verified.
fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<&'static dyn VerificationAlgorithm, KeyFault> {
    let kind = &key.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        return Ok(&ED25519);
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve: Option<Oid<'_>> = key.algorithm.parameters.as_ref().and_then(|one| one.clone().try_into().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => Ok(&ECDSA_P256_SHA256_ASN1),
            Some(curve) if curve == OID_NIST_EC_P384 => Ok(&ECDSA_P384_SHA256_ASN1),
            Some(curve) if curve == OID_NIST_EC_P521 => Err(KeyFault::Curve),
            _ => Err(KeyFault::Malformed),
        };
    }
    if *kind == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return Err(KeyFault::Malformed) };
        let bits = rsa.key_size();
        return if RSA_BITS.contains(&bits) { Ok(&RSA_PSS_2048_8192_SHA256) } else { Err(KeyFault::Modulus(bits)) };
    }
    Err(KeyFault::Kind)
}

/// What is wrong with a request for a certificate, beside its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StubFault {
    /// It is no request.
    #[error("must be a valid PKCS#10 CSR")]
    Malformed,
    /// Its key is none that pods may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Its signature is not that of its key.
    #[error("could not verify the signature of the PKCS#10 CSR")]
    Signature,
}

/// Checks a request in DER (PKCS#10), whose signature is its proof.
///
/// # Errors
/// When it is none, or its key is none that pods may have, or its signature is wrong.
pub fn check_stub(der: &[u8]) -> Result<(), StubFault> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| StubFault::Malformed)?;
    if !rest.is_empty() {
        return Err(StubFault::Malformed);
    }
    check_key(&request.certification_request_info.subject_pki)?;
    request.verify_signature().map_err(|_| StubFault::Signature)
}

/// The `SubjectPublicKeyInfo` of a request in DER.
#[must_use]
pub fn key_of_stub(der: &[u8]) -> Option<Vec<u8>> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    Some(request.certification_request_info.subject_pki.raw.to_vec())
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its `SubjectPublicKeyInfo`.
    pub key: Vec<u8>,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Names of machines.
    pub dns_names: Vec<String>,
    /// Addresses of mail.
    pub mail_addresses: Vec<String>,
}

impl Issued {
    /// Reads a certificate in DER; none where it is none.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let (mut dns_names, mut mail_addresses) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => mail_addresses.push((*name).to_owned()),
                _ => {}
            }
        }
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some(Self {
            key: certificate.public_key().raw.to_vec(),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            dns_names,
            mail_addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SigningKey as _,
    };

    use super::*;

    #[test]
    fn who_holds_the_key_can_prove_it() {
        for algorithm in [&PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let info = key.subject_public_key_info();
            let proof = key.sign(b"uid").unwrap();
            assert_eq!(check_proof(&info, b"uid", &proof), Ok(()));
            assert_eq!(check_proof(&info, b"other", &proof), Err(KeyFault::Proof));
        }
        assert_eq!(check_proof(b"key", b"uid", b""), Err(KeyFault::Malformed));
    }

    #[test]
    fn a_stub_is_signed_by_its_own_key() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        assert_eq!(check_stub(&der), Ok(()));
        assert_eq!(key_of_stub(&der).unwrap(), key.subject_public_key_info());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(check_stub(&der), Err(StubFault::Signature));
        assert_eq!(check_stub(b"nope"), Err(StubFault::Malformed));
    }

    #[test]
    fn a_certificate_tells_its_key_and_names() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        let issued = Issued::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!((issued.key, issued.dns_names), (key.subject_public_key_info(), vec!["a.example.com".to_owned()]));
        assert_eq!(Issued::from_der(b"nope"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(check_proof(&bytes, b"", b"").is_err());
            prop_assert!(check_stub(&bytes).is_err());
            prop_assert!(Issued::from_der(&bytes).is_none());
        }
    }
}
