//! A machine joins, restarts, renews.

use std::sync::Arc;

use jiff::SignedDuration;
use martello_kms::Kms;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::authority::AuthorityKind;
use crate::identity::{BoxFuture, Identity, LeafKey};
use crate::join::JoinTokenSpec;
use crate::tests::{at, handshake, pki};
use crate::{ClientCertificates, client_config, joining_config, server_config};

fn now() -> Timestamp {
    martello_api::clock::now()
}

fn live() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path(), &Kms::ephemeral(now()).unwrap(), now()).unwrap();
    (dir, pki)
}

fn join(pki: &Pki, node: &str, now: Timestamp) -> NodeIdentity {
    let token = pki.join_tokens().create(JoinTokenSpec::default(), now).unwrap();
    let pending = PendingNode::new(node, vec!["10.0.0.7".parse().unwrap()]).unwrap();
    let response = pki.enroll(&token.expose(), pending.request(), now).unwrap();
    NodeIdentity::new(pending, &response).unwrap()
}

#[test]
fn a_machine_that_knows_the_fingerprint_finds_the_right_server_only() {
    let ((_one, ours), (_two, other)) = (live(), live());
    let config = |pki: &Pki| {
        let (identity, _) = pki.server_identity([], now()).unwrap();
        server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly).unwrap()
    };
    let client = joining_config(ours.trust().load().servers.fingerprints()).unwrap();
    assert!(handshake(config(&ours), Arc::clone(&client), "localhost").is_ok());
    assert!(handshake(config(&ours), Arc::clone(&client), "elsewhere.example").is_err());
    assert!(handshake(config(&other), client, "localhost").is_err());
}

#[test]
fn a_foreign_leaf_with_our_authority_appended_is_refused() {
    let ((_one, ours), (_two, other)) = (live(), live());
    let key = LeafKey::generate().unwrap();
    let profile = Profile::Server { names: vec![ServerName::from("localhost")] };
    let mut chain = other.signer().certify(&profile, key.public_key(), None, now()).unwrap().chain;
    chain[1] = ours.trust().load().servers.certificates()[0].clone();
    let identity = Identity::new(key.with_chain(chain).unwrap());
    let server = server_config(&identity, ours.trust(), ClientCertificates::ProvenOnly).unwrap();
    let client = joining_config(ours.trust().load().servers.fingerprints()).unwrap();
    assert!(handshake(server, client, "localhost").is_err());
}

#[test]
fn a_node_that_joined_is_a_client_and_a_server() {
    let (_dir, pki) = live();
    let node = join(&pki, "n1", now());
    let (identity, _) = pki.server_identity([], now()).unwrap();
    let server = server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly).unwrap();
    let client = client_config(&node.trust, AuthorityKind::Servers, Some(&node.client)).unwrap();
    let chain = handshake(server, client, "localhost").unwrap();
    assert_eq!(crate::authenticate(pki.trust(), &chain, now()).unwrap().node_name(), Some("n1"));

    let kubelet = server_config(&node.serving, &node.trust, ClientCertificates::Required).unwrap();
    let user = Profile::User { name: "system:apiserver".to_owned(), groups: Vec::new() };
    let (apiserver, _) = pki.identity(user, now()).unwrap();
    let client = client_config(pki.trust(), AuthorityKind::Nodes, Some(&apiserver)).unwrap();
    for name in ["n1", "10.0.0.7"] {
        assert!(handshake(Arc::clone(&kubelet), Arc::clone(&client), name).is_ok(), "{name}");
    }
    assert!(handshake(kubelet, client, "n2").is_err());
}

#[test]
fn a_node_renews_its_own_certificates_only() {
    let (_dir, pki) = pki();
    let node = join(&pki, "n1", at(0));
    let user = crate::authenticate(pki.trust(), node.client.load().chain(), at(0)).unwrap();
    let later = node.renew_at();
    let pending = PendingNode::new("n1", Vec::new()).unwrap();
    let response = pki.renew_node(&user, pending.request(), later).unwrap();
    node.renew(pending, &response).unwrap();
    assert!(node.renew_at() > later && node.holds(later));
    let other = PendingNode::new("n2", Vec::new()).unwrap();
    assert!(matches!(pki.renew_node(&user, other.request(), later), Err(EnrollError::NotTheNode { .. })));
    let jane = User::authenticated("system:node:n1", ["dev"]);
    assert!(pki.renew_node(&jane, PendingNode::new("n1", Vec::new()).unwrap().request(), later).is_err());
}

/// Answers as the server would, and tells that it was asked.
struct Direct {
    pki: Pki,
    at: Timestamp,
    asked: tokio::sync::mpsc::UnboundedSender<()>,
}

impl NodeTransport for Direct {
    fn renew<'a>(&'a self, request: &'a EnrollRequest) -> BoxFuture<'a, Result<EnrollResponse, String>> {
        self.asked.send(()).unwrap();
        let answer = self.pki.renew_node(&User::node("n1"), request, self.at).map_err(|error| error.to_string());
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn a_node_renews_itself_when_it_is_due_and_keeps_what_it_got() {
    let (_dir, pki) = pki();
    let node = join(&pki, "n1", at(0));
    let root = tempfile::tempdir().unwrap();
    let vault = NodeVault::open(&root.path().join("data"), root.path().join("keys/node.key"), at(0)).unwrap();
    let (due, before) = (node.renew_at(), node.client.load());
    let (asked, mut renewed) = tokio::sync::mpsc::unbounded_channel();
    let transport = Direct { pki, at: due, asked };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (node, vault, shutdown) = (node.clone(), vault.clone(), shutdown.clone());
        async move { node.run(&transport, Some(&vault), Vec::new(), || due, shutdown).await }
    });
    renewed.recv().await.unwrap();
    shutdown.cancel();
    task.await.unwrap();
    assert!(node.renew_at() > due + SignedDuration::from_hours(24));
    assert_ne!(node.client.load().chain(), before.chain());
    assert_eq!(vault.load().unwrap().unwrap().client.load().chain(), node.client.load().chain());
}

#[test]
fn a_request_that_is_malformed_uses_no_token_up() {
    let (_dir, pki) = pki();
    let token = pki.join_tokens().create(JoinTokenSpec::default(), at(0)).unwrap().expose();
    let good = PendingNode::new("n1", Vec::new()).unwrap();
    for bad in [
        EnrollRequest { client_request: String::new(), ..good.request().clone() },
        EnrollRequest { node: "N/1".to_owned(), ..good.request().clone() },
        EnrollRequest { addresses: vec!["10.0.0.1".parse().unwrap(); MAX_ADDRESSES + 1], ..good.request().clone() },
    ] {
        assert!(pki.enroll(&token, &bad, at(0)).is_err());
    }
    assert!(pki.enroll(&token, good.request(), at(0)).is_ok());
}

#[test]
fn a_node_finds_its_identity_again_and_its_disk_shows_nothing() {
    let (_dir, pki) = pki();
    let node = join(&pki, "n1", at(0));
    let root = tempfile::tempdir().unwrap();
    let (data, key) = (root.path().join("data"), root.path().join("keys/node.key"));
    let vault = NodeVault::open(&data, &key, at(0)).unwrap();
    assert!(vault.load().unwrap().is_none());
    vault.store(&node).unwrap();
    let again = NodeVault::open(&data, &key, at(0)).unwrap().load().unwrap().unwrap();
    assert_eq!(again.client.load().chain(), node.client.load().chain());
    assert_eq!((again.node.as_str(), again.holds(at(60))), ("n1", true));
    let stored = std::fs::read(data.join("identity")).unwrap();
    let scalar = &node.client.load().key().pkcs8().expose()[36..68].to_vec();
    assert!(
        !stored.windows(8).any(|window| scalar.starts_with(window))
            && !stored.windows(4).any(|window| window == b"node")
    );
}
