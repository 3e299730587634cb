use martello_pki::token::DEFAULT_ISSUER;

use super::{
    claims::{EMAIL, RESERVED},
    *,
};
use crate::authn::config::AUTHORITY;

/// What is wrong with a file of one provider, which is good but for `changes`, by their pointers.
fn of_provider(changes: &[(&str, Value)]) -> String {
    let mut provider = json!({
        "issuer": {"url": "https://issuer-url", "audiences": ["a"], "certificateAuthority": AUTHORITY},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    });
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        provider.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    of_file(&json!({"jwt": [provider]}))
}

fn of_file(rest: &Value) -> String {
    let mut file =
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": []});
    for (key, value) in rest.as_object().unwrap() {
        file[key.as_str()] = value.clone();
    }
    let config: AuthenticationConfiguration = serde_json::from_value(file).unwrap();
    let causes = faults(&config);
    if causes.is_empty() { String::new() } else { told(&causes) }
}

#[test]
fn an_issuer_is_an_https_url_with_audiences() {
    assert_eq!(of_provider(&[]), "");
    for (url, fault) in [
        ("", "jwt[0].issuer.url: Required value"),
        ("invalid-url", r#"jwt[0].issuer.url: Invalid value: "invalid-url": URL scheme must be https"#),
        (
            "https://u:p@a",
            r#"jwt[0].issuer.url: Invalid value: "https://u:p@a": URL must not contain a username or password"#,
        ),
        ("https://a?q", r#"jwt[0].issuer.url: Invalid value: "https://a?q": URL must not contain a query"#),
        ("https://a#f", r#"jwt[0].issuer.url: Invalid value: "https://a#f": URL must not contain a fragment"#),
        (
            DEFAULT_ISSUER,
            r#"jwt[0].issuer.url: Invalid value: "https://kubernetes.default.svc": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc]"#,
        ),
    ] {
        assert_eq!(of_provider(&[("/issuer/url", json!(url))]), fault);
    }
    assert_eq!(
        of_provider(&[("/issuer/discoveryURL", json!("https://issuer-url/"))]),
        r#"jwt[0].issuer.discoveryURL: Invalid value: "https://issuer-url/": discoveryURL must be different from URL"#
    );
    assert_eq!(
        of_provider(&[("/issuer/audiences", json!(["a", "", "a"]))]),
        r#"[jwt[0].issuer.audiences[1]: Required value, jwt[0].issuer.audiences[2]: Duplicate value: "a", jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences]"#
    );
    assert_eq!(
        of_provider(&[("/issuer/audienceMatchPolicy", json!("All"))]),
        r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "All": audienceMatchPolicy must be empty or MatchAny for single audience"#
    );
    assert_eq!(
        of_provider(&[("/issuer/egressSelectorType", json!("panda"))]),
        r#"jwt[0].issuer.egressSelectorType: Invalid value: "panda": egress selector must be either controlplane or cluster"#
    );
    assert_eq!(
        of_provider(&[("/issuer/certificateAuthority", json!("pem"))]),
        r#"jwt[0].issuer.certificateAuthority: Invalid value: "<omitted>": data does not contain any valid RSA or ECDSA certificates"#
    );
}

#[test]
fn no_two_providers_are_of_one_issuer() {
    let provider = json!({
        "issuer": {"url": "https://i", "discoveryURL": "https://d", "audiences": ["a"], "certificateAuthority": AUTHORITY},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    });
    assert_eq!(
        of_file(&json!({"jwt": [provider, provider]})),
        r#"[jwt[1].issuer.url: Duplicate value: "https://i", jwt[1].issuer.discoveryURL: Duplicate value: "https://d"]"#
    );
    assert_eq!(of_file(&json!({"jwt": vec![provider; 65]})), "jwt: Too many: 65: must have at most 64 items");
    assert_eq!(
        of_file(&json!({"anonymous": {"enabled": false, "conditions": [{"path": "/livez"}]}})),
        r#"anonymous.conditions: Invalid value: [{"Path":"/livez"}]: enabled should be set to true when conditions are defined"#
    );
}

#[test]
fn all_faults_of_rules_are_told() {
    let rules = json!([
        {"claim": "foo", "requiredValue": "bar"},
        {"claim": "foo", "message": "m"},
        {"claim": "foo", "expression": "claims.foo == 'bar'"},
        {},
        {"expression": "claims.foo", "requiredValue": "x"},
        {"expression": "claims.foo"},
    ]);
    assert_eq!(
        of_provider(&[("/claimValidationRules", rules)]),
        r#"[jwt[0].claimValidationRules[1].message: Invalid value: "m": may not be specified when claim is set, jwt[0].claimValidationRules[1].claim: Duplicate value: "foo", jwt[0].claimValidationRules[2]: Invalid value: "foo": claim and expression can't both be set, jwt[0].claimValidationRules[3]: Required value: claim or expression is required, jwt[0].claimValidationRules[4].requiredValue: Invalid value: "x": may not be specified when expression is set, jwt[0].claimValidationRules[4].expression: Invalid value: "claims.foo": must evaluate to bool, jwt[0].claimValidationRules[5].expression: Duplicate value: "claims.foo"]"#
    );
    let rules = json!([{"expression": "user.username == 'foo'"}, {"expression": "user.username == 'foo'"}, {}]);
    assert_eq!(
        of_provider(&[("/userValidationRules", rules)]),
        r#"[jwt[0].userValidationRules[1].expression: Duplicate value: "user.username == 'foo'", jwt[0].userValidationRules[2].expression: Required value]"#
    );
    let unknown = of_provider(&[("/userValidationRules", json!([{"expression": "user.name == 'foo'"}]))]);
    assert!(unknown.contains("undefined field 'name'"), "{unknown}");
}

#[test]
fn a_mapping_is_a_claim_with_a_prefix_or_an_expression() {
    let username = |own: Value| of_provider(&[("/claimMappings/username", own)]);
    assert_eq!(username(json!({})), "jwt[0].claimMappings.username: Required value: claim or expression is required");
    assert_eq!(
        username(json!({"claim": "c"})),
        "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
    );
    assert_eq!(
        username(json!({"claim": "c", "expression": "claims.c"})),
        r#"jwt[0].claimMappings.username: Invalid value: "": claim and expression can't both be set"#
    );
    assert_eq!(
        username(json!({"expression": "claims.c", "prefix": "prefix"})),
        r#"jwt[0].claimMappings.username.prefix: Invalid value: "prefix": may not be specified when expression is set"#
    );
    assert_eq!(
        of_provider(&[("/claimMappings/uid", json!({"expression": "foo.bar"}))]),
        "jwt[0].claimMappings.uid.expression: Invalid value: \"foo.bar\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo.bar\n | ^"
    );
}

#[test]
fn keys_of_further_facts_are_lowercase_paths_of_other_domains() {
    let key = |own: &str| {
        let extra = json!([{"key": own, "valueExpression": "claims.c"}]);
        of_provider(&[("/claimMappings/extra", extra)])
    };
    assert_eq!(key("example.org/foo"), "");
    assert_eq!(key("xk8s.io/foo"), "");
    let at = "jwt[0].claimMappings.extra[0].key";
    assert_eq!(key(""), format!("{at}: Required value"));
    assert_eq!(
        key("foo"),
        format!(r#"{at}: Invalid value: "foo": must be a domain-prefixed path (such as "acme.io/foo")"#)
    );
    assert_eq!(key("example.org/Foo"), format!(r#"{at}: Invalid value: "example.org/Foo": must be lowercase"#));
    for reserved in ["k8s.io/foo", "example.k8s.io/foo", "kubernetes.io/foo", "example.kubernetes.io/foo"] {
        assert_eq!(key(reserved), format!(r#"{at}: Invalid value: "{reserved}": {RESERVED}"#));
    }
    let twice = json!([{"key": "a.org/b", "valueExpression": ""}, {"key": "a.org/b", "valueExpression": "claims.c"}]);
    assert_eq!(
        of_provider(&[("/claimMappings/extra", twice)]),
        r#"[jwt[0].claimMappings.extra[0].valueExpression: Required value, jwt[0].claimMappings.extra[1].key: Duplicate value: "a.org/b"]"#
    );
}

#[test]
fn a_name_of_an_address_needs_the_address_verified() {
    let refused = |expression: &str| {
        let fault = of_provider(&[("/claimMappings/username", json!({"expression": expression}))]);
        fault.ends_with(EMAIL)
    };
    for unverified in [
        "claims.email",
        "claims.?email",
        "has(claims.email) ? claims.email : claims.sub",
        "['a'].map(i, i + claims.email)",
        "{claims.?email: 'panda'}",
    ] {
        assert!(refused(unverified), "{unverified}");
    }
    for verified in ["claims.sub", "claims.email_verified ? claims.email : claims.sub", "claims.emails"] {
        assert!(!refused(verified), "{verified}");
    }
    let username = ("/claimMappings/username", json!({"expression": "claims.email"}));
    let extra = json!([{"key": "a.org/b", "valueExpression": "string(claims.?email_verified.orValue(false))"}]);
    assert_eq!(of_provider(&[username.clone(), ("/claimMappings/extra", extra)]), "");
    let rules = json!([{"expression": "claims.email_verified == true"}]);
    assert_eq!(of_provider(&[username, ("/claimValidationRules", rules)]), "");
}
