//! A bare HTTPS client: what a client library would not send, and load without a client library's costs.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt as _;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long one request of a test may take before the test fails.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1, one request at a time.
    One,
    /// HTTP/2, many requests at a time.
    Two,
}

impl Http {
    /// Its version, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "1.1",
            Self::Two => "2",
        }
    }
}

/// One server as one client sees it: an address, what is trusted, and who is asking.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: ClientConfig,
    token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body, whole.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Endpoint {
    /// The server and the user of a kubeconfig.
    pub fn from_kube(config: &kube::Config) -> Result<Self> {
        let host = config.cluster_url.host().context("the kubeconfig's server has no host")?;
        let token = config.auth_info.token.as_ref().map(|token| {
            use secrecy::ExposeSecret as _;
            token.expose_secret().to_owned()
        });
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: config.cluster_url.port_u16().unwrap_or(443),
            tls: config.rustls_client_config().context("make a TLS configuration of the kubeconfig")?,
            token,
        })
    }

    /// Nobody in particular, who trusts the authorities in `authority_pem`.
    pub fn anonymous(host: &str, port: u16, authority_pem: &[u8]) -> Result<Self> {
        let builder = builder(rustls::DEFAULT_VERSIONS)?.with_root_certificates(roots(authority_pem)?);
        Ok(Self { host: host.to_owned(), port, tls: builder.with_no_client_auth(), token: None })
    }

    /// Somebody with a client certificate.
    pub fn with_certificate(host: &str, port: u16, authority_pem: &[u8], chain: &str, key: &str) -> Result<Self> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let builder = builder(rustls::DEFAULT_VERSIONS)?.with_root_certificates(roots(authority_pem)?);
        let tls = builder.with_client_auth_cert(chain, key).context("use a client certificate")?;
        Ok(Self { host: host.to_owned(), port, tls, token: None })
    }

    /// Nobody in particular, who offers these TLS versions only.
    pub fn with_versions(
        host: &str,
        port: u16,
        authority_pem: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self> {
        let builder = builder(versions)?.with_root_certificates(roots(authority_pem)?);
        Ok(Self { host: host.to_owned(), port, tls: builder.with_no_client_auth(), token: None })
    }

    /// Nobody in particular, who believes any server: only to see whether one answers at all.
    pub fn dangerous_trusting_anyone(host: &str, port: u16) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Credulous(Arc::clone(&provider)));
        let builder = builder(rustls::DEFAULT_VERSIONS)?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Self { host: host.to_owned(), port, tls: builder.with_no_client_auth(), token: None })
    }

    /// The same, with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// A TLS connection, and nothing said on it yet.
    pub async fn open(&self, protocols: &[&[u8]]) -> Result<TlsStream<TcpStream>> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("connect to {}:{}", self.host, self.port))?;
        stream.set_nodelay(true).context("turn Nagle's algorithm off")?;
        let name = ServerName::try_from(self.host.clone()).context("read the server's name")?;
        let connector = TlsConnector::from(Arc::new(tls));
        connector.connect(name, stream).await.with_context(|| format!("speak TLS to {}:{}", self.host, self.port))
    }

    /// A connection for many requests.
    pub async fn connect(&self, http: Http) -> Result<Connection> {
        let sender = match http {
            Http::One => {
                let stream = self.open(&[b"http/1.1"]).await?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("begin HTTP/1.1")?;
                drop(tokio::spawn(connection));
                Sender::One(sender)
            }
            Http::Two => {
                let stream = self.open(&[b"h2"]).await?;
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                        .await
                        .context("begin HTTP/2")?;
                drop(tokio::spawn(connection));
                Sender::Two(sender)
            }
        };
        let base = format!("https://{}:{}", self.host, self.port);
        Ok(Connection { sender, base, token: self.token.clone() })
    }

    /// One request on a connection of its own; the body's type is JSON.
    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.ask_as(method, path, "application/json", body).await
    }

    /// One request on a connection of its own, with a body of some type.
    pub async fn ask_as(&self, method: &str, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.ask_with(method, path, &[("content-type", content_type)], body).await
    }

    /// One request on a connection of its own, with these header fields.
    pub async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let exchange = async {
            let mut connection = self.connect(Http::One).await?;
            let request = connection.request(method, path, headers, body.into())?;
            whole(connection.send(request).await?).await
        };
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await;
        answer.with_context(|| format!("{method} {path} took too long"))?.with_context(|| format!("{method} {path}"))
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    base: String,
    token: Option<String>,
}

#[derive(Debug)]
enum Sender {
    One(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// A request of this connection's user.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let mut builder = Request::builder().method(method);
        builder = match (&self.sender, self.base.split_once("//")) {
            (Sender::One(_), Some((_, host))) => builder.uri(path).header(header::HOST, host),
            _ => builder.uri(format!("{}{path}", self.base)),
        };
        if let Some(token) = &self.token {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Full::new(body)).with_context(|| format!("make the request {method} {path}"))
    }

    /// Sends a request; the answer's body is still to be read.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.context("wait for the connection")?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await.context("wait for the connection")?;
                sender.send_request(request).await
            }
        };
        answer.context("send a request")
    }
}

/// Reads an answer to its end.
pub async fn whole(response: Response<Incoming>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.context("read the answer's body")?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

fn builder(
    versions: &[&'static SupportedProtocolVersion],
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .context("choose TLS versions")
}

fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.context("read an authority's certificate")?).context("trust an authority")?;
    }
    if store.is_empty() {
        bail!("no authority is given");
    }
    Ok(store)
}

/// Believes every server.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
