//! What schemas demand beyond values: items told apart, whole objects within objects, numbers of a scale.

use martello_api::{
    go,
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

/// What the paths of all fields and items of an object may come to, in bytes. A fault tells its path, and a key of a megabyte
/// stands in the path of each field below it; an object of 3 MiB whose keys are of ordinary length stays far below.
const MAX_PATHS: usize = 64 * 1024 * 1024;

/// Refuses an object of which nothing more can be told without taking all memory, and says whether it did.
pub fn is_unwieldy(object: &Value, causes: &mut Vec<Cause>) -> bool {
    let mut left = MAX_PATHS;
    let fits = paths_fit(object, 0, &mut left);
    if !fits {
        let why = format!("Too long: the paths of all fields come to more than {MAX_PATHS} bytes: use shorter keys");
        causes.push(Cause::new("FieldValueTooLong", "<nil>", why));
    }
    !fits
}

fn paths_fit(value: &Value, above: usize, left: &mut usize) -> bool {
    let mut fits = |value: &Value, here: usize| match left.checked_sub(here) {
        None => false,
        Some(rest) => {
            *left = rest;
            paths_fit(value, here, left)
        }
    };
    match value {
        Value::Object(map) => map.iter().all(|(name, value)| fits(value, above + 1 + name.len())),
        Value::Array(items) => items.iter().all(|item| fits(item, above + "[0]".len())),
        _ => true,
    }
}

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

/// A value as Go writes it: fields in the order of their names.
#[must_use]
pub fn sorted(value: &Value) -> Value {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    sorted
}

/// Each item that there is twice is told of once, however often it is there.
fn duplicates(kind: &ListKind, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let identity = |item: &Value| match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(sorted(item)),
        ListKind::Map(keys) => {
            let keys = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(sorted(&Value::Object(keys.collect::<Map<_, _>>())))
        }
    };
    let stray = |item: &&Value| !item.is_object() && !item.is_null();
    if matches!(kind, ListKind::Map(_))
        && let Some((at, item)) = items.iter().enumerate().find(|(_, item)| stray(item))
    {
        let why = "must be an object for an array of list-type map";
        causes.push(Cause::invalid(format!("{path}[{at}]"), item, why));
        return;
    }
    let mut seen = std::collections::HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let Some(identity) = identity(item) else { return };
        let times = seen.entry(identity.to_string()).or_insert(0_u32);
        *times += 1;
        if *times == 2 {
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

/// As [`embedded`], for a value that messages call `path`.
pub fn embedded_at(rules: &Rules, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    embedded_below(rules, value, path, causes);
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
        if !map.contains_key(key) {
            causes.push(Cause::required(format!("{path}.{key}"), ""));
        }
    }
    for key in ["apiVersion", "kind"] {
        let here = format!("{path}.{key}");
        match map.get(key) {
            None => {}
            Some(text @ Value::String(own)) if own.is_empty() => {
                causes.push(Cause::invalid(here, text, "must not be empty"));
            }
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
            Some(other) => causes.push(Cause::invalid(here, &sorted(other), "must be a string")),
        }
    }
    let Some(meta) = map.get("metadata").filter(|meta| !meta.is_null()) else { return };
    let here = format!("{path}.metadata");
    let decoded = Schemas::builtin().named(OBJECT_META).map(|schema| decode_value(schema, meta.clone()));
    if let Some(Err(error)) = decoded {
        causes.push(Cause::invalid(here, &sorted(meta), &error.to_string()));
        return;
    }
    metadata::embedded(meta, &here, causes);
}

/// Complains of replicas that are no counts, and of a selector that is no text.
pub fn scale(paths: Option<&ScalePaths>, object: &Value, causes: &mut Vec<Cause>) {
    let Some(paths) = paths else { return };
    replicas(&paths.spec_replicas, object, causes);
    scale_status(Some(paths), object, causes);
}

/// As [`scale`], of the status alone.
pub fn scale_status(paths: Option<&ScalePaths>, object: &Value, causes: &mut Vec<Cause>) {
    let Some(paths) = paths else { return };
    replicas(&paths.status_replicas, object, causes);
    if let Some(path) = &paths.selector
        && let Err(why) = nested(path, object, Value::is_string, "string")
    {
        causes.push(Cause::invalid(format!(".{}", path.join(".")), &json!(""), &why));
    }
}

fn replicas(path: &[String], object: &Value, causes: &mut Vec<Cause>) {
    let field = format!(".{}", path.join("."));
    match nested(path, object, Value::is_i64, "int64") {
        Err(why) => causes.push(Cause::invalid(field, &json!(0), &why)),
        Ok(found) => {
            let replicas = found.and_then(Value::as_i64).unwrap_or(0);
            if replicas < 0 {
                causes.push(Cause::invalid(field, &json!(replicas), "should be a non-negative integer"));
            } else if replicas > i64::from(i32::MAX) {
                let why = format!("should be less than or equal to {}", i32::MAX);
                causes.push(Cause::invalid(field, &json!(replicas), &why));
            }
        }
    }
}

/// The value at a path, if there is one; what is in its way is told as upstream's accessors do.
fn nested<'v>(
    path: &[String],
    object: &'v Value,
    fits: impl Fn(&Value) -> bool,
    wanted: &str,
) -> Result<Option<&'v Value>, String> {
    let refuse = |depth: usize, value: &Value, wanted: &str| {
        let place = path.get(..depth).unwrap_or(path).join(".");
        Err(format!(
            ".{place} accessor error: {} is of the type {}, expected {wanted}",
            go::plain(value),
            go::type_name(value)
        ))
    };
    let mut here = object;
    for (depth, key) in path.iter().enumerate() {
        match here {
            Value::Null => return Ok(None),
            Value::Object(map) => match map.get(key) {
                Some(next) => here = next,
                None => return Ok(None),
            },
            other => return refuse(depth + 1, other, "map[string]interface{}"),
        }
    }
    if fits(here) { Ok(Some(here)) } else { refuse(path.len(), here, wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_over_many_fields_is_refused_before_anything_is_told_of_it() {
        let long = "k".repeat(1024 * 1024);
        let object = |items: usize| json!({"spec": {&long: vec![1; items]}});
        let mut causes = Vec::new();
        assert!(!is_unwieldy(&object(60), &mut causes) && causes.is_empty());
        assert!(is_unwieldy(&object(64), &mut causes));
        assert_eq!((causes.len(), causes[0].field.as_str()), (1, "<nil>"));
        let wide = json!({"spec": {"values": vec![1; 700_000]}});
        assert!(!is_unwieldy(&wide, &mut causes));
    }

    fn told(causes: Vec<Cause>) -> Vec<String> {
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn replicas_of_another_type_are_told_as_upstream_tells_them() {
        let path = |key: &str| vec![key.to_owned(), "replicas".to_owned()];
        let paths = ScalePaths {
            spec_replicas: path("spec"),
            status_replicas: path("status"),
            selector: Some(vec!["status".to_owned(), "selector".to_owned()]),
        };
        let mut causes = Vec::new();
        scale(
            Some(&paths),
            &json!({"spec": {"replicas": "3"}, "status": {"selector": 1, "replicas": -1}}),
            &mut causes,
        );
        assert_eq!(
            told(causes),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: 3 is of the type string, expected int64",
                ".status.replicas: Invalid value: -1: should be a non-negative integer",
                ".status.selector: Invalid value: \"\": .status.selector accessor error: 1 is of the type int64, expected string",
            ]
        );
        let mut causes = Vec::new();
        scale(Some(&paths), &json!({"spec": [1]}), &mut causes);
        assert_eq!(
            told(causes),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: [1] is of the type []interface {}, expected map[string]interface{}"
            ]
        );
    }

    #[test]
    fn whole_objects_within_objects_say_what_they_are() {
        let rules = Rules::of(&json!({"type": "object", "properties": {"t": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
        let mut causes = Vec::new();
        let object = json!({"t": {"kind": "", "metadata": {"name": "a/b", "labels": {"-": "x"}}}});
        embedded(&rules, &object, &mut causes);
        let found = told(causes);
        assert_eq!(found[..2], ["t.apiVersion: Required value", "t.kind: Invalid value: \"\": must not be empty"]);
        assert!(found.iter().any(|fault| fault.starts_with("t.metadata.labels: Invalid value: \"-\"")), "{found:?}");
        assert!(found.iter().any(|fault| fault.starts_with("t.metadata.name: Invalid value: \"a/b\"")), "{found:?}");
    }

    #[test]
    fn metadata_within_an_object_obey_what_all_metadata_obey() {
        let rules = Rules::of(&json!({"type": "object", "properties": {"t": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
        let metadata = json!({
            "generation": -1,
            "finalizers": ["foregroundDeletion", "orphan"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "u"}],
        });
        let mut causes = Vec::new();
        embedded(&rules, &json!({"t": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}}), &mut causes);
        assert_eq!(
            told(causes),
            [
                "t.metadata.generation: Invalid value: -1: must be greater than or equal to 0",
                "t.metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"x\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
                "t.metadata.finalizers: Invalid value: [\"foregroundDeletion\",\"orphan\"]: finalizer orphan and foregroundDeletion cannot be both set",
            ]
        );
    }

    #[test]
    fn items_that_are_there_more_than_twice_are_told_of_once() {
        let rules = Rules::of(&json!({"type": "object", "properties": {
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b", "a"],
                  "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}},
        }}));
        let found = |object: Value| {
            let mut causes = Vec::new();
            lists(&rules, &object, &mut causes);
            told(causes)
        };
        assert_eq!(
            found(json!({"s": ["a", "b", "a", "a", "b"]})),
            ["s[2]: Duplicate value: \"a\"", "s[4]: Duplicate value: \"b\""]
        );
        let one = json!({"a": "x", "b": "y", "c": 1});
        assert_eq!(found(json!({"m": [one, one, one]})), ["m[1]: Duplicate value: {\"a\":\"x\",\"b\":\"y\"}"]);
        assert_eq!(
            found(json!({"m": [one, one, "x", 1]})),
            ["m[2]: Invalid value: \"x\": must be an object for an array of list-type map"]
        );
        assert_eq!(found(json!({"m": [{}, null]})), ["m[1]: Duplicate value: {}"]);
    }
}
