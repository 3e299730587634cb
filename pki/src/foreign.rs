//! TLS to servers that are not ours: extension servers, webhooks, identity providers, and whatever runs in pods. TLS 1.2 is
//! spoken, too: we don't choose what others run.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::identity::Identity;
use crate::tls::{provider, schemes, verify_signature};

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
    /// The certificate to be shown can't be read.
    #[error("the client certificate is no PEM of certificates")]
    Certificate,
    /// Its key can't be read.
    #[error("the client key is no PEM of a private key")]
    Key,
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
    let builder = builder(trust)?;
    Ok(finished(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    }))
}

/// The same for a client that shows a certificate that somebody else made for it: chain and key in PEM.
///
/// # Errors
/// When the authorities, the certificate or the key can't be used.
pub fn foreign_config_as(trust: ForeignTrust, chain: &[u8], key: &[u8]) -> Result<Arc<ClientConfig>, ForeignError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).take(MAX_BUNDLE).collect();
    let chain = read.map_err(|_| ForeignError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| ForeignError::Key)?;
    Ok(finished(builder(trust)?.with_client_auth_cert(chain, key)?))
}

fn builder(trust: ForeignTrust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ForeignError> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ForeignTrust::Authorities(authorities) => verifier(authorities)?,
        ForeignTrust::DangerouslyAnyone => Arc::new(Anyone),
    };
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        // "Dangerous" since a verifier is given; it is rustls's own but where anyone is trusted by name.
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// What judges servers by authorities, and by certificates of their own that stand among these.
fn verifier(authorities: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, ForeignError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    Ok(Arc::new(Listed { chains, listed: authorities }))
}

/// Trusts what authorities signed, and a certificate that is itself listed: many servers bring one that they signed
/// themselves and that calls itself an authority, which no chain may end in.
#[derive(Debug)]
struct Listed {
    chains: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Listed {
    /// Whether a listed certificate names the server and holds now.
    fn vouch(&self, leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        rustls::client::verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < from {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > to {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            // Any other fault counts, whoever is listed.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.listed.contains(leaf) => {
                self.vouch(leaf, name, now)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
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
        verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
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

    /// A certificate that its owner signed and that calls itself an authority.
    fn own(name: &str) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_listed_certificate_is_trusted_for_its_own_names_and_time() {
        let (listed, other) = (own("a.example.com"), own("a.example.com"));
        let verifier = verifier(vec![listed.clone()]).unwrap();
        let judge = |leaf: &CertificateDer<'_>, name: &str, now: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
            verifier.verify_server_cert(leaf, &[], &name, &[], now)
        };
        let today = 1_700_000_000;
        assert!(judge(&listed, "a.example.com", today).is_ok());
        assert!(judge(&listed, "b.example.com", today).is_err());
        assert!(judge(&other, "a.example.com", today).is_err());
        assert!(judge(&listed, "a.example.com", 80_000_000_000).is_err());
    }
}
