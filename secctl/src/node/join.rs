//! How this machine becomes a node, and stays one.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use http::Uri;
use martello_api::clock;
use martello_pki::{
    AuthorityKind, client_config,
    enroll::{EnrollRequest, EnrollResponse, NodeIdentity, NodeTransport, NodeVault, PendingNode},
    identity::BoxFuture,
    joining_config,
};

use super::{Flags, client};

/// Pause between two tries to reach the server.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the server is asked before the agent gives up.
const TRIES: u32 = 60;

/// The identity of this node: the one that it kept, or a new one by its join token.
pub async fn identity(
    flags: &Flags,
    name: &str,
    server: &Uri,
    token: Option<&str>,
    vault: &NodeVault,
) -> anyhow::Result<NodeIdentity> {
    let kept = vault.load().context("read the node's identity")?;
    if let Some(identity) = kept.filter(|identity| identity.node == name && identity.holds(clock::now())) {
        return Ok(identity);
    }
    let Some(token) = token else {
        bail!(
            "this machine is not a node yet (or was off for longer than its certificate holds): \
             `secctl token create` on the server makes a token for --join-token-file"
        );
    };
    if flags.ca_fingerprint.is_empty() {
        bail!("--ca-fingerprint is needed to know the server by; `secctl token create` prints it");
    }
    let config = joining_config(flags.ca_fingerprint.clone()).context("set up TLS")?;
    let pending = PendingNode::new(name, addresses(flags)).context("make the node's keys")?;
    let mut tries = 0;
    let response = loop {
        tries += 1;
        match client::enroll(&config, server, Some(token), pending.request()).await {
            Ok(response) => break response,
            Err(error) if tries < TRIES => {
                tracing::warn!(error = format!("{error:#}"), "could not join yet, will try again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.context("join the cluster")),
        }
    };
    let identity = NodeIdentity::new(pending, &response).context("take over the certificates")?;
    vault.store(&identity).context("keep the node's identity")?;
    tracing::info!(node = name, "joined the cluster");
    Ok(identity)
}

/// The addresses that the node's own server is reached at.
pub fn addresses(flags: &Flags) -> Vec<IpAddr> {
    flags.listen.iter().map(|listen| listen.ip()).collect()
}

/// Renews the node's certificates with the present ones.
pub struct Renewal {
    config: Arc<rustls::ClientConfig>,
    server: Uri,
}

impl Renewal {
    /// For this identity.
    pub fn new(identity: &NodeIdentity, server: &Uri) -> anyhow::Result<Self> {
        let config =
            client_config(&identity.trust, AuthorityKind::Servers, Some(&identity.client)).context("set up TLS")?;
        Ok(Self { config, server: server.clone() })
    }
}

impl NodeTransport for Renewal {
    fn renew<'a>(&'a self, request: &'a EnrollRequest) -> BoxFuture<'a, Result<EnrollResponse, String>> {
        Box::pin(async move {
            client::enroll(&self.config, &self.server, None, request).await.map_err(|error| format!("{error:#}"))
        })
    }
}
