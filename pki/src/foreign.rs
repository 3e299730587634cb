//! TLS to servers that are not ours: extension servers, webhooks, identity providers, and whatever runs in pods. TLS 1.2 is
//! spoken, too: we don't choose what others run.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::identity::Identity;
use crate::tls::provider;

/// Most certificates of one bundle.
const MAX_BUNDLE: usize = 500;

/// Whom a connection trusts.
#[derive(Clone, Debug)]
pub enum ForeignTrust {
    /// Servers with a certificate of one of these authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Any server: for those who asked for it by name.
    DangerouslyAnyone,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The bundle can't be read.
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Bundle,
    /// No verifier can be made of the bundle.
    #[error("the authorities can't be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// No configuration can be made.
    #[error("could not make a TLS configuration")]
    Tls(#[from] Error),
}

impl ForeignTrust {
    /// Authorities in PEM.
    ///
    /// # Errors
    /// When there is none, or one can't be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ForeignError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_BUNDLE).collect();
        let found = read.map_err(|_| ForeignError::Bundle)?;
        if found.is_empty() { Err(ForeignError::Bundle) } else { Ok(Self::Authorities(found)) }
    }
}

/// The configuration of a client that trusts as `trust` says, and shows `identity` if it has one. It speaks HTTP/1.1.
///
/// # Errors
/// When the authorities can't be used.
pub fn foreign_config(trust: ForeignTrust, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, ForeignError> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ForeignTrust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?
        }
        ForeignTrust::DangerouslyAnyone => Arc::new(Anyone),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        // "Dangerous" since a verifier is given; it is rustls's own but where anyone is trusted by name.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Trusts any certificate; the handshake still proves that the server holds its key.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_holds_certificates() {
        assert!(matches!(ForeignTrust::from_pem(b""), Err(ForeignError::Bundle)));
        assert!(matches!(ForeignTrust::from_pem(b"nonsense"), Err(ForeignError::Bundle)));
        assert!(foreign_config(ForeignTrust::DangerouslyAnyone, None).is_ok());
    }
}
