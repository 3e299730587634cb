//! The way from the API server to the agents of nodes: mutual TLS, to the very node that is meant.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use martello_api::identity::API_SERVER;
use martello_apiserver::server::{DialError, NodeDialer, NodeIo};
use martello_pki::{AuthorityKind, Pki, Profile, client_config};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Dials nodes as `system:apiserver`; a node must show the certificate of its own name.
pub struct TlsDialer {
    connector: TlsConnector,
}

impl TlsDialer {
    /// With an identity from `pki`.
    pub fn new(pki: &Pki, now: Timestamp) -> anyhow::Result<Self> {
        let profile = Profile::User { name: API_SERVER.to_owned(), groups: Vec::new() };
        let (identity, renewal) = pki.identity(profile, now).context("issue the certificate for calls to nodes")?;
        let mut config =
            client_config(pki.trust(), AuthorityKind::Nodes, Some(&identity)).context("set up TLS to nodes")?;
        // Upgrades (exec, port-forward) are of HTTP/1.1.
        Arc::make_mut(&mut config).alpn_protocols = vec![b"http/1.1".to_vec()];
        tokio::spawn(async move {
            let forever = tokio_util::sync::CancellationToken::new();
            identity.run(&renewal, martello_api::clock::now, forever).await;
        });
        Ok(Self { connector: TlsConnector::from(config) })
    }
}

impl NodeDialer for TlsDialer {
    fn dial<'a>(
        &'a self,
        node: &'a str,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn NodeIo>, DialError>> {
        Box::pin(async move {
            let failed = |source: std::io::Error| DialError {
                node: node.to_owned(),
                address: format!("{host}:{port}"),
                why: source.to_string(),
            };
            let name = ServerName::try_from(node.to_owned())
                .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
            let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let stream = self.connector.connect(name, stream).await.map_err(failed)?;
            Ok(Box::new(stream) as Box<dyn NodeIo>)
        })
    }
}
