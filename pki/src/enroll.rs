//! How a machine becomes a node and stays one: it sends two keys, and gets two certificates and whom to trust.
//!
//! The transport is the caller's: a request with a join token over [`crate::joining_config`] at first, over the node's
//! own identity from then on.

mod node;

use std::net::IpAddr;

use jiff::Timestamp;
use martello_api::identity::User;
use martello_kms::KmsError;
use martello_kms::sealed_file::SealedFileError;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

pub use self::node::{NodeIdentity, NodeTransport, NodeVault, PendingNode};
use crate::Pki;
use crate::identity::IdentityError;
use crate::join::{JoinError, JoinToken};
use crate::profile::{Profile, ServerName};
use crate::request::{CertificateRequest, RequestError};
use crate::signer::SignError;
use crate::trust::{TrustError, to_pem};

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
    /// The server can't be reached, or refused.
    #[error("the server did not answer the node's request: {0}")]
    Transport(String),
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

#[cfg(test)]
mod tests;
