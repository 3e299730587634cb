//! An HTTPS server that is not ours: a webhook, or an identity provider.

use std::{future::Future, sync::Arc};

use anyhow::{Context as _, Result};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_rustls::TlsAcceptor;

/// A server that answers until its program ends, or it is stopped.
#[derive(Debug)]
pub struct ForeignServer {
    /// The port that it listens on.
    pub port: u16,
    /// Who vouches for its certificate, as PEM.
    pub authority_pem: String,
    accepting: AbortHandle,
}

impl ForeignServer {
    /// Starts a server on a free port of loopback that speaks these TLS versions, with a certificate of an authority of its
    /// own, and answers as told.
    pub async fn start<A, F>(versions: &[&'static SupportedProtocolVersion], answer: A) -> Result<Self>
    where
        A: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", "127.0.0.1", versions, answer).await
    }

    /// The same at another address, with a certificate for this name.
    pub async fn start_at<A, F>(
        address: &str,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        answer: A,
    ) -> Result<Self>
    where
        A: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (config, authority_pem) = identity(name, versions)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let port = listener.local_addr().context("read the address that is listened on")?.port();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let serve = service_fn(move |request| reply(request, answer.clone()));
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), serve).await);
                });
            }
        });
        Ok(Self { port, authority_pem, accepting: accepting.abort_handle() })
    }

    /// Goes away: connections are refused from soon after.
    pub fn stop(&self) {
        self.accepting.abort();
    }
}

async fn reply<A, F>(request: Request<Incoming>, answer: A) -> Result<Response<Full<Bytes>>, hyper::Error>
where
    A: Fn(Request<Bytes>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(answer(Request::from_parts(parts, body)).await)
}

fn identity(name: &str, versions: &[&'static SupportedProtocolVersion]) -> Result<(rustls::ServerConfig, String)> {
    let key = rcgen::KeyPair::generate().context("make an authority's key")?;
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).context("make an authority")?;
    let issuer = rcgen::Issuer::new(parameters, key);
    let own_key = rcgen::KeyPair::generate().context("make a server's key")?;
    let own = rcgen::CertificateParams::new(vec![name.to_owned()]).context("name the server")?;
    let own = own.signed_by(&own_key, &issuer).context("sign the server's certificate")?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)
        .context("use the server's certificate")?;
    Ok((config, authority.pem()))
}
