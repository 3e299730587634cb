//! The whole: first boot, restart, rotation, and handshakes between its parts.

use std::sync::Arc;

use martello_kms::KeyFile;
use rustls_pki_types::CertificateDer;

use super::*;

/// 2026-09-21T14:13:20Z plus so many seconds.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// The identities of a new cluster.
pub(crate) fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path(), &Kms::ephemeral(at(0)).unwrap(), at(0)).unwrap();
    (dir, pki)
}

/// Runs a handshake in memory; returns what the server saw of the client.
pub(crate) fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(client, name)?;
    let mut server = rustls::ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    Ok(server.peer_certificates().unwrap_or_default().to_vec())
}

/// Handshakes read the real clock.
fn now() -> Timestamp {
    martello_api::clock::now()
}

fn live() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path(), &Kms::ephemeral(now()).unwrap(), now()).unwrap();
    (dir, pki)
}

#[test]
fn a_restart_finds_the_same_authorities_and_keys() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let key = KeyFile::new(root.path().join("keys/root.key"));
    let open = || Pki::load_or_create(&data, &Kms::open(&data, &key, at(0)).unwrap(), at(0)).unwrap();
    let first = open();
    let (pem, jwks) = (first.server_ca_pem(), first.tokens().jwks());
    let token = first.tokens().issue(TokenSpec::default(), at(0)).unwrap().token;
    let again = open();
    assert_eq!((again.server_ca_pem(), again.tokens().jwks()), (pem, jwks));
    assert!(again.tokens().verify(&token, &[], at(1)).is_ok());
}

#[test]
fn no_private_key_or_token_is_in_plaintext_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let kms = Kms::open(&data, &KeyFile::new(root.path().join("keys/root.key")), at(0)).unwrap();
    let pki = Pki::load_or_create(&data, &kms, at(0)).unwrap();
    let join = pki.join_tokens().create(join::JoinTokenSpec::default(), at(0)).unwrap();
    let stored = state::read(&kms.sealed_file(data.join("pki/authorities"), "pki authorities")).unwrap().unwrap();
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for kind in AuthorityKind::ALL {
        secrets.extend(stored.authority(kind).iter().map(|one| one.material.pkcs8.expose().to_vec()));
    }
    secrets.extend(stored.tokens.iter().map(|one| one.material.pkcs8().expose().to_vec()));
    // PKCS#8 of P-256: the private scalar is the 32 bytes from 36 on.
    secrets.iter_mut().for_each(|pkcs8| *pkcs8 = pkcs8[36..68].to_vec());
    secrets.push(join.expose().as_bytes()[7..].to_vec());
    assert_eq!(secrets.len(), 5);
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into_bytes();
    let mut files = vec![data.clone()];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        seen += 1;
        let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
        for secret in &secrets {
            assert!(!holds(secret) && !holds(&secret[..12]) && !holds(&base64(secret)[..16]), "{}", path.display());
        }
        assert!(!holds(b"PRIVATE KEY"), "{}", path.display());
    }
    assert_eq!(seen, 3, "keyring, authorities, join tokens");
}

#[test]
fn a_user_reaches_the_server_and_is_known() {
    let (_dir, pki) = live();
    let (identity, _) = pki.server_identity([ServerName::from("10.1.2.3")], now()).unwrap();
    let server = server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly).unwrap();
    let jane = Identity::new(pki.user_certificate("jane", &["dev", "ops"], None, now()).unwrap());
    let client = client_config(pki.trust(), AuthorityKind::Servers, Some(&jane)).unwrap();
    for name in ["localhost", "10.1.2.3", "kubernetes.default.svc"] {
        let chain = handshake(Arc::clone(&server), Arc::clone(&client), name).unwrap();
        let user = authenticate(pki.trust(), &chain, now()).unwrap();
        assert_eq!((user.name.as_str(), user.groups[..2].to_vec()), ("jane", vec!["dev".to_owned(), "ops".to_owned()]));
    }
    assert!(handshake(server, client, "elsewhere.example").is_err());
}

#[test]
fn a_client_without_or_with_a_foreign_certificate_gets_a_connection_but_no_identity() {
    let ((_one, ours), (_two, foreign)) = (live(), live());
    let (identity, _) = ours.server_identity([], now()).unwrap();
    let server = server_config(&identity, ours.trust(), ClientCertificates::ProvenOnly).unwrap();
    let anonymous = client_config(ours.trust(), AuthorityKind::Servers, None).unwrap();
    assert!(handshake(Arc::clone(&server), anonymous, "localhost").unwrap().is_empty());
    let mallory = Identity::new(foreign.user_certificate("root", &["system:masters"], None, now()).unwrap());
    let client = client_config(ours.trust(), AuthorityKind::Servers, Some(&mallory)).unwrap();
    let chain = handshake(server, client, "localhost").unwrap();
    assert_eq!(authenticate(ours.trust(), &chain, now()), Err(verify::VerifyError::UnknownIssuer));
}

#[test]
fn a_server_that_requires_certificates_refuses_others_in_the_handshake() {
    let ((_one, ours), (_two, foreign)) = (live(), live());
    let node = Profile::NodeServing { node: "n1".to_owned(), names: Vec::new() };
    let (identity, _) = ours.identity(node, now()).unwrap();
    let server = server_config(&identity, ours.trust(), ClientCertificates::Required).unwrap();
    let connect = |leaf: Option<Leaf>| {
        let identity = leaf.map(Identity::new);
        let client = client_config(ours.trust(), AuthorityKind::Nodes, identity.as_ref()).unwrap();
        handshake(Arc::clone(&server), client, "n1")
    };
    assert!(connect(Some(ours.user_certificate("system:apiserver", &[], None, now()).unwrap())).is_ok());
    assert!(connect(None).is_err());
    assert!(connect(Some(foreign.user_certificate("system:apiserver", &[], None, now()).unwrap())).is_err());
}

#[test]
fn a_node_can_not_pass_for_the_server() {
    let (_dir, pki) = live();
    let serving = Profile::NodeServing { node: "localhost".to_owned(), names: vec![ServerName::from("127.0.0.1")] };
    let (identity, _) = pki.identity(serving, now()).unwrap();
    let server = server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly).unwrap();
    let client = client_config(pki.trust(), AuthorityKind::Servers, None).unwrap();
    assert!(handshake(server, client, "127.0.0.1").is_err());
}

#[test]
fn the_authorities_overlap_so_that_nobody_is_cut_off() {
    let (_dir, pki) = pki();
    let day = 24 * 3600;
    let before = pki.trust().load();
    let leaf =
        |second| pki.user_certificate("jane", &[], Some(SignedDuration::from_hours(30 * 24)), at(second)).unwrap();
    let old = leaf(364 * day);
    pki.rotate(at(335 * day)).unwrap();
    assert_eq!(pki.trust().load().clients.certificates().len(), 2, "known before it signs");
    pki.rotate(at(365 * day)).unwrap();
    let new = leaf(366 * day);
    for chain in [old.chain(), new.chain()] {
        assert_eq!(authenticate(pki.trust(), chain, at(366 * day)).unwrap().name, "jane");
    }
    assert!(authenticate(&Trust::new((*before).clone()), new.chain(), at(366 * day)).is_err());
    assert!(pki.rotate(at(366 * day)).unwrap().is_empty());
    pki.rotate(at(397 * day)).unwrap();
    assert_eq!(pki.trust().load().clients.certificates().len(), 1);
}

#[test]
fn a_first_boot_is_fast() {
    let dir = tempfile::tempdir().unwrap();
    let kms = Kms::ephemeral(at(0)).unwrap();
    let start = std::time::Instant::now();
    Pki::load_or_create(dir.path(), &kms, at(0)).unwrap();
    // 50 ms is the aim, with an optimised build and an idle machine; tests run on neither.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
