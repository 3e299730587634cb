//! Claims on devices: what a pod claims, and which of its containers use it.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::validation::{field::Field, text};

/// Checks the claims of a pod.
pub(super) fn check_pod(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in spec.items("resourceClaims") {
        let name = claim.at("name");
        if name.text().is_empty() {
            name.required("", causes);
        } else if seen.contains(&name.text()) {
            name.duplicate(causes);
        } else {
            name.check(text::dns1123_label, causes);
            seen.push(name.text());
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
    let claimed: Vec<&str> =
        spec.items("resourceClaims").iter().map(|claim| claim.str("name")).filter(|name| !name.is_empty()).collect();
    let mut seen: Vec<String> = Vec::new();
    for claim in resources.items("claims") {
        let (name, request) = (claim.str("name"), claim.str("request"));
        if name.is_empty() {
            claim.required("", causes);
            continue;
        }
        claim.at("request").check_if_set(text::dns1123_label, causes);
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        let whole = seen.iter().any(|own| own == name || request.is_empty() && own.starts_with(&format!("{name}/")));
        if whole || seen.contains(&key) {
            causes.push(Cause::duplicate(claim.path.as_str(), &key.as_str().into()));
        }
        seen.push(key);
        if !claimed.contains(&name) {
            let known =
                if claimed.is_empty() { " which is empty".to_owned() } else { format!(": {}", claimed.join(", ")) };
            let why = format!("Not found: {name:?}: must be one of the names in pod.spec.resourceClaims{known}");
            causes.push(Cause::new("FieldValueNotFound", claim.path.as_str(), why));
        }
    }
}
