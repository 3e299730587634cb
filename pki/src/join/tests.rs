//! Who may join, how often, and under which name.

use proptest::prelude::*;

use super::*;
use crate::identity::LeafKey;
use crate::tests::{at, pki};

fn key() -> PublicKey {
    LeafKey::generate().unwrap().public_key().clone()
}

#[test]
fn a_token_has_upstreams_form_and_is_not_printed() {
    let (_dir, pki) = pki();
    let token = pki.join_tokens().create(JoinTokenSpec::default(), at(0)).unwrap();
    let text = token.expose();
    assert_eq!((text.len(), text.find('.')), (23, Some(6)));
    assert!(!format!("{token:?}").contains(text.split_once('.').unwrap().1));
    assert_eq!(pki.join_tokens().authenticate(&text, at(0)).unwrap().name, format!("system:bootstrap:{}", token.id()));
}

#[test]
fn a_token_for_one_machine_lets_one_machine_in() {
    let (_dir, pki) = pki();
    let tokens = pki.join_tokens();
    let token = tokens.create(JoinTokenSpec::default(), at(0)).unwrap();
    let machine = key();
    tokens.redeem(&token, "n1", &machine, at(1)).unwrap();
    tokens.redeem(&token, "n1", &machine, at(2)).unwrap();
    assert!(matches!(tokens.redeem(&token, "n2", &machine, at(3)), Err(JoinError::NotValid)));
    assert!(matches!(tokens.redeem(&token, "n1", &key(), at(3)), Err(JoinError::NodeExists { .. })));
}

#[test]
fn a_token_expires_and_can_be_revoked() {
    let (_dir, pki) = pki();
    let tokens = pki.join_tokens();
    let spec = JoinTokenSpec { lifetime: SignedDuration::from_secs(60), ..JoinTokenSpec::default() };
    let token = tokens.create(spec, at(0)).unwrap();
    assert!(tokens.authenticate(&token.expose(), at(59)).is_ok());
    assert!(matches!(tokens.authenticate(&token.expose(), at(60)), Err(JoinError::NotValid)));
    assert!(tokens.list(at(60)).is_empty());
    assert!(tokens.revoke(token.id()).unwrap());
    assert!(tokens.authenticate(&token.expose(), at(1)).is_err());
}

#[test]
fn a_wrong_secret_is_not_told_from_an_unknown_token() {
    let (_dir, pki) = pki();
    let token = pki.join_tokens().create(JoinTokenSpec::default(), at(0)).unwrap();
    let guess = format!("{}.{}", token.id(), "a".repeat(SECRET_LENGTH));
    for text in [guess.as_str(), "aaaaaa.aaaaaaaaaaaaaaaa"] {
        let refused = pki.join_tokens().authenticate(text, at(0)).unwrap_err();
        assert_eq!(refused.to_string(), JoinError::NotValid.to_string());
    }
}

#[test]
fn a_nodes_name_is_taken_over_only_with_a_token_made_for_it() {
    let (_dir, pki) = pki();
    let tokens = pki.join_tokens();
    let many = tokens.create(JoinTokenSpec { uses: None, ..JoinTokenSpec::default() }, at(0)).unwrap();
    tokens.redeem(&many, "n1", &key(), at(0)).unwrap();
    assert!(matches!(tokens.redeem(&many, "n1", &key(), at(0)), Err(JoinError::NodeExists { .. })));
    let bound = JoinTokenSpec { node: Some("n1".to_owned()), ..JoinTokenSpec::default() };
    let bound = tokens.create(bound, at(0)).unwrap();
    assert!(matches!(tokens.redeem(&bound, "n2", &key(), at(0)), Err(JoinError::OtherNode { .. })));
    tokens.redeem(&bound, "n1", &key(), at(0)).unwrap();
    assert!(tokens.forget_node("n1").unwrap());
    tokens.redeem(&many, "n1", &key(), at(0)).unwrap();
}

#[test]
fn tokens_and_their_uses_survive_a_restart_and_a_key_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let kms = Kms::ephemeral(at(0)).unwrap();
    let open = || crate::Pki::load_or_create(dir.path(), &kms, at(0)).unwrap();
    let first = open();
    let used = first.join_tokens().create(JoinTokenSpec::default(), at(0)).unwrap();
    let unused = first.join_tokens().create(JoinTokenSpec::default(), at(0)).unwrap();
    first.join_tokens().redeem(&used, "n1", &key(), at(0)).unwrap();
    kms.rotate(at(0)).unwrap();
    let again = open();
    assert!(again.join_tokens().redeem(&used, "n2", &key(), at(0)).is_err());
    again.join_tokens().redeem(&unused, "n2", &key(), at(0)).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_a_token_or_not(text in "\\PC{0,40}", form in "[a-z0-9]{6}\\.[a-z0-9]{16}") {
        drop(text.parse::<JoinToken>());
        prop_assert_eq!(form.parse::<JoinToken>().unwrap().expose(), form);
    }
}
