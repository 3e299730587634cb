//! What is served against what Kubernetes 1.36 tells of itself, by tables of facts that were derived from its discovery
//! and its OpenAPI (`tests/upstream/*.txt`; `make reference` derives them again and holds them against their source).

#![allow(clippy::unwrap_used, clippy::panic, reason = "what sets a test up fails as the test does")]

use std::collections::BTreeSet;

use martello_apiserver::{
    discovery::Documents,
    http::documents::described,
    openapi::{Described, OpenApi},
    registry::{Registry, versions::RuntimeConfig},
};
use serde_json::Value;

mod facts;

use facts::Facts;

const OPENAPI: &str = include_str!("upstream/openapi.txt");
const DISCOVERY: &str = include_str!("upstream/discovery.txt");
const SECOND: &str = include_str!("upstream/openapi_v2.txt");

/// Places that are not served, each with its reason.
const NOT_SERVED: [(&str, &str); 1] =
    [("logs", "the logs of the server's machine are nobody's who only has an identity")];

/// Facts of a file: a place, then its lines.
fn read(text: &str) -> Facts {
    let mut facts = Facts::new();
    let mut place = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('@') {
            Some(name) => {
                name.clone_into(&mut place);
                facts.entry(place.clone()).or_default();
            }
            None => {
                facts.entry(place.clone()).or_default().insert(line.to_owned());
            }
        }
    }
    facts
}

/// Everything that can be switched on.
fn registry() -> Registry {
    Registry::serving(&RuntimeConfig::parse(&["api/all=true".to_owned()]).unwrap())
}

fn is_ours(group: &str) -> bool {
    group == "martello.dev"
}

fn differences(ours: &Facts, theirs: &Facts) -> Vec<String> {
    let is_excused = |place: &str, line: &str| {
        NOT_SERVED.iter().any(|(excused, _)| *excused == place || line.starts_with(&format!("/{excused}/")))
    };
    let none = BTreeSet::new();
    let places: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut found = Vec::new();
    for place in places {
        let (mine, known) = (ours.get(place).unwrap_or(&none), theirs.get(place).unwrap_or(&none));
        let missing = known.difference(mine).filter(|line| !is_excused(place, line));
        found.extend(missing.map(|line| format!("{place}: missing {line}")));
        found.extend(mine.difference(known).map(|line| format!("{place}: told and not known {line}")));
    }
    found
}

fn openapi() -> OpenApi {
    let open: Vec<Described> =
        described(&registry()).into_iter().filter(|one| !is_ours(&one.resource.gvk.group)).collect();
    OpenApi::new(&open, "v1.36.0")
}

#[test]
fn version_two_of_openapi_tells_what_upstream_tells() {
    let document: Value = serde_json::from_slice(&openapi().v2_json().plain()).unwrap();
    let told = Facts::from([("openapi/v2".to_owned(), facts::of_second(&document))]);
    let found = differences(&told, &read(SECOND));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn openapi_tells_what_upstream_tells() {
    let open = openapi();
    let index: Value = serde_json::from_slice(open.v3_index()).unwrap();
    let places = index.get("paths").and_then(Value::as_object).unwrap().keys();
    let told = places.map(|place| {
        let document: Value = serde_json::from_slice(&open.v3(place).unwrap().0.plain()).unwrap();
        (place.clone(), facts::of_document(&document))
    });
    let found = differences(&told.collect(), &read(OPENAPI));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn discovery_tells_what_upstream_tells() {
    let resources: Vec<_> = registry().resources().filter(|one| !is_ours(&one.gvk.group)).cloned().collect();
    let documents = Documents::new(&resources, "127.0.0.1:6443");
    let versions: BTreeSet<(&str, &str)> = resources.iter().map(|one| (&*one.gvk.group, &*one.gvk.version)).collect();
    let told = versions.into_iter().map(|(group, version)| {
        let place = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let document: Value = serde_json::from_slice(&documents.resources(group, version).unwrap()).unwrap();
        (place, facts::of_resources(&document))
    });
    let found = differences(&told.collect(), &read(DISCOVERY));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
