//! Claims on devices: what a pod claims, and which of its containers use it.

use std::collections::{BTreeSet, HashMap, HashSet};

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::validation::{
    field::{Field, NOWHERE},
    text,
};

/// So many faults are enough: an answer shows a few of them.
const MOST_TOLD: usize = 1_000;
/// So many names of claims does a message list: it comes for each use of one that isn't there.
const MOST_NAMES: usize = 20;
/// No longer text is the name of a claim.
const MAX_NAME_BYTES: usize = 63;

/// What a pod claims, put together once for all of its containers.
pub(super) struct Claimed<'a> {
    names: BTreeSet<&'a str>,
    /// The names as messages list them.
    shown: String,
}

impl<'a> Claimed<'a> {
    pub(super) fn of(spec: &Field<'a>) -> Self {
        let claims = spec.items("resourceClaims");
        let names: BTreeSet<&str> =
            claims.iter().map(|claim| claim.str("name")).filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Self { names, shown: " which is empty".to_owned() };
        }
        let fits = names.iter().copied().filter(|name| name.len() <= MAX_NAME_BYTES);
        let mut listed: Vec<&str> = fits.take(MOST_NAMES).collect();
        if listed.len() < names.len() {
            listed.push("…");
        }
        let shown = format!(": {}", listed.join(", "));
        Self { names, shown }
    }
}

/// Checks the claims of a pod; `mirror` is of those that a node's own files describe.
pub(super) fn check_pod(spec: &Field<'_>, mirror: bool, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for claim in spec.items("resourceClaims") {
        if mirror {
            causes.push(Cause::forbidden(NOWHERE, "static pods do not support resource claims"));
            continue;
        }
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
pub(super) fn check_container(claimed: &Claimed<'_>, resources: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut used = Used::default();
    for claim in resources.items("claims") {
        if causes.len() >= MOST_TOLD {
            return;
        }
        let name = claim.str("name");
        if name.is_empty() {
            claim.required("", causes);
            continue;
        }
        used.add(&claim, causes);
        if !claimed.names.contains(name) {
            let known = &claimed.shown;
            let why = format!("Not found: {name:?}: must be one of the names in pod.spec.resourceClaims{known}");
            causes.push(Cause::new("FieldValueNotFound", claim.path.as_str(), why));
        }
    }
}

/// What a container uses so far.
#[derive(Default)]
struct Used {
    /// `claim` and `claim/request`.
    keys: HashSet<String>,
    /// How many parts of a claim are used.
    parts: HashMap<String, usize>,
}

impl Used {
    /// What is used once, as a whole or a part of it, is not used again.
    fn add(&mut self, claim: &Field<'_>, causes: &mut Vec<Cause>) {
        let (name, request) = (claim.str("name"), claim.str("request"));
        let duplicate = |key: &str, causes: &mut Vec<Cause>| {
            causes.push(Cause::duplicate(claim.path.as_str(), &key.into()));
        };
        if self.keys.contains(name) {
            return duplicate(name, causes);
        }
        claim.at("request").check_if_set(text::dns1123_label, causes);
        let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        if self.keys.contains(&key) {
            duplicate(&key, causes);
        } else if request.is_empty() {
            let parts = self.parts.get(name).copied().unwrap_or(0);
            (0..parts.min(MOST_TOLD)).for_each(|_| duplicate(name, causes));
        }
        if let Some((whole, _)) = key.split_once('/') {
            *self.parts.entry(whole.to_owned()).or_default() += 1;
        }
        self.keys.insert(key);
    }
}
