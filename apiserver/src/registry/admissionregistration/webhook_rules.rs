//! What holds for webhooks.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use martello_api::status::Cause;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use super::rules;
use crate::{
    cel::functions::url::Url,
    registry::{
        object,
        validation::{expression::Scope, field::Field, selector, text},
    },
};

/// Versions of reviews that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const URL_FORM: &str = "; desired format: https://host[/path]";

/// What is asked of webhooks: what was stored before a rule was made may stay.
#[derive(Clone, Copy, Debug)]
pub struct Strictness {
    conditions: bool,
    harmless: bool,
    known_version: bool,
    unique: bool,
    selectors: bool,
}

impl Strictness {
    /// Of a new object.
    pub const FULL: Self =
        Self { conditions: true, harmless: true, known_version: true, unique: true, selectors: true };

    /// Of a changed object, given what it was.
    #[must_use]
    pub fn after(old: &Value, new: &Value) -> Self {
        let hooks = object::list(old, &["webhooks"]);
        let now = object::list(new, &["webhooks"]);
        let same =
            |left: &Value, right: &Value| object::same(left.get("matchConditions"), right.get("matchConditions"));
        let names: Vec<&str> = hooks.iter().map(|hook| object::text(hook, &["name"])).collect();
        let versions = |hook: &Value| -> Vec<String> {
            object::list(hook, &["admissionReviewVersions"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Self {
            conditions: hooks.len() != now.len() || !hooks.iter().zip(now).all(|(left, right)| same(left, right)),
            harmless: hooks.iter().all(|hook| HARMLESS.contains(&object::text(hook, &["sideEffects"]))),
            known_version: hooks.iter().all(|hook| {
                let versions = versions(hook);
                versions.is_empty() || versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
            }),
            unique: names.iter().enumerate().all(|(at, name)| !names.iter().take(at).any(|other| other == name)),
            selectors: hooks.iter().all(sound_selectors),
        }
    }
}

fn sound_selectors(hook: &Value) -> bool {
    let mut causes = Vec::new();
    for key in ["namespaceSelector", "objectSelector"] {
        selector::check(hook.get(key), key, &mut causes);
    }
    causes.is_empty()
}

/// Checks the webhooks of a configuration.
pub fn check(configuration: &Value, asked: Strictness, mutating: bool, causes: &mut Vec<Cause>) {
    let whole = Field::new(configuration, "");
    let mut seen = HashSet::new();
    for hook in whole.items("webhooks") {
        check_hook(&hook, asked, mutating, causes);
        review_versions(&hook, asked, causes);
        let name = hook.at("name");
        if asked.unique && !name.text().is_empty() && seen.contains(&name.text()) {
            name.duplicate(causes);
        }
        seen.insert(name.text());
    }
}

fn check_hook(hook: &Field<'_>, asked: Strictness, mutating: bool, causes: &mut Vec<Cause>) {
    qualified(&hook.at("name"), causes);
    hook.items("rules").iter().for_each(|rule| rules::rule(rule, causes));
    for (key, known) in [("failurePolicy", &rules::FAILURE_POLICIES), ("matchPolicy", &rules::MATCH_POLICIES)] {
        if let Some(policy) = hook.get(key) {
            policy.one_of(known, causes);
        }
    }
    let allowed: &[&str] = if asked.harmless { &HARMLESS } else { &SIDE_EFFECTS };
    match hook.get("sideEffects") {
        None => hook.at("sideEffects").required(&format!("must specify one of {}", allowed.join(", ")), causes),
        Some(effects) => effects.one_of(allowed, causes),
    }
    let timeout = hook.at("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        timeout.invalid("the timeout value must be between 1 and 30 seconds", causes);
    }
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(found) = hook.get(key).filter(|_| asked.selectors) {
            selector::check(Some(found.value), &found.path, causes);
        }
    }
    if mutating && let Some(policy) = hook.get("reinvocationPolicy") {
        policy.one_of(&["IfNeeded", "Never"], causes);
    }
    client(&hook.at("clientConfig"), causes);
    if asked.conditions {
        rules::conditions(hook, &Scope::default(), causes);
    }
}

fn qualified(name: &Field<'_>, causes: &mut Vec<Cause>) {
    if !name.needs_text(causes) {
        return;
    }
    let faults = text::dns1123_subdomain(name.text());
    if !faults.is_empty() {
        return name.invalid(&faults.join(","), causes);
    }
    if name.text().split('.').count() < 3 {
        name.invalid("should be a domain with at least three segments separated by dots", causes);
    }
}

fn review_versions(hook: &Field<'_>, asked: Strictness, causes: &mut Vec<Cause>) {
    let (all, versions) = (hook.at("admissionReviewVersions"), hook.items("admissionReviewVersions"));
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return all.required(&format!("must specify one of {known}"), causes);
    }
    let mut seen = HashSet::new();
    for version in &versions {
        if seen.contains(&version.text()) {
            version.invalid("duplicate version", causes);
            continue;
        }
        seen.insert(version.text());
        version.check(text::dns1035_label, causes);
    }
    if asked.known_version && !seen.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        all.invalid(&format!("must include at least one of {known}"), causes);
    }
}

fn client(client: &Field<'_>, causes: &mut Vec<Cause>) {
    match (client.get("url"), client.get("service")) {
        (Some(url), None) => check_url(&url, causes),
        (None, Some(service)) => check_service(&service, causes),
        _ => client.required("exactly one of url or service is required", causes),
    }
}

/// Checks the URL of a webhook: https, a host, a path, and nothing else.
pub fn check_url(url: &Field<'_>, causes: &mut Vec<Cause>) {
    let refuse = |value: &str, why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(url.path.as_str(), &json!(value), why));
    };
    let parsed = match Url::parse(url.text()) {
        Ok(parsed) => parsed,
        Err(why) => return url.required(&format!("url must be a valid URL: {why}{URL_FORM}"), causes),
    };
    if parsed.scheme() != "https" {
        refuse(parsed.scheme(), &format!("'https' is the only allowed URL scheme{URL_FORM}"), causes);
    }
    if parsed.host().is_empty() {
        refuse("", &format!("host must be specified{URL_FORM}"), causes);
    }
    if let Some(user) = parsed.user() {
        refuse(user, "user information is not permitted in the URL", causes);
    }
    if !parsed.fragment().is_empty() {
        refuse(parsed.fragment(), "fragments are not permitted in the URL", causes);
    }
    if !parsed.query().is_empty() {
        refuse(parsed.query(), "query parameters are not permitted in the URL", causes);
    }
}

/// What is wrong with the certificates that a webhook is trusted by, if anything.
#[must_use]
pub fn bundle_fault(bundle: &str) -> Option<String> {
    if bundle.is_empty() {
        return None;
    }
    const FAILED: &str = "unable to load root certificates:";
    let pem = STANDARD.decode(bundle).unwrap_or_default();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.iter().any(|one| RootCertStore::empty().add(one.clone()).is_ok()) => None,
        Ok(found) if !found.is_empty() => {
            Some(format!("{FAILED} failed to parse certificate: x509: malformed certificate"))
        }
        Ok(_) if pem.starts_with(b"-----BEGIN") => Some(format!("{FAILED} no valid certificate authority data seen")),
        _ => Some(format!("{FAILED} unable to parse bytes as PEM block")),
    }
}

/// Checks the Service of a webhook.
pub fn check_service(service: &Field<'_>, causes: &mut Vec<Cause>) {
    // Upstream takes the name for the namespace here, and the other way round.
    for (key, missing) in [("name", "namespace"), ("namespace", "name")] {
        if service.str(missing).is_empty() {
            service.at(key).required("", causes);
        }
    }
    let port = service.at("port");
    let faults = text::port_number(port.int().unwrap_or(0));
    if !faults.is_empty() {
        port.invalid(&format!("port is not valid: {}", faults.join(", ")), causes);
    }
    let path = service.at("path");
    if matches!(path.text(), "" | "/") {
        return;
    }
    if path.text() == "//" {
        return path.invalid("segment[0] may not be empty", causes);
    }
    let segments = path.text().strip_prefix('/').unwrap_or_else(|| {
        path.invalid("must start with a '/'", causes);
        path.text().get(1..).unwrap_or_default()
    });
    for (index, segment) in segments.strip_suffix('/').unwrap_or(segments).split('/').enumerate() {
        if segment.is_empty() {
            path.invalid(&format!("segment[{index}] may not be empty"), causes);
            continue;
        }
        for fault in text::dns1123_subdomain(segment) {
            path.invalid(&format!("segment[{index}]: {fault}"), causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(client_config: Value) -> Vec<String> {
        let mut causes = Vec::new();
        client(&Field::new(&client_config, "c"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_webhook_is_called_over_https_and_nothing_more() {
        assert_eq!(faults(json!({"url": "https://a.example.com:8443/x"})), Vec::<String>::new());
        assert_eq!(
            faults(json!({"url": "http://u@h/x?q#f"})),
            [
                "c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "c.url: Invalid value: \"u\": user information is not permitted in the URL",
                "c.url: Invalid value: \"f\": fragments are not permitted in the URL",
                "c.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ]
        );
        assert_eq!(
            faults(json!({"url": "https://h:x"})),
            [
                "c.url: Required value: url must be a valid URL: parse \"https://h:x\": invalid port \":x\" after host; desired format: https://host[/path]"
            ]
        );
        assert_eq!(
            faults(json!({"url": "https:"})),
            ["c.url: Invalid value: \"\": host must be specified; desired format: https://host[/path]"]
        );
        assert_eq!(faults(json!({})), ["c: Required value: exactly one of url or service is required"]);
        assert_eq!(
            faults(json!({"service": {"namespace": "", "name": "s", "port": 443}})),
            ["c.service.name: Required value"]
        );
        assert_eq!(
            faults(json!({"service": {"namespace": "n", "name": "s", "port": 443, "path": "a//b"}})),
            [
                "c.service.path: Invalid value: \"a//b\": must start with a '/'",
                "c.service.path: Invalid value: \"a//b\": segment[0] may not be empty",
                "c.service.path: Invalid value: \"a//b\": segment[1] may not be empty",
            ]
        );
    }

    #[test]
    fn what_was_stored_before_a_rule_may_stay() {
        let old = json!({"webhooks": [{"name": "a", "sideEffects": "Some"}, {"name": "a", "sideEffects": "Some"}]});
        let asked = Strictness::after(&old, &old);
        assert!(!asked.harmless && !asked.unique && !asked.conditions && asked.known_version && asked.selectors);
    }
}
