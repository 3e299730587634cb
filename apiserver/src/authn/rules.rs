//! What holds of an `AuthenticationConfiguration`, in upstream's order and words. All faults are told at once.

use std::{collections::HashSet, sync::Arc};

use martello_api::status::Cause;
use martello_pki::token::DEFAULT_ISSUER;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use super::config::{
    Anonymous, AuthenticationConfiguration, ClaimRule, Expression, Extra, Issuer, Mapping, Mappings, Provider,
};
use crate::{
    cel::{CompileError, Environment, Fields, Program, Type, functions::url::Url},
    registry::validation::field::Field,
};

/// Most providers, as upstream's.
const MAX_PROVIDERS: usize = 64;
const ANY_AUDIENCE: &str = "MatchAny";
const EGRESSES: [&str; 2] = ["controlplane", "cluster"];
const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
const NO_PREFIX: &str = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
const RESERVED: &str = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
const EMAIL: &str = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";

/// Everything that is wrong with a configuration.
#[must_use]
pub fn faults(config: &AuthenticationConfiguration) -> Vec<Cause> {
    let mut causes = Vec::new();
    if config.jwt.len() > MAX_PROVIDERS {
        Field::new(&Value::Null, "jwt").too_many(config.jwt.len(), MAX_PROVIDERS, &mut causes);
        return causes;
    }
    let claims = Environment::with(vec![("claims", Type::map(Type::String, Type::Dyn))]);
    let user = Environment::with(vec![("user", user_type())]);
    let (mut issuers, mut discoveries) = (HashSet::new(), HashSet::new());
    for (index, provider) in config.jwt.iter().enumerate() {
        let path = format!("jwt[{index}]");
        check_issuer(&provider.issuer, &format!("{path}.issuer"), &mut causes);
        check_claims(provider, &path, &claims, &mut causes);
        check_user_rules(&provider.user_validation_rules, &path, &user, &mut causes);
        let (url, discovery) = (provider.issuer.url.as_str(), provider.issuer.discovery_url.as_str());
        if !issuers.insert(url) {
            causes.push(Cause::duplicate(format!("{path}.issuer.url"), &json!(url)));
        }
        if !discovery.is_empty() && !discoveries.insert(discovery) {
            causes.push(Cause::duplicate(format!("{path}.issuer.discoveryURL"), &json!(discovery)));
        }
    }
    if let Some(anonymous) = &config.anonymous {
        check_anonymous(anonymous, &mut causes);
    }
    causes
}

/// Faults as one line tells them, each once.
#[must_use]
pub fn told(causes: &[Cause]) -> String {
    let mut seen = HashSet::new();
    let mut lines: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    lines.retain(|line| seen.insert(line.clone()));
    match lines.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

/// What user validation rules see.
fn user_type() -> Type {
    let fields = vec![
        ("username".to_owned(), Type::String),
        ("uid".to_owned(), Type::String),
        ("groups".to_owned(), Type::list(Type::String)),
        ("extra".to_owned(), Type::map(Type::String, Type::list(Type::String))),
    ];
    Type::Object(Arc::new(Fields::typed("kubernetes.UserInfo", fields)))
}

fn check_anonymous(anonymous: &Anonymous, causes: &mut Vec<Cause>) {
    if !anonymous.enabled && !anonymous.conditions.is_empty() {
        let shown: Vec<Value> = anonymous.conditions.iter().map(|condition| json!({"Path": condition.path})).collect();
        let why = "enabled should be set to true when conditions are defined";
        causes.push(Cause::invalid("anonymous.conditions", &Value::Array(shown), why));
    }
}

fn check_issuer(issuer: &Issuer, path: &str, causes: &mut Vec<Cause>) {
    let url = format!("{path}.url");
    if issuer.url.is_empty() {
        causes.push(Cause::required(url, ""));
    } else {
        // Whoever signs as this server itself would make any service account.
        if issuer.url == DEFAULT_ISSUER {
            let why = format!("URL must not overlap with disallowed issuers: [{DEFAULT_ISSUER}]");
            causes.push(Cause::invalid(url.as_str(), &json!(issuer.url), &why));
        }
        check_url(&issuer.url, &url, causes);
    }
    if !issuer.discovery_url.is_empty() {
        let discovery = format!("{path}.discoveryURL");
        let is_same = issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/');
        if !issuer.url.is_empty() && is_same {
            let why = "discoveryURL must be different from URL";
            causes.push(Cause::invalid(discovery.as_str(), &json!(issuer.discovery_url), why));
        }
        check_url(&issuer.discovery_url, &discovery, causes);
    }
    check_audiences(issuer, path, causes);
    check_authority(&issuer.certificate_authority, format!("{path}.certificateAuthority"), causes);
    check_egress(&issuer.egress_selector_type, format!("{path}.egressSelectorType"), causes);
}

fn check_url(text: &str, path: &str, causes: &mut Vec<Cause>) {
    let mut refuse = |why: &str| causes.push(Cause::invalid(path, &json!(text), why));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => return refuse(&why),
    };
    if url.scheme() != "https" {
        refuse("URL scheme must be https");
    }
    if url.user().is_some() {
        refuse("URL must not contain a username or password");
    }
    if !url.query().is_empty() {
        refuse("URL must not contain a query");
    }
    if !url.fragment().is_empty() {
        refuse("URL must not contain a fragment");
    }
}

fn check_audiences(issuer: &Issuer, path: &str, causes: &mut Vec<Cause>) {
    let audiences = format!("{path}.audiences");
    if issuer.audiences.is_empty() {
        let why = format!("at least one {audiences} is required");
        return causes.push(Cause::required(audiences, &why));
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let path = format!("{audiences}[{index}]");
        if audience.is_empty() {
            causes.push(Cause::required(path.as_str(), ""));
        }
        if !seen.insert(audience.as_str()) {
            causes.push(Cause::duplicate(path, &json!(audience)));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let why = match issuer.audiences.len() {
        1 if policy.is_empty() => return,
        1 => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    if policy != ANY_AUDIENCE {
        causes.push(Cause::invalid(format!("{path}.audienceMatchPolicy"), &json!(policy), why));
    }
}

fn check_authority(pem: &str, path: String, causes: &mut Vec<Cause>) {
    if pem.is_empty() {
        return causes.push(Cause::required(path, "this server trusts no authority of the public web"));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = read.unwrap_or_default();
    let why = if found.is_empty() {
        "data does not contain any valid RSA or ECDSA certificates"
    } else if found.iter().any(|one| RootCertStore::empty().add(one.clone()).is_err()) {
        "x509: malformed certificate"
    } else {
        return;
    };
    causes.push(Cause::invalid(path, &json!("<omitted>"), why));
}

fn check_egress(egress: &str, path: String, causes: &mut Vec<Cause>) {
    if EGRESSES.contains(&egress) {
        causes.push(Cause::forbidden(path, "this server has no egress selectors: it reaches issuers itself"));
    } else if !egress.is_empty() {
        let why = "egress selector must be either controlplane or cluster";
        causes.push(Cause::invalid(path, &json!(egress), why));
    }
}

fn check_claims(provider: &Provider, path: &str, claims: &Environment, causes: &mut Vec<Cause>) {
    let rules = format!("{path}.claimValidationRules");
    let mut is_verified = check_claim_rules(&provider.claim_validation_rules, &rules, claims, causes);
    let (maps, path) = (&provider.claim_mappings, format!("{path}.claimMappings"));
    let username = check_names(maps, &path, claims, causes);
    is_verified |= check_extra(&maps.extra, &format!("{path}.extra"), claims, causes);
    let Some(username) = username else { return };
    is_verified |= looks_at_verification(&username);
    if username.selects("claims", "email") && !is_verified {
        let expression = json!(maps.username.expression);
        causes.push(Cause::invalid(format!("{path}.username.expression"), &expression, EMAIL));
    }
}

fn looks_at_verification(program: &Program) -> bool {
    program.selects("claims", "email_verified")
}

/// Checks the rules on claims; answers whether one of them looks whether the address is verified.
fn check_claim_rules(rules: &[ClaimRule], path: &str, environment: &Environment, causes: &mut Vec<Cause>) -> bool {
    let (mut claims, mut expressions) = (HashSet::new(), HashSet::new());
    let mut is_verified = false;
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let at = |key: &str| format!("{path}.{key}");
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => causes.push(Cause::invalid(path.as_str(), &json!(rule.claim), BOTH)),
            (true, true) => causes.push(Cause::required(path.as_str(), NEITHER)),
            (false, true) => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    causes.push(Cause::invalid(at("message"), &json!(rule.message), why));
                }
                if !claims.insert(rule.claim.as_str()) {
                    causes.push(Cause::duplicate(at("claim"), &json!(rule.claim)));
                }
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    causes.push(Cause::invalid(at("requiredValue"), &json!(rule.required_value), why));
                }
                if expressions.insert(rule.expression.as_str()) {
                    let program = compiled(environment, at("expression"), &rule.expression, &[Type::Bool], causes);
                    is_verified |= program.as_ref().is_some_and(looks_at_verification);
                } else {
                    causes.push(Cause::duplicate(at("expression"), &json!(rule.expression)));
                }
            }
        }
    }
    is_verified
}

/// Checks what makes name, groups and UID; answers the expression of the name, if that is one.
fn check_names(maps: &Mappings, path: &str, claims: &Environment, causes: &mut Vec<Cause>) -> Option<Program> {
    let username = format!("{path}.username");
    if maps.username.claim.is_empty() && maps.username.expression.is_empty() {
        causes.push(Cause::required(username.as_str(), NEITHER));
    }
    let program = check_mapping(&maps.username, &username, claims, causes);
    check_mapping(&maps.groups, &format!("{path}.groups"), claims, causes);
    match (maps.uid.claim.is_empty(), maps.uid.expression.is_empty()) {
        (false, false) => causes.push(Cause::invalid(format!("{path}.uid"), &json!(""), BOTH)),
        (true, false) => {
            compiled(claims, format!("{path}.uid.expression"), &maps.uid.expression, &[], causes);
        }
        _ => {}
    }
    program
}

/// Checks a mapping; answers its expression where nothing is wrong.
fn check_mapping(mapping: &Mapping, path: &str, claims: &Environment, causes: &mut Vec<Cause>) -> Option<Program> {
    match (mapping.claim.is_empty(), mapping.expression.is_empty()) {
        (false, false) => causes.push(Cause::invalid(path, &json!(""), BOTH)),
        (false, true) if mapping.prefix.is_none() => {
            causes.push(Cause::required(format!("{path}.prefix"), NO_PREFIX));
        }
        (true, false) => {
            if let Some(prefix) = &mapping.prefix {
                let why = "may not be specified when expression is set";
                causes.push(Cause::invalid(format!("{path}.prefix"), &json!(prefix), why));
            }
            let program = compiled(claims, format!("{path}.expression"), &mapping.expression, &[], causes);
            return program.filter(|_| mapping.prefix.is_none());
        }
        _ => {}
    }
    None
}

/// Checks further facts; answers whether one of them looks whether the address is verified.
fn check_extra(all: &[Extra], path: &str, claims: &Environment, causes: &mut Vec<Cause>) -> bool {
    let mut seen = HashSet::new();
    let mut is_verified = false;
    for (index, extra) in all.iter().enumerate() {
        let (key, value) = (format!("{path}[{index}].key"), format!("{path}[{index}].valueExpression"));
        let name = json!(extra.key);
        Field::new(&name, key.as_str()).domain_prefixed_path(causes);
        if extra.key != extra.key.to_lowercase() {
            causes.push(Cause::invalid(key.as_str(), &name, "must be lowercase"));
        }
        if is_reserved(&extra.key) {
            causes.push(Cause::invalid(key.as_str(), &name, RESERVED));
        }
        if !seen.insert(extra.key.as_str()) {
            causes.push(Cause::duplicate(key, &name));
        } else if extra.value_expression.is_empty() {
            causes.push(Cause::required(value, ""));
        } else {
            let program = compiled(claims, value, &extra.value_expression, &[], causes);
            is_verified |= program.as_ref().is_some_and(looks_at_verification);
        }
    }
    is_verified
}

/// Whether a key is of a domain of Kubernetes itself.
fn is_reserved(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"]
        .into_iter()
        .any(|own| domain.strip_suffix(own).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

fn check_user_rules(rules: &[Expression], path: &str, user: &Environment, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.userValidationRules[{index}].expression");
        if rule.expression.is_empty() {
            causes.push(Cause::required(path, ""));
        } else if seen.insert(rule.expression.as_str()) {
            compiled(user, path, &rule.expression, &[Type::Bool], causes);
        } else {
            causes.push(Cause::duplicate(path, &json!(rule.expression)));
        }
    }
}

/// An expression, compiled, or complained of. Its result must be of one of these types, if any are given.
fn compiled(
    environment: &Environment,
    path: String,
    text: &str,
    wanted: &[Type],
    causes: &mut Vec<Cause>,
) -> Option<Program> {
    let outcome = if wanted.is_empty() { of_any_type(environment, text) } else { environment.compile_as(text, wanted) };
    let cause = match outcome {
        Ok(program) => return Some(program),
        Err(CompileError::Output { wanted, .. }) => {
            Cause::invalid(path, &json!(text), &format!("must evaluate to {wanted}"))
        }
        Err(error @ CompileError::Issues(_)) => Cause::invalid(path, &json!(text), &error.to_string()),
        Err(error @ CompileError::Instantiation(_)) => {
            Cause::new("InternalError", path, format!("Internal error: {error}"))
        }
    };
    causes.push(cause);
    None
}

fn of_any_type(environment: &Environment, text: &str) -> Result<Program, CompileError> {
    let program = environment.compile(text).map_err(CompileError::Issues)?;
    match program.unready() {
        None => Ok(program),
        Some(why) => Err(CompileError::Instantiation(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(
            username(json!({})),
            "jwt[0].claimMappings.username: Required value: claim or expression is required"
        );
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
        let twice =
            json!([{"key": "a.org/b", "valueExpression": ""}, {"key": "a.org/b", "valueExpression": "claims.c"}]);
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
}
