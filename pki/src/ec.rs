//! P-256 keys that sign: made here, kept in `ring`'s form, never in PEM.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use zeroize::Zeroizing;

/// An elliptic-curve key could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum EcError {
    /// No key could be made.
    #[error("could not generate a P-256 key")]
    Generate,
    /// The stored bytes are no key.
    #[error("a stored P-256 key is damaged")]
    Damaged,
    /// The signature could not be made.
    #[error("could not sign with a P-256 key")]
    Sign,
}

/// A P-256 private key as PKCS#8, the form it is stored in (encrypted). Erased when dropped, never printed.
#[derive(Clone)]
pub(crate) struct Pkcs8(Zeroizing<Vec<u8>>);

impl Pkcs8 {
    pub(crate) fn generate() -> Result<Self, EcError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map(|document| Self(Zeroizing::new(document.as_ref().to_vec())))
            .map_err(|_| EcError::Generate)
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Pkcs8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pkcs8([redacted])")
    }
}

/// A key that signs.
pub(crate) struct EcKey {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
}

impl EcKey {
    /// A key whose signatures are in DER, as certificates have them.
    pub(crate) fn for_certificates(pkcs8: &Pkcs8) -> Result<Self, EcError> {
        Self::new(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
    }

    /// A key whose signatures are two numbers side by side, as JWS has them (RFC 7518 §3.4).
    pub(crate) fn for_tokens(pkcs8: &Pkcs8) -> Result<Self, EcError> {
        Self::new(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
    }

    fn new(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &Pkcs8) -> Result<Self, EcError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose(), &SystemRandom::new()).map_err(|_| EcError::Damaged)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { pair, public })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, EcError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| EcError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The public key as an uncompressed point (SEC 1 §2.3.3): `04`, x, y.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }
}

/// For `rcgen`, which lays out certificate signing requests.
impl rcgen::PublicKeyData for EcKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for EcKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RingUnspecified)
    }
}

/// For `rcgen`, which lays out certificates and asks for the public key; the signature is made by [`EcKey::sign`].
pub(crate) struct PublicPoint(pub(crate) Vec<u8>);

impl rcgen::PublicKeyData for PublicPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PublicPoint {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
