//! The node's side: its keys, its identity between runs, and its renewal.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use martello_kms::{KeyFile, Kms, SealedFile};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, Zeroizing};

use super::{EnrollError, EnrollRequest, EnrollResponse};
use crate::ec::Pkcs8;
use crate::identity::{BoxFuture, Identity, Leaf, LeafKey, pause};
use crate::profile::Profile;
use crate::trust::{Bundles, Trust};
use crate::verify;

/// Two keys that wait for their certificates.
#[derive(Clone, Debug)]
pub struct PendingNode {
    request: EnrollRequest,
    client: LeafKey,
    serving: LeafKey,
}

impl PendingNode {
    /// New keys for `node`.
    ///
    /// # Errors
    /// When no key could be made.
    pub fn new(node: &str, addresses: Vec<IpAddr>) -> Result<Self, EnrollError> {
        let (client, serving) = (LeafKey::generate()?, LeafKey::generate()?);
        let name = Profile::NodeClient { node: node.to_owned() }.common_name();
        let request = EnrollRequest {
            node: node.to_owned(),
            client_request: client.request_pem(&name)?,
            serving_request: serving.request_pem(&name)?,
            addresses,
        };
        Ok(Self { request, client, serving })
    }

    /// What is to be sent. Sending it again is safe.
    #[must_use]
    pub fn request(&self) -> &EnrollRequest {
        &self.request
    }

    fn accept(self, response: &EnrollResponse) -> Result<(Leaf, Leaf, Bundles), EnrollError> {
        let bundles = Bundles::from_pem(&response.servers, &response.clients, &response.nodes)?;
        let client = self.client.with_chain(read_chain(&response.client_certificate)?)?;
        let serving = self.serving.with_chain(read_chain(&response.serving_certificate)?)?;
        Ok((client, serving, bundles))
    }
}

/// The identity of a node: as a client of the API server, as a server to it, and whom it trusts. Clones share it.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// Its name.
    pub node: String,
    /// As a client.
    pub client: Identity,
    /// As a server.
    pub serving: Identity,
    /// Whom it trusts.
    pub trust: Trust,
}

impl NodeIdentity {
    /// The identity of a machine whose request was answered.
    ///
    /// # Errors
    /// When the answer does not fit the request.
    pub fn new(pending: PendingNode, response: &EnrollResponse) -> Result<Self, EnrollError> {
        let node = pending.request.node.clone();
        let (client, serving, bundles) = pending.accept(response)?;
        Ok(Self { node, client: Identity::new(client), serving: Identity::new(serving), trust: Trust::new(bundles) })
    }

    /// Takes over the answer to a renewal; every TLS configuration made from this identity uses it from now on.
    ///
    /// # Errors
    /// When the answer does not fit the request; nothing has changed then.
    pub fn renew(&self, pending: PendingNode, response: &EnrollResponse) -> Result<(), EnrollError> {
        let (client, serving, bundles) = pending.accept(response)?;
        self.trust.replace(bundles);
        self.client.replace(client);
        self.serving.replace(serving);
        Ok(())
    }

    /// When it is to be renewed.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.client.load().renew_at().min(self.serving.load().renew_at())
    }

    /// Renews the identity over `transport` whenever two thirds of its life are over, and keeps it in `vault`, until
    /// `shutdown`.
    pub async fn run(
        &self,
        transport: &dyn NodeTransport,
        vault: Option<&NodeVault>,
        addresses: Vec<IpAddr>,
        clock: impl Fn() -> Timestamp,
        shutdown: CancellationToken,
    ) {
        let mut failed = false;
        loop {
            let pause = pause(self.renew_at(), self.client.load().not_after, failed, clock());
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            if self.renew_at() > clock() {
                continue;
            }
            let renewed = shutdown.run_until_cancelled(self.renew_over(transport, addresses.clone())).await;
            let Some(renewed) = renewed else { return };
            let stored = renewed.and_then(|()| vault.map_or(Ok(()), |vault| vault.store(self)));
            failed = stored.is_err();
            match stored {
                Ok(()) => tracing::info!(node = self.node, "renewed the node's certificates"),
                Err(error) => tracing::warn!(
                    node = self.node,
                    error = &error as &dyn std::error::Error,
                    "could not renew the node's certificates"
                ),
            }
        }
    }

    async fn renew_over(&self, transport: &dyn NodeTransport, addresses: Vec<IpAddr>) -> Result<(), EnrollError> {
        let pending = PendingNode::new(&self.node, addresses)?;
        let response = transport.renew(pending.request()).await.map_err(EnrollError::Transport)?;
        self.renew(pending, &response)
    }

    /// Whether the client certificate holds at `now`; if not, the machine has to join again.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        verify::expires(self.client.load().chain()).is_some_and(|expires| expires > now)
    }
}

/// How a node asks its server to renew its certificates.
pub trait NodeTransport: Send + Sync {
    /// Sends the request with the node's present identity; the server answers with [`crate::Pki::renew_node`].
    fn renew<'a>(&'a self, request: &'a EnrollRequest) -> BoxFuture<'a, Result<EnrollResponse, String>>;
}

/// Where a node keeps its identity between runs: encrypted, with the root key outside of its data directory.
#[derive(Clone, Debug)]
pub struct NodeVault(SealedFile);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    node: String,
    client_key: String,
    serving_key: String,
    response: EnrollResponse,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.serving_key.zeroize();
    }
}

impl NodeVault {
    /// Opens the vault in `data_dir`, whose root key is in the file `root_key`.
    ///
    /// # Errors
    /// When the root key is missing, unsafe or wrong.
    pub fn open(data_dir: &Path, root_key: impl Into<PathBuf>, now: Timestamp) -> Result<Self, EnrollError> {
        let kms = Kms::open(data_dir, &KeyFile::new(root_key), now)?;
        Ok(Self(kms.sealed_file(data_dir.join("identity"), "node identity")))
    }

    /// The identity that was kept; `None` when this machine has not joined.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn load(&self) -> Result<Option<NodeIdentity>, EnrollError> {
        let Some(content) = self.0.read()? else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&content).map_err(EnrollError::Stored)?;
        let key = |text: &str| -> Result<LeafKey, EnrollError> {
            let bytes = STANDARD.decode(text).map_err(|_| EnrollError::Answer("a stored key is not base64"))?;
            Ok(LeafKey::from_pkcs8(Pkcs8::from_bytes(bytes))?)
        };
        let pending = PendingNode {
            request: EnrollRequest {
                node: stored.node.clone(),
                client_request: String::new(),
                serving_request: String::new(),
                addresses: Vec::new(),
            },
            client: key(&stored.client_key)?,
            serving: key(&stored.serving_key)?,
        };
        NodeIdentity::new(pending, &stored.response).map(Some)
    }

    /// Keeps the identity.
    ///
    /// # Errors
    /// When it can't be written to the disk.
    pub fn store(&self, identity: &NodeIdentity) -> Result<(), EnrollError> {
        let (client, serving, bundles) = (identity.client.load(), identity.serving.load(), identity.trust.load());
        let stored = Stored {
            node: identity.node.clone(),
            client_key: STANDARD.encode(client.key().pkcs8().expose()),
            serving_key: STANDARD.encode(serving.key().pkcs8().expose()),
            response: EnrollResponse {
                client_certificate: client.chain_pem(),
                serving_certificate: serving.chain_pem(),
                servers: bundles.servers.pem().to_owned(),
                clients: bundles.clients.pem().to_owned(),
                nodes: bundles.nodes.pem().to_owned(),
            },
        };
        let content = Zeroizing::new(serde_json::to_vec(&stored).map_err(EnrollError::Stored)?);
        Ok(self.0.write(&content)?)
    }
}

fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, EnrollError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(verify::MAX_CHAIN)
        .collect::<Result<_, _>>()
        .map_err(|_| EnrollError::Answer("a chain is not PEM"))
}
