//! What schemas demand beyond values: items told apart, whole objects within objects, numbers of a scale.

use martello_api::{
    schema::{Schemas, decode_value},
    status::Cause,
};
use serde_json::{Map, Value, json};

use super::rules::{ListKind, Rules};
use crate::registry::{
    validation::{metadata, text},
    verbs::scale::ScalePaths,
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Complains of items that occur twice in sets and in lists by keys.
pub fn lists(rules: &Rules, object: &Value, causes: &mut Vec<Cause>) {
    each_field(rules, object, "", &mut |rules, value, path| {
        if path != "metadata" {
            lists_below(rules, value, path, causes);
        }
    });
}

fn lists_below(rules: &Rules, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Array(items) => {
            duplicates(&rules.list.kind, items, path, causes);
            if let Some(of) = &rules.list.items {
                for (at, item) in items.iter().enumerate() {
                    lists_below(of, item, &format!("{path}[{at}]"), causes);
                }
            }
        }
        Value::Object(_) => {
            each_field(rules, value, path, &mut |rules, value, path| lists_below(rules, value, path, causes));
        }
        _ => {}
    }
}

fn duplicates(kind: &ListKind, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let identity = |item: &Value| match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(item.clone()),
        ListKind::Map(keys) => {
            let item = item.as_object()?;
            let keys = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(Value::Object(keys.collect::<Map<_, _>>()))
        }
    };
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        if let Some(identity) = identity(item)
            && !seen.insert(identity.to_string())
        {
            causes.push(Cause::duplicate(format!("{path}[{at}]"), &identity));
        }
    }
}

fn each_field(rules: &Rules, value: &Value, path: &str, act: &mut dyn FnMut(&Rules, &Value, &str)) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let (of, here) = match (rules.object.fields.get(name), &rules.object.others) {
            (Some(of), _) if path.is_empty() => (of, name.clone()),
            (Some(of), _) => (of, format!("{path}.{name}")),
            (None, Some(others)) => (&**others, format!("{path}[{name}]")),
            (None, None) => continue,
        };
        act(of, value, &here);
    }
}

/// Complains of whole objects within the object that are none.
pub fn embedded(rules: &Rules, object: &Value, causes: &mut Vec<Cause>) {
    each_field(rules, object, "", &mut |rules, value, path| embedded_below(rules, value, path, causes));
}

fn embedded_below(rules: &Rules, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let (true, Value::Object(map)) = (rules.object.embedded, value) {
        embedded_object(map, path, causes);
    }
    match value {
        Value::Array(items) => {
            if let Some(of) = &rules.list.items {
                for (at, item) in items.iter().enumerate() {
                    embedded_below(of, item, &format!("{path}[{at}]"), causes);
                }
            }
        }
        Value::Object(_) => {
            each_field(rules, value, path, &mut |rules, value, path| embedded_below(rules, value, path, causes));
        }
        _ => {}
    }
}

fn embedded_object(map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for key in ["apiVersion", "kind"] {
        let here = format!("{path}.{key}");
        match map.get(key) {
            None => causes.push(Cause::required(here, "")),
            Some(Value::String(version)) if key == "apiVersion" && version.matches('/').count() > 1 => {
                let why = format!("unexpected GroupVersion string: {version}");
                causes.push(Cause::invalid(here, &json!(version), &why));
            }
            Some(Value::String(kind)) if key == "kind" => {
                let faults = text::dns1035_label(&kind.to_lowercase());
                if !faults.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
                    causes.push(Cause::invalid(here, &json!(kind), &why));
                }
            }
            Some(Value::String(_)) => {}
            Some(other) => causes.push(Cause::invalid(here, other, "must be a string")),
        }
    }
    let Some(meta) = map.get("metadata").filter(|meta| !meta.is_null()) else { return };
    let here = format!("{path}.metadata");
    let decoded = Schemas::builtin().named(OBJECT_META).map(|schema| decode_value(schema, meta.clone()));
    if let Some(Err(error)) = decoded {
        causes.push(Cause::invalid(here, meta, &error.to_string()));
        return;
    }
    metadata::labels(meta.get("labels"), &format!("{here}.labels"), causes);
    metadata::annotations(meta.get("annotations"), &format!("{here}.annotations"), causes);
    let name = meta.get("name").and_then(Value::as_str).unwrap_or("fakename");
    for fault in text::path_segment(name) {
        causes.push(Cause::invalid(format!("{here}.name"), &json!(name), &fault));
    }
}

/// Complains of replicas that are no counts.
pub fn scale(paths: Option<&ScalePaths>, object: &Value, causes: &mut Vec<Cause>) {
    let Some(paths) = paths else { return };
    for path in [&paths.spec_replicas, &paths.status_replicas] {
        let found = path.iter().try_fold(object, |value, key| value.get(key));
        let Some(replicas) = found.and_then(Value::as_i64) else { continue };
        let field = format!(".{}", path.join("."));
        if replicas < 0 {
            causes.push(Cause::invalid(field, &json!(replicas), "should be a non-negative integer"));
        } else if replicas > i64::from(i32::MAX) {
            let why = format!("should be less than or equal to {}", i32::MAX);
            causes.push(Cause::invalid(field, &json!(replicas), &why));
        }
    }
    if let Some(path) = &paths.selector
        && let Some(selector) = path.iter().try_fold(object, |value, key| value.get(key)).and_then(Value::as_str)
        && !selector.is_empty()
        && let Err(error) = martello_api::selector::LabelSelector::parse(selector)
    {
        causes.push(Cause::invalid(format!(".{}", path.join(".")), &json!(selector), &error.to_string()));
    }
}
