//! Certificates, requests for them, tokens, and the records of the audit log.

use std::{
    cell::OnceCell,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use martello_api::{attributes::Attributes, attributes::Target, identity::User};
use martello_audit::{Authenticator, Config, Event, Keys, Log, tail, verify};
use martello_kms::Kms;
use martello_pki::{Pki, enroll::EnrollRequest, join::JoinToken, request::CertificateRequest, verify::authenticate};
use rustls::pki_types::CertificateDer;

use super::{NOW, text};

/// The identities of one cluster, made once.
fn pki() -> Option<&'static Pki> {
    static PKI: OnceLock<Option<(tempfile::TempDir, Pki)>> = OnceLock::new();
    let make = || -> anyhow::Result<_> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::load_or_create(folder.path(), &Kms::ephemeral(NOW)?, NOW)?;
        Ok((folder, pki))
    };
    let made = PKI.get_or_init(|| make().ok());
    assert!(made.is_some(), "the identities of a cluster could not be made");
    made.as_ref().map(|(_, pki)| pki)
}

/// Certificate signing requests, in DER and PEM.
pub fn signing_request(bytes: &[u8]) {
    drop(CertificateRequest::from_der(bytes));
    drop(CertificateRequest::from_pem(&text(bytes)));
}

/// Nobody has the key: whatever is accepted is forged.
pub fn service_account_token(bytes: &[u8]) {
    let Some(pki) = pki() else { return };
    assert!(pki.tokens().verify(&text(bytes), &[], NOW).is_err());
}

/// Join tokens: none of them was given out.
pub fn join_token(bytes: &[u8]) {
    let text = text(bytes);
    let Some(pki) = pki() else { return };
    assert!(pki.join_tokens().authenticate(&text, NOW).is_err());
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.expose(), text);
    }
}

/// What a machine sends to become a node, and a node to renew its certificates.
pub fn enrollment(bytes: &[u8]) {
    let Some(pki) = pki() else { return };
    let Ok(request) = serde_json::from_slice::<EnrollRequest>(bytes) else { return };
    assert!(pki.enroll("abcdef.0123456789abcdef", &request, NOW).is_err());
    let node = User {
        name: format!("system:node:{}", request.node),
        groups: vec!["system:nodes".to_owned()],
        ..User::default()
    };
    drop(pki.renew_node(&node, &request, NOW));
}

/// No authority has signed it: whoever is let in by it is not who they say.
pub fn certificate(bytes: &[u8]) {
    let Some(pki) = pki() else { return };
    let chain = [CertificateDer::from(bytes.to_vec())];
    assert!(authenticate(pki.trust(), &chain, NOW).is_err());
}

/// Takes every header for authentic, so that what lies behind it is reached.
struct Gullible;

impl Authenticator for Gullible {
    fn mac(&self, _: &[u8]) -> [u8; 32] {
        [7; 32]
    }

    fn verify_mac(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// The bytes are the only file of a log.
pub fn audit_segment(bytes: &[u8]) {
    thread_local! {
        static LOG: OnceCell<Option<tempfile::TempDir>> = const { OnceCell::new() };
    }
    LOG.with(|log| {
        let folder = log.get_or_init(|| a_log().ok());
        let Some(folder) = folder.as_ref().map(tempfile::TempDir::path) else { return };
        if std::fs::write(segment(folder), bytes).is_ok() {
            drop(tail(folder, 10, None));
            drop(verify(folder, &Gullible));
        }
    });
}

fn segment(folder: &Path) -> std::path::PathBuf {
    folder.join(format!("audit-{:020}.log", 1))
}

/// A log with two records, closed.
fn a_log() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let keys = Keys { authenticator: Arc::new(Gullible), cipher: None };
    let (log, _) = Log::open(folder.path(), &keys, &Config::default(), NOW)?;
    let attributes =
        Attributes { user: Arc::new(User::default()), verb: "get".into(), target: Target::Path("/livez".into()) };
    for id in ["a", "b"] {
        log.record(&Event::received(id.into(), &attributes, "/livez", NOW))?;
    }
    drop(log);
    std::fs::metadata(segment(folder.path())).context("a log's first file is elsewhere")?;
    Ok(folder)
}
