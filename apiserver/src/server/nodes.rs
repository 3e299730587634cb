//! The way to the agents of nodes, for logs, exec and port-forward.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to a node agent, TLS included.
pub trait NodeIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> NodeIo for T {}

/// Why a node could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("dialing node {node:?} at {address}: {why}")]
pub struct DialError {
    /// Its name.
    pub node: String,
    /// Where it was looked for.
    pub address: String,
    /// What happened.
    pub why: String,
}

/// Connects to node agents. The other side must prove to be the node of this name.
pub trait NodeDialer: Send + Sync + 'static {
    /// A connection to the agent of `node` at `host:port`, speaking HTTP/1.1.
    fn dial<'a>(&'a self, node: &'a str, host: &'a str, port: u16)
    -> BoxFuture<'a, Result<Box<dyn NodeIo>, DialError>>;
}

/// For servers without nodes.
pub struct NoNodes;

impl NodeDialer for NoNodes {
    fn dial<'a>(
        &'a self,
        node: &'a str,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn NodeIo>, DialError>> {
        let error = DialError {
            node: node.to_owned(),
            address: format!("{host}:{port}"),
            why: "this server has no way to nodes".to_owned(),
        };
        Box::pin(async move { Err(error) })
    }
}
