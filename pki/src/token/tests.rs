//! Tokens that hold, and all the ways in which they don't.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::{at, pki};

fn spec() -> TokenSpec {
    TokenSpec {
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        uid: "sa-uid".to_owned(),
        lifetime: SignedDuration::from_hours(1),
        pod: Some(BoundObject { name: "web-1".to_owned(), uid: "pod-uid".to_owned() }),
        node: Some(BoundObject { name: "n1".to_owned(), uid: String::new() }),
        ..TokenSpec::default()
    }
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

fn with_parts(header: &Value, payload: &Value, signature: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", encode(header), encode(payload), URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_token_names_account_pod_and_node_as_upstream_does() {
    let (_dir, pki) = pki();
    let issued = pki.tokens().issue(spec(), at(0)).unwrap();
    let verified = pki.tokens().verify(&issued.token, &[], at(60)).unwrap();
    let user = verified.user();
    assert_eq!(user.name, "system:serviceaccount:shop:web");
    assert_eq!(user.uid.as_deref(), Some("sa-uid"));
    assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["pod-uid"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], [format!("JTI={}", issued.id)]);
    assert!(!user.extra.contains_key("authentication.kubernetes.io/node-uid"));
    let payload = part(&issued.token, 1);
    assert_eq!(payload["kubernetes.io"]["serviceaccount"], json!({"name": "web", "uid": "sa-uid"}));
    assert_eq!(payload["aud"], json!([DEFAULT_ISSUER]));
}

#[test]
fn a_token_that_stands_in_a_secret_says_so_and_no_other() {
    let (_dir, pki) = pki();
    for stands_in_secret in [true, false] {
        let secret = Some(BoundObject { name: "token".to_owned(), uid: "secret-uid".to_owned() });
        let token = pki.tokens().issue(TokenSpec { secret, stands_in_secret, ..spec() }, at(0)).unwrap().token;
        assert_eq!(part(&token, 1).get("martello.dev/stands-in-secret").is_some(), stands_in_secret);
        let verified = pki.tokens().verify(&token, &[], at(0)).unwrap();
        assert_eq!(verified.claims.stands_in_secret, stands_in_secret);
    }
}

#[test]
fn a_token_holds_from_its_issue_to_its_expiry_also_when_it_was_seen_before() {
    let (_dir, pki) = pki();
    let token = pki.tokens().issue(spec(), at(0)).unwrap().token;
    for _ in 0..2 {
        assert!(matches!(pki.tokens().verify(&token, &[], at(-60)), Err(TokenError::NotYetValid(_))));
        assert!(pki.tokens().verify(&token, &[], at(0)).is_ok());
        assert!(pki.tokens().verify(&token, &[], at(3600)).is_ok());
        assert!(matches!(pki.tokens().verify(&token, &[], at(3611)), Err(TokenError::Expired(_))));
    }
}

#[test]
fn a_tokens_life_has_bounds() {
    let (_dir, pki) = pki();
    for (asked, granted) in [(SignedDuration::ZERO, MIN_TOKEN_LIFETIME), (SignedDuration::MAX, MAX_TOKEN_LIFETIME)] {
        let issued = pki.tokens().issue(TokenSpec { lifetime: asked, ..spec() }, at(0)).unwrap();
        assert_eq!(issued.expires, at(granted.as_secs()));
    }
}

#[test]
fn a_token_is_for_its_audiences_only() {
    let (_dir, pki) = pki();
    let audiences = vec!["vault".to_owned(), "registry".to_owned()];
    let token = pki.tokens().issue(TokenSpec { audiences, ..spec() }, at(0)).unwrap().token;
    assert!(matches!(pki.tokens().verify(&token, &[], at(0)), Err(TokenError::Audience { .. })));
    let verified = pki.tokens().verify(&token, &["other", "vault"], at(0)).unwrap();
    assert_eq!(verified.audiences, ["vault"]);
    assert!(pki.tokens().verify(&token, &["other"], at(0)).is_err());
}

#[test]
fn a_changed_token_is_not_ours() {
    let (_dir, pki) = pki();
    let token = pki.tokens().issue(spec(), at(0)).unwrap().token;
    let mut payload = part(&token, 1);
    payload["sub"] = json!("system:serviceaccount:kube-system:admin");
    let signature = URL_SAFE_NO_PAD.decode(token.split('.').nth(2).unwrap()).unwrap();
    let forged = with_parts(&part(&token, 0), &payload, &signature);
    assert_eq!(pki.tokens().verify(&forged, &[], at(0)).err(), Some(TokenError::NotSigned));
}

#[test]
fn a_subject_is_that_of_the_account() {
    let claims = Claims::new("i", spec(), at(0));
    assert!(claims.is_consistent());
    for sub in ["system:serviceaccount:shop:admin", "system:serviceaccount:kube-system:web", "web", ""] {
        assert!(!Claims { sub: sub.to_owned(), ..claims.clone() }.is_consistent(), "{sub}");
    }
}

#[test]
fn the_token_does_not_choose_the_algorithm() {
    let (_dir, pki) = pki();
    let token = pki.tokens().issue(spec(), at(0)).unwrap().token;
    let (kid, payload) = (part(&token, 0)["kid"].clone(), part(&token, 1));
    let jwk = pki.tokens().jwks()["keys"][0].clone();
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(URL_SAFE_NO_PAD.decode(jwk[coordinate].as_str().unwrap()).unwrap());
    }
    for alg in ["none", "HS256", "ES384", "RS256", "None", ""] {
        let header = json!({"alg": alg, "kid": kid});
        assert!(pki.tokens().verify(&with_parts(&header, &payload, b""), &[], at(0)).is_err(), "{alg}");
    }
    let header = json!({"alg": "HS256", "kid": kid});
    let unsigned = with_parts(&header, &payload, b"");
    let message = unsigned.trim_end_matches('.');
    let mac = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &point), message.as_bytes());
    assert!(pki.tokens().verify(&with_parts(&header, &payload, mac.as_ref()), &[], at(0)).is_err());
}

#[test]
fn a_token_of_another_cluster_is_not_ours() {
    let ((_one, ours), (_two, other)) = (pki(), pki());
    let token = other.tokens().issue(spec(), at(0)).unwrap().token;
    assert_eq!(ours.tokens().verify(&token, &[], at(0)).err(), Some(TokenError::NotSigned));
    assert_ne!(ours.tokens().jwks(), other.tokens().jwks());
}

#[test]
fn tokens_of_a_retired_key_hold_until_they_expire() {
    let (_dir, pki) = pki();
    let day = 24 * 3600;
    assert!(!pki.rotate(at(83 * day)).unwrap().is_empty());
    assert_eq!(pki.tokens().jwks()["keys"].as_array().unwrap().len(), 2, "the next key is known before it signs");
    let long = TokenSpec { lifetime: MAX_TOKEN_LIFETIME, ..spec() };
    let old = pki.tokens().issue(long, at(90 * day - 3600)).unwrap().token;
    pki.rotate(at(90 * day)).unwrap();
    let new = pki.tokens().issue(spec(), at(90 * day + 3600)).unwrap().token;
    assert_ne!(part(&old, 0)["kid"], part(&new, 0)["kid"]);
    for token in [&old, &new] {
        assert!(pki.tokens().verify(token, &[], at(90 * day + 3600)).is_ok());
    }
    pki.rotate(at(92 * day)).unwrap();
    assert_eq!(pki.tokens().jwks()["keys"].as_array().unwrap().len(), 1);
    assert!(
        pki.tokens().verify(&old, &[], at(90 * day + 3600)).is_err(),
        "the key is gone, also for tokens seen before"
    );
}

#[test]
fn discovery_tells_where_the_keys_are() {
    let (_dir, pki) = pki();
    let document = pki.tokens().openid_configuration("https://10.0.0.1:6443/");
    assert_eq!(document["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
    assert_eq!(document["issuer"], DEFAULT_ISSUER);
    let key = &pki.tokens().jwks()["keys"][0];
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("EC"), &json!("P-256"), &json!("ES256")));
    assert_eq!(URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap().len(), 32);
}

#[test]
fn a_token_is_not_printed() {
    let (_dir, pki) = pki();
    let issued = pki.tokens().issue(spec(), at(0)).unwrap();
    assert!(!format!("{issued:?}").contains(&issued.token));
}

#[test]
fn too_long_a_token_is_not_looked_at() {
    let (_dir, pki) = pki();
    let long = "a".repeat(verify::MAX_TOKEN_BYTES + 1);
    assert!(matches!(pki.tokens().verify(&long, &[], at(0)), Err(TokenError::TooLong { .. })));
}

#[test]
fn any_text_is_refused() {
    let (_dir, pki) = pki();
    let token = pki.tokens().issue(spec(), at(0)).unwrap().token;
    proptest!(|(text in "\\PC{0,200}", dotted in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}",
                cut in 0..token.len(), at_byte in 0..token.len())| {
        prop_assert!(pki.tokens().verify(&text, &[], at(0)).is_err());
        prop_assert!(pki.tokens().verify(&dotted, &[], at(0)).is_err());
        prop_assert!(pki.tokens().verify(&token[..cut], &[], at(0)).is_err());
        let mut changed = token.clone().into_bytes();
        changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        // The last character of a signature carries bits that are not part of it; base64 refuses those.
        prop_assert!(pki.tokens().verify(&changed, &[], at(0)).is_err());
    });
}
