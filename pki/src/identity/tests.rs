//! Renewal of identities.

use super::*;
use crate::ServerName;
use crate::tests::{at, pki};

#[test]
fn renewal_is_due_after_two_thirds_of_a_life() {
    assert_eq!(renew_at(at(0), at(90)), at(60));
    assert_eq!(renew_at(at(0), at(0)), at(0));
}

#[test]
fn a_failed_renewal_is_tried_again_ever_sooner() {
    let (_dir, pki) = pki();
    let leaf = pki.user_certificate("jane", &[], Some(SignedDuration::from_hours(1)), at(0)).unwrap();
    let (due, end) = (leaf.renew_at(), leaf.not_after);
    assert_eq!(pause(due, end, false, at(0)), MAX_SLEEP);
    assert_eq!(pause(due, end, false, due), Duration::ZERO);
    assert_eq!(pause(due, end, true, due), Duration::from_secs(130));
    assert_eq!(pause(due, end, true, end), MIN_RETRY);
}

/// Tells when it was asked.
struct Telling(FromSigner, tokio::sync::mpsc::UnboundedSender<Timestamp>);

impl LeafSource for Telling {
    fn renew(&self, now: Timestamp) -> BoxFuture<'_, Result<Leaf, IdentityError>> {
        self.1.send(now).unwrap();
        self.0.renew(now)
    }
}

#[tokio::test]
async fn an_identity_renews_itself_when_it_is_due_and_stops_when_told() {
    let (_dir, pki) = pki();
    let (identity, source) = pki.server_identity([ServerName::from("10.0.0.1")], at(0)).unwrap();
    let first = identity.load();
    let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let due = first.renew_at();
    let task = tokio::spawn({
        let (identity, shutdown) = (identity.clone(), shutdown.clone());
        async move { identity.run(&Telling(source, sender), || due, shutdown).await }
    });
    assert_eq!(asked.recv().await, Some(due));
    shutdown.cancel();
    task.await.unwrap();
    assert!(asked.recv().await.is_none(), "asked once");
    assert_ne!(identity.load().chain()[0], first.chain()[0]);
    assert!(identity.load().renew_at() > due);
}

#[test]
fn a_chain_for_another_key_is_refused() {
    let (_dir, pki) = pki();
    let jane = pki.user_certificate("jane", &[], None, at(0)).unwrap();
    let refused = LeafKey::generate().unwrap().with_chain(jane.chain().to_vec());
    assert!(matches!(refused, Err(IdentityError::Unusable(_))));
    assert!(LeafKey::generate().unwrap().with_chain(Vec::new()).is_err());
}

#[test]
fn a_private_key_is_not_printed() {
    let (_dir, pki) = pki();
    let leaf = pki.user_certificate("jane", &[], None, at(0)).unwrap();
    assert!(leaf.key_pem().expose().starts_with(b"-----BEGIN PRIVATE KEY-----"));
    let printed = format!("{leaf:?}");
    assert!(printed.contains("[redacted]") && !printed.contains("PRIVATE"), "{printed}");
}
