//! How a machine becomes a node and stays one: it sends two keys, and gets two certificates and whom to trust.
//!
//! The transport is the caller's: a request with a join token over [`crate::joining_config`] at first, over the node's
//! own identity from then on.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use martello_api::identity::User;
use martello_kms::sealed_file::SealedFileError;
use martello_kms::{KeyFile, Kms, KmsError, SealedFile};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::ec::Pkcs8;
use crate::identity::{Identity, IdentityError, Leaf, LeafKey};
use crate::join::{JoinError, JoinToken};
use crate::profile::{Profile, ServerName};
use crate::request::{CertificateRequest, RequestError};
use crate::signer::SignError;
use crate::trust::{Bundles, Trust, TrustError, to_pem};
use crate::{Pki, verify};

/// Most addresses of one node.
const MAX_ADDRESSES: usize = 32;

/// Why a node gets no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The join token does not let it in.
    #[error("the machine may not join")]
    Join(#[from] JoinError),
    /// A request is refused.
    #[error("the node's certificate signing request is refused")]
    Request(#[from] RequestError),
    /// Someone else asks for the node's certificate.
    #[error("{user:?} may not renew the certificates of node {node:?}")]
    NotTheNode {
        /// Who asks.
        user: String,
        /// For which node.
        node: String,
    },
    /// There are too many addresses.
    #[error("a node with {count} addresses; the limit is {MAX_ADDRESSES}")]
    TooManyAddresses {
        /// How many.
        count: usize,
    },
    /// Signing failed.
    #[error("the node's certificates could not be issued")]
    Sign(#[from] SignError),
    /// The answer can't be used.
    #[error("the node's certificates can't be used")]
    Identity(#[from] IdentityError),
    /// The bundles in the answer can't be used.
    #[error("the authorities that the server named can't be used")]
    Trust(#[from] TrustError),
    /// The answer can't be read.
    #[error("the server's answer is malformed: {0}")]
    Answer(&'static str),
    /// The vault could not be used.
    #[error("could not use the node's sealed identity")]
    File(#[from] SealedFileError),
    /// The node's keys could not be opened.
    #[error("could not open the node's keys")]
    Kms(#[from] KmsError),
    /// The stored identity is damaged.
    #[error("the node's stored identity is malformed")]
    Stored(#[source] serde_json::Error),
}

/// What a machine sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollRequest {
    /// The node's name.
    pub node: String,
    /// Certificate signing request of the client key, in PEM.
    pub client_request: String,
    /// Certificate signing request of the serving key, in PEM.
    pub serving_request: String,
    /// The addresses that the node serves on.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollResponse {
    /// Chain of the client certificate, in PEM.
    pub client_certificate: String,
    /// Chain of the serving certificate, in PEM.
    pub serving_certificate: String,
    /// The authorities for servers, in PEM.
    pub servers: String,
    /// The authorities for clients, in PEM.
    pub clients: String,
    /// The authorities for nodes, in PEM.
    pub nodes: String,
}

impl Pki {
    /// Lets a machine in with a join token.
    ///
    /// # Errors
    /// When the token does not let it in, or a request is refused.
    pub fn enroll(&self, token: &str, request: &EnrollRequest, now: Timestamp) -> Result<EnrollResponse, EnrollError> {
        let token: JoinToken = token.parse()?;
        let keys = RequestedKeys::read(request)?;
        self.join_tokens().redeem(&token, &request.node, &keys.client.key, now)?;
        self.issue(request, &keys, now)
    }

    /// Renews the certificates of a node that asks with its present ones.
    ///
    /// # Errors
    /// When the user is not that node, or a request is refused.
    pub fn renew_node(
        &self,
        user: &User,
        request: &EnrollRequest,
        now: Timestamp,
    ) -> Result<EnrollResponse, EnrollError> {
        if user.node_name() != Some(request.node.as_str()) {
            return Err(EnrollError::NotTheNode { user: user.name.clone(), node: request.node.clone() });
        }
        self.issue(request, &RequestedKeys::read(request)?, now)
    }

    fn issue(
        &self,
        request: &EnrollRequest,
        keys: &RequestedKeys,
        now: Timestamp,
    ) -> Result<EnrollResponse, EnrollError> {
        let node = request.node.clone();
        // Addresses only: other names would let a node pass for another one.
        let names = request.addresses.iter().copied().map(ServerName::Ip).collect();
        let client = self.signer().certify(&Profile::NodeClient { node: node.clone() }, &keys.client.key, None, now)?;
        let serving = self.signer().certify(&Profile::NodeServing { node, names }, &keys.serving.key, None, now)?;
        let pem = |chain: &[CertificateDer<'_>]| chain.iter().map(|one| to_pem("CERTIFICATE", one)).collect();
        let bundles = self.trust().load();
        Ok(EnrollResponse {
            client_certificate: pem(&client.chain),
            serving_certificate: pem(&serving.chain),
            servers: bundles.servers.pem().to_owned(),
            clients: bundles.clients.pem().to_owned(),
            nodes: bundles.nodes.pem().to_owned(),
        })
    }
}

struct RequestedKeys {
    client: CertificateRequest,
    serving: CertificateRequest,
}

impl RequestedKeys {
    fn read(request: &EnrollRequest) -> Result<Self, EnrollError> {
        if request.addresses.len() > MAX_ADDRESSES {
            return Err(EnrollError::TooManyAddresses { count: request.addresses.len() });
        }
        Ok(Self {
            client: CertificateRequest::from_pem(&request.client_request)?,
            serving: CertificateRequest::from_pem(&request.serving_request)?,
        })
    }
}

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

    /// Whether the client certificate holds at `now`; if not, the machine has to join again.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        verify::expires(self.client.load().chain()).is_some_and(|expires| expires > now)
    }
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

#[cfg(test)]
mod tests;
