//! `claimValidationRules` and `claimMappings`: what must hold of claims, and what they make of a user.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::json;

use super::compiled;
use crate::{
    authn::config::{ClaimRule, Extra, Mapping, Mappings, Provider},
    cel::{Environment, Program, Type},
    registry::validation::field::Field,
};

const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
const NO_PREFIX: &str = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
pub(super) const RESERVED: &str = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
pub(super) const EMAIL: &str = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";

pub(super) fn check_claims(provider: &Provider, path: &str, claims: &Environment, causes: &mut Vec<Cause>) {
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
