//! Claims on devices: what a pod claims, and which of its containers use it.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::validation::{field::Field, text};

/// Checks the claims of a pod.
pub(super) fn check_pod(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for claim in spec.items("resourceClaims") {
        let name = claim.at("name");
        if name.text().is_empty() {
            name.required("", causes);
        } else if seen.contains(&name.text()) {
            name.duplicate(causes);
        } else {
            name.check(text::dns1123_label, causes);
            seen.insert(name.text());
        }
        source(&claim, causes);
    }
}

fn source(claim: &Field<'_>, causes: &mut Vec<Cause>) {
    let (own, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
    let why = match (&own, &template) {
        (Some(_), Some(_)) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        _ => "",
    };
    if !why.is_empty() {
        let of = |key: &str| claim.value.get(key).cloned().unwrap_or(Value::Null);
        let shown = json!({
            "Name": claim.str("name"),
            "ResourceClaimName": of("resourceClaimName"),
            "ResourceClaimTemplateName": of("resourceClaimTemplateName"),
        });
        causes.push(Cause::invalid(claim.path.as_str(), &shown, why));
    }
    for name in own.iter().chain(&template) {
        name.check(text::dns1123_subdomain, causes);
    }
}

/// Checks that a container uses what its pod claims.
pub(super) fn check_container(spec: &Field<'_>, resources: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut claimed: Vec<&str> =
        spec.items("resourceClaims").iter().map(|claim| claim.str("name")).filter(|name| !name.is_empty()).collect();
    claimed.sort_unstable();
    claimed.dedup();
    let mut seen: Vec<String> = Vec::new();
    for claim in resources.items("claims") {
        let name = claim.str("name");
        if name.is_empty() {
            claim.required("", causes);
            continue;
        }
        again(&claim, &mut seen, causes);
        if !claimed.contains(&name) {
            let known =
                if claimed.is_empty() { " which is empty".to_owned() } else { format!(": {}", claimed.join(", ")) };
            let why = format!("Not found: {name:?}: must be one of the names in pod.spec.resourceClaims{known}");
            causes.push(Cause::new("FieldValueNotFound", claim.path.as_str(), why));
        }
    }
}

/// What is used once, as a whole or a part of it, is not used again. `seen` are `claim` and `claim/request`.
fn again(claim: &Field<'_>, seen: &mut Vec<String>, causes: &mut Vec<Cause>) {
    let (name, request) = (claim.str("name"), claim.str("request"));
    let duplicate = |key: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::duplicate(claim.path.as_str(), &key.into()));
    };
    if seen.iter().any(|own| own == name) {
        return duplicate(name, causes);
    }
    claim.at("request").check_if_set(text::dns1123_label, causes);
    let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
    if seen.contains(&key) {
        duplicate(&key, causes);
    } else if request.is_empty() {
        let parts = seen.iter().filter(|own| own.split_once('/').is_some_and(|(claim, _)| claim == name));
        parts.for_each(|_| duplicate(name, causes));
    }
    seen.push(key);
}
