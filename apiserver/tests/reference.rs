//! What is served against what another server of the same API told, where `MARTELLO_REFERENCE` names a folder that
//! holds its discovery documents and its OpenAPI. Without that folder there is nothing to compare with.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

use martello_api::resource::Resource;
use martello_apiserver::{
    discovery::Documents,
    http::documents::described,
    openapi::{Described, OpenApi},
    registry::{Registry, versions::RuntimeConfig},
};
use serde_json::Value;

mod facts;

use facts::Facts;

/// Names the folder.
const REFERENCE: &str = "MARTELLO_REFERENCE";
/// The version that the documents bear.
const VERSION: &str = "unversioned";

fn folder() -> Option<PathBuf> {
    env::var_os(REFERENCE).map(PathBuf::from)
}

fn read(path: PathBuf) -> Option<Value> {
    fs::read(path).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// Everything that can be switched on.
fn registry() -> Registry {
    Registry::serving(&RuntimeConfig::parse(&["api/all=true".to_owned()]).unwrap())
}

fn resources() -> Vec<Resource> {
    registry().resources().filter(|resource| resource.gvk.group != "martello.dev").cloned().collect()
}

fn openapi() -> OpenApi {
    let ours = |described: &Described| described.resource.gvk.group != "martello.dev";
    OpenApi::new(&described(&registry()).into_iter().filter(ours).collect::<Vec<_>>(), VERSION)
}

fn by<'v>(list: &'v Value, key: &str) -> BTreeMap<String, &'v Value> {
    let named = |one: &'v Value| (one[key].as_str().unwrap_or_default().to_owned(), one);
    list.as_array().into_iter().flatten().map(named).collect()
}

/// The values of `key`, in order, of those that both know.
fn shared_order(list: &Value, key: &str, known: &BTreeMap<String, &Value>) -> Vec<String> {
    let names = list.as_array().into_iter().flatten().map(|one| one[key].as_str().unwrap_or_default().to_owned());
    names.filter(|name| known.contains_key(name)).collect()
}

#[test]
fn every_resource_is_told_as_the_reference_tells_it() {
    let Some(folder) = folder().map(|folder| folder.join("discovery")) else { return };
    let resources = resources();
    let documents = Documents::new(&resources, "127.0.0.1:6443");
    let versions: BTreeSet<(String, String)> =
        resources.iter().map(|one| (one.gvk.group.to_string(), one.gvk.version.to_string())).collect();
    let mut faults = Vec::new();
    for (group, version) in &versions {
        let name =
            if group.is_empty() { format!("api__{version}.json") } else { format!("apis__{group}__{version}.json") };
        let Some(theirs) = read(folder.join(&name)) else {
            faults.push(format!("{group}/{version} is no version of the reference"));
            continue;
        };
        let ours: Value = serde_json::from_slice(&documents.resources(group, version).unwrap()).unwrap();
        let (mine, known) = (by(&ours["resources"], "name"), by(&theirs["resources"], "name"));
        for (name, told) in &mine {
            if known.get(name) != Some(told) {
                faults.push(format!("{group}/{version} {name}: {told} instead of {:?}", known.get(name)));
            }
        }
        for missing in known.keys().filter(|name| !mine.contains_key(*name)) {
            if missing.split_once('/').is_some_and(|(resource, _)| mine.contains_key(resource)) {
                faults.push(format!("{group}/{version} {missing} is missing"));
            }
        }
        let order = |list: &Value, known| shared_order(&list["resources"], "name", known);
        if order(&ours, &known) != order(&theirs, &mine) {
            faults.push(format!("{group}/{version}: another order"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_group_is_told_as_the_reference_tells_it() {
    let Some(folder) = folder().map(|folder| folder.join("discovery")) else { return };
    let documents = Documents::new(&resources(), "127.0.0.1:6443");
    let ours: Value = serde_json::from_slice(&documents.apis).unwrap();
    assert_eq!(Some(ours), read(folder.join("apis.json")));
    let groups: BTreeSet<String> = resources().iter().map(|one| one.gvk.group.to_string()).collect();
    for group in groups.iter().filter(|group| !group.is_empty()) {
        let ours: Value = serde_json::from_slice(&documents.group(group).unwrap()).unwrap();
        assert_eq!(Some(ours), read(folder.join(format!("apis__{group}.json"))), "{group}");
    }
    for place in fs::read_dir(&folder).unwrap() {
        let name = place.unwrap().file_name().into_string().unwrap();
        if let Some((group, version)) =
            name.strip_prefix("apis__").and_then(|name| name.strip_suffix(".json")?.split_once("__"))
        {
            assert!(documents.resources(group, version).is_some(), "{group}/{version} is not served");
        }
    }
}

#[test]
fn aggregated_discovery_is_told_as_the_reference_tells_it() {
    let Some(theirs) = folder().and_then(|folder| read(folder.join("discovery/aggregated_v2.json"))) else { return };
    let documents = Documents::new(&resources(), "127.0.0.1:6443");
    let ours: Value = serde_json::from_slice(&documents.aggregated(false, false).0).unwrap();
    let mut faults = Vec::new();
    let groups: BTreeMap<&str, &Value> = theirs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["metadata"]["name"].as_str().unwrap_or_default(), group))
        .collect();
    let mut order = Vec::new();
    for group in ours["items"].as_array().unwrap() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        order.push(name);
        let versions = groups.get(name).map(|group| by(&group["versions"], "version")).unwrap_or_default();
        for (version, told) in by(&group["versions"], "version") {
            let known = versions.get(&version).map(|version| by(&version["resources"], "resource")).unwrap_or_default();
            for (resource, told) in by(&told["resources"], "resource") {
                if known.get(&resource) != Some(&told) {
                    faults.push(format!("{name}/{version} {resource}: {told} instead of {:?}", known.get(&resource)));
                }
            }
        }
    }
    let theirs: Vec<&str> = theirs["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|group| group["metadata"]["name"].as_str())
        .filter(|name| order.contains(name))
        .collect();
    assert_eq!(order, theirs);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What differs in substance, descriptions and the order of required fields apart.
fn differences(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let here = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    // A property may be called so, and is then no words.
                    _ if key == "description" && !path.ends_with("properties") => {}
                    (Some(a), Some(b)) => differences(a, b, &here, found),
                    (Some(_), None) => found.push(format!("{here} is too much")),
                    _ => found.push(format!("{here} is missing")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() || !a.iter().all(|one| b.contains(one)) {
                found.push(format!("{path}: {ours} instead of {theirs}"));
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{path}: {ours} instead of {theirs}")),
    }
}

#[test]
fn every_type_is_described_as_the_reference_describes_it() {
    let Some(theirs) = folder().and_then(|folder| read(folder.join("swagger.json"))) else { return };
    let open = openapi();
    let ours: Value = serde_json::from_slice(&open.v2_json().plain()).unwrap();
    let mut faults = Vec::new();
    for (name, told) in ours["definitions"].as_object().unwrap() {
        match theirs["definitions"].get(name) {
            Some(known) => differences(told, known, name, &mut faults),
            None => faults.push(format!("{name} is no type of the reference")),
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_operation_is_called_as_the_reference_calls_it() {
    let Some(theirs) = folder().and_then(|folder| read(folder.join("swagger.json"))) else { return };
    let open = openapi();
    let ours: Value = serde_json::from_slice(&open.v2_json().plain()).unwrap();
    let mut faults = Vec::new();
    for (path, item) in ours["paths"].as_object().unwrap() {
        let Some(known) = theirs["paths"].get(path) else {
            faults.push(format!("{path} is no path of the reference"));
            continue;
        };
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
            let Some(theirs_here) = known.get(method) else {
                faults.push(format!("{method} {path} is no operation of the reference"));
                continue;
            };
            for key in ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind", "tags", "consumes"] {
                // CBOR is off by default.
                let without_cbor = |value: &Value| match value {
                    Value::Array(list) => {
                        let known = |one: &&Value| !one.as_str().is_some_and(|one| one.contains("cbor"));
                        Value::Array(list.iter().filter(known).cloned().collect())
                    }
                    other => other.clone(),
                };
                let (mine, known) = (without_cbor(&operation[key]), without_cbor(&theirs_here[key]));
                if mine != known {
                    faults.push(format!("{method} {path} {key}: {mine} instead of {known}"));
                }
            }
            let codes = |operation: &Value| {
                operation["responses"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
            };
            if codes(operation) != codes(theirs_here) {
                faults.push(format!("{method} {path}: {:?} instead of {:?}", codes(operation), codes(theirs_here)));
            }
            let (mine, known) =
                (facts::parameters(&ours, item, operation), facts::parameters(&theirs, known, theirs_here));
            if mine != known {
                faults.push(format!(
                    "{method} {path}: parameters too many {:?}, missing {:?}",
                    mine.difference(&known).collect::<Vec<_>>(),
                    known.difference(&mine).collect::<Vec<_>>()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

fn exact(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let here = format!("{path} > {key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => exact(a, b, &here, found),
                    (Some(_), None) => found.push(format!("{here} is too much")),
                    _ => found.push(format!("{here} is missing")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(at, (a, b))| exact(a, b, &format!("{path} > {at}"), found));
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{path}: {ours} instead of {theirs}")),
    }
}

#[test]
fn every_document_of_version_three_is_told_as_the_reference_tells_it() {
    let Some(folder) = folder().map(|folder| folder.join("openapi-v3")) else { return };
    let open = openapi();
    let index: Value = serde_json::from_slice(open.v3_index()).unwrap();
    let mut faults = Vec::new();
    for place in index["paths"].as_object().unwrap().keys() {
        let name = format!("{}_openapi.json", place.replace('/', "__"));
        let Some(theirs) = read(folder.join(&name)) else {
            faults.push(format!("{place} is no document of the reference"));
            continue;
        };
        let ours: Value = serde_json::from_slice(&open.v3(place).unwrap().0.plain()).unwrap();
        exact(&facts::comparable_document(&ours), &facts::comparable_document(&theirs), place, &mut faults);
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

/// Whether the tables of facts are to be written anew instead of being held against the reference.
const WRITE: &str = "MARTELLO_WRITE_FACTS";

/// Facts as they are kept in a file: a place, then its lines.
fn written(facts: &Facts) -> String {
    facts
        .iter()
        .flat_map(|(place, lines)| {
            [format!("@{place}\n")].into_iter().chain(lines.iter().map(|line| format!("{line}\n")))
        })
        .collect()
}

/// Holds a table against what the reference says, or writes it.
fn hold(name: &str, about: &str, found: &Facts) {
    let path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/upstream").join(name);
    let text = format!(
        "# {about}\n# Derived by `make reference`, with {WRITE}=1, from documents that a Kubernetes 1.36 served.\n{}",
        written(found)
    );
    if env::var_os(WRITE).is_some() {
        fs::write(path, text).unwrap();
    } else {
        assert!(
            fs::read_to_string(path).unwrap() == text,
            "{name} is not what the reference says; {WRITE}=1 writes it anew"
        );
    }
}

/// The documents of a folder whose names end so, by the places that they are of.
fn documents(folder: PathBuf, end: &str) -> Vec<(String, Value)> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(end)?.replace("__", "/");
            Some((name, read(path)?))
        })
        .collect()
}

#[test]
fn the_tables_of_facts_are_what_the_reference_says() {
    let Some(folder) = folder() else { return };
    let openapi = documents(folder.join("openapi-v3"), "_openapi.json");
    let found = openapi.into_iter().map(|(place, document)| (place, facts::of_document(&document))).collect();
    hold("openapi.txt", "Operations and types of OpenAPI version 3, each with a hash of its content.", &found);
    let second = read(folder.join("swagger.json")).unwrap();
    hold(
        "openapi_v2.txt",
        "Operations and types of OpenAPI version 2, each with a hash of its substance.",
        &Facts::from([("openapi/v2".to_owned(), facts::of_second(&second))]),
    );
    let resources = documents(folder.join("discovery"), ".json").into_iter();
    let resources = resources.filter(|(_, document)| document["kind"] == "APIResourceList");
    let found = resources.map(|(place, document)| (place, facts::of_resources(&document))).collect();
    hold(
        "discovery.txt",
        "Resources as discovery tells them: names, kind, scope, short names, categories, verbs, storage hash.",
        &found,
    );
}
