//! What a server of the Kubernetes API tells about itself, as lines that can be compared: a line for each resource of
//! discovery, each operation and each type of OpenAPI. Of operations and types the line has a hash of the content.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// Facts by place: `apis/apps/v1` has one line for each of what it holds.
pub(crate) type Facts = BTreeMap<String, BTreeSet<String>>;

/// The facts of a document of OpenAPI version 3.
pub(crate) fn of_document(document: &Value) -> BTreeSet<String> {
    let document = comparable_document(document);
    let mut lines = BTreeSet::new();
    for (path, item) in entries(document.get("paths")) {
        lines.insert(format!("{path} {}", hash(item.get("parameters").unwrap_or(&Value::Null))));
        for (method, operation) in entries(Some(item)).filter(|(method, _)| *method != "parameters") {
            let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
            lines.insert(format!("{path} {method} {id} {}", hash(operation)));
        }
    }
    for (name, schema) in entries(document.pointer("/components/schemas")) {
        lines.insert(format!("{name} {}", hash(schema)));
    }
    lines.insert(format!("security {}", hash(document.pointer("/components/securitySchemes").unwrap_or(&Value::Null))));
    lines
}

/// What an operation of OpenAPI version 2 is known by, besides its id, its parameters and its answers.
const OF_OPERATION: [&str; 4] = ["x-kubernetes-action", "x-kubernetes-group-version-kind", "tags", "consumes"];

/// The facts of a document of OpenAPI version 2, in substance: without words, and in any order.
pub(crate) fn of_second(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, item) in entries(document.get("paths")) {
        for (method, operation) in entries(Some(item)).filter(|(method, _)| *method != "parameters") {
            let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
            let known = OF_OPERATION.iter().map(|key| comparable(operation.get(*key).unwrap_or(&Value::Null)));
            let codes: Vec<Value> =
                entries(operation.get("responses")).map(|(code, _)| Value::from(code.as_str())).collect();
            let parameters: Vec<Value> = parameters(document, item, operation)
                .into_iter()
                .map(|(name, place)| Value::from(vec![name, place]))
                .collect();
            let told: Vec<Value> = known.chain([codes.into(), parameters.into()]).collect();
            lines.insert(format!("{path} {method} {id} {}", hash(&unordered(&told.into()))));
        }
    }
    for (name, schema) in entries(document.get("definitions")) {
        lines.insert(format!("{name} {}", hash(&unordered(&without_words(schema)))));
    }
    lines
}

/// Name and place of each parameter of an operation, those of its path included.
pub(crate) fn parameters(document: &Value, path: &Value, operation: &Value) -> BTreeSet<(String, String)> {
    let resolved = |parameter: &Value| match parameter.get("$ref").and_then(Value::as_str) {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).cloned().unwrap_or_default(),
        None => parameter.clone(),
    };
    let all = [path, operation].into_iter().filter_map(|one| one.get("parameters")?.as_array()).flatten();
    all.map(|parameter| {
        let parameter = resolved(parameter);
        let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("name"), text("in"))
    })
    .collect()
}

/// With every list in the order of its texts.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), unordered(value))).collect()),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(unordered).collect();
            list.sort_by_cached_key(|one| sorted(one).to_string());
            list.into()
        }
        other => other.clone(),
    }
}

/// The facts of the resources that discovery tells of a version.
pub(crate) fn of_resources(document: &Value) -> BTreeSet<String> {
    let resources = document.get("resources").and_then(Value::as_array);
    let line = |resource: &Value| {
        let text = |value: &Value| match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let keys = [
            "name",
            "singularName",
            "kind",
            "group",
            "version",
            "namespaced",
            "shortNames",
            "categories",
            "verbs",
            "storageVersionHash",
        ];
        keys.iter().map(|key| resource.get(*key).map(text).unwrap_or_default()).collect::<Vec<_>>().join(" ")
    };
    resources.into_iter().flatten().map(line).collect()
}

/// A document without what differs on purpose, words of lists and watch events included.
pub(crate) fn comparable_document(document: &Value) -> Value {
    let mut document = comparable(document);
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if name.ends_with("List") || name.ends_with(".WatchEvent") {
            *schema = without_words(schema);
        }
    }
    document
}

/// Without what differs on purpose: CBOR, which is off by default, and the words of query parameters, which are ours.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let is_query = map.get("in").is_some_and(|place| place == "query");
            let kept = |key: &str| !(key.contains("cbor") || is_query && key == "description");
            let kept = map.iter().filter(|(key, _)| kept(key));
            Value::Object(kept.map(|(key, value)| (key.clone(), comparable(value))).collect::<Map<_, _>>())
        }
        Value::Array(list) => {
            let known = |one: &&Value| !one.as_str().is_some_and(|one| one.contains("cbor"));
            Value::Array(list.iter().filter(known).map(comparable).collect())
        }
        other => other.clone(),
    }
}

/// Lists are described in words that differ from kind to kind, and that no library of ours knows.
fn without_words(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| !(*key == "description" && value.is_string()));
            Value::Object(kept.map(|(key, value)| (key.clone(), without_words(value))).collect::<Map<_, _>>())
        }
        Value::Array(list) => list.iter().map(without_words).collect(),
        other => other.clone(),
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// Of the content: objects are sorted by their keys, so that the same content has the same text.
fn hash(value: &Value) -> String {
    let digest = digest(&SHA256, sorted(value).to_string().as_bytes());
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted_map: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(sorted_map.into_iter().map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
