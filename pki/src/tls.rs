//! TLS configurations: 1.3 only, with identities and trust that change under way.
//!
//! No session is ever resumed: connections of a cluster live long, and a resumed one would carry an identity that
//! was verified in the past.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::authority::AuthorityKind;
use crate::identity::Identity;
use crate::trust::{Fingerprint, Trust};
use crate::verify::MAX_CHAIN;

/// The protocols that HTTP servers and clients here speak.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[error("could not make a TLS configuration")]
pub struct TlsError(#[from] rustls::Error);

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A client may show a certificate. The handshake only proves that it holds the key; whether the certificate is
    /// trusted is decided per connection by [`crate::verify::authenticate`], so that a client with a foreign one
    /// gets an answer that it can read instead of a broken connection.
    ProvenOnly,
    /// A client must show a certificate of the authority for clients, else there is no connection.
    Required,
}

/// The one cryptography provider of this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// The configuration of a server with this identity.
///
/// # Errors
/// When the cryptography provider can't do TLS 1.3.
pub fn server_config(
    identity: &Identity,
    trust: &Trust,
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = Arc::new(ClientVerifier { trust: trust.clone(), required: clients == ClientCertificates::Required });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a client that trusts servers of the authority `kind`, and shows `identity` if it has one.
///
/// # Errors
/// When the cryptography provider can't do TLS 1.3.
pub fn client_config(
    trust: &Trust,
    kind: AuthorityKind,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    client_with(Trusted::Authority(trust.clone(), kind), identity)
}

/// The configuration of a machine that joins: it knows nothing but the fingerprint of the servers' authority.
///
/// # Errors
/// When the cryptography provider can't do TLS 1.3.
pub fn joining_config(authorities: Vec<Fingerprint>) -> Result<Arc<ClientConfig>, TlsError> {
    client_with(Trusted::Pinned(authorities), None)
}

fn client_with(trusted: Trusted, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        // "Dangerous" since it is not rustls's own; ours hands over to it.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier { trusted }));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct ClientVerifier {
    trust: Trust,
    required: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: clients show what they have, and bundles may change while a connection is made.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        if !self.required {
            return Ok(ClientCertVerified::assertion());
        }
        let bundles = self.trust.load();
        let verifier = bundles.clients.clients().ok_or(unknown_issuer())?;
        verifier.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
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

/// Which servers a client trusts.
enum Trusted {
    /// Those of one authority, whichever generations are trusted at the moment of the handshake.
    Authority(Trust, AuthorityKind),
    /// Those of the authority in the server's own chain, if its fingerprint is one that was given.
    Pinned(Vec<Fingerprint>),
}

struct ServerVerifier {
    trusted: Trusted,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trusted {
            Trusted::Authority(_, kind) => f.debug_struct("ServerVerifier").field("kind", kind).finish_non_exhaustive(),
            Trusted::Pinned(authorities) => f.debug_struct("ServerVerifier").field("pinned", authorities).finish(),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trusted {
            Trusted::Authority(trust, kind) => {
                let bundles = trust.load();
                let verifier = bundles.of(*kind).servers().ok_or(unknown_issuer())?;
                verifier.verify_server_cert(leaf, intermediates, name, ocsp, now)
            }
            Trusted::Pinned(authorities) => {
                pinned(authorities, intermediates)?.verify_server_cert(leaf, &[], name, ocsp, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
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

/// A verifier that trusts nothing but the certificate in `chain` whose fingerprint is one of `authorities`.
fn pinned(authorities: &[Fingerprint], chain: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let is_pinned = |certificate: &&CertificateDer<'_>| {
        Fingerprint::of(certificate).is_some_and(|fingerprint| authorities.contains(&fingerprint))
    };
    let authority = chain.iter().take(MAX_CHAIN).find(is_pinned).ok_or(unknown_issuer())?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|_| unknown_issuer())
}

/// The signatures that are understood.
pub(crate) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// Checks a signature of a TLS 1.3 handshake.
pub(crate) fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = provider();
    rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms.signature_verification_algorithms)
}

fn unknown_issuer() -> Error {
    Error::InvalidCertificate(CertificateError::UnknownIssuer)
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}
