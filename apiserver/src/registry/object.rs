//! Objects as JSON values: reading and writing by path, without surprises on odd shapes.

use martello_api::schema::{self, Schemas};
use serde_json::{Map, Value};

/// The value at `path`, if all of it is there.
#[must_use]
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.as_object()?.get(*key))
}

/// The text at `path`; empty where there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at `path`.
#[must_use]
pub fn int(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).and_then(Value::as_i64)
}

/// The truth at `path`; false where there is none.
#[must_use]
pub fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at `path`; empty where there is none.
#[must_use]
pub fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The list at `path`, to change.
pub fn list_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Vec<Value>> {
    at_mut(value, path)?.as_array_mut()
}

/// The value at `path`, to change.
pub fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| value.as_object_mut()?.get_mut(*key))
}

/// The map at `path`; it and what leads to it are made where they are missing. None where something else is in the way.
pub fn map_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut here = value;
    for key in path {
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
        here = here.as_object_mut()?.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
    }
    here.as_object_mut()
}

/// Sets `key` in the map at `path`.
pub fn set(value: &mut Value, path: &[&str], key: &str, to: impl Into<Value>) {
    if let Some(map) = map_mut(value, path) {
        map.insert(key.to_owned(), to.into());
    }
}

/// Sets `key` in the map at `path` where it is missing or null.
pub fn set_default(value: &mut Value, path: &[&str], key: &str, to: impl Into<Value>) {
    if let Some(map) = map_mut(value, path) {
        let slot = map.entry(key.to_owned()).or_insert(Value::Null);
        if slot.is_null() {
            *slot = to.into();
        }
    }
}

/// Removes `key` from the map at `path`; keeps the order of the others.
pub fn remove(value: &mut Value, path: &[&str], key: &str) -> Option<Value> {
    at_mut(value, path)?.as_object_mut()?.shift_remove(key)
}

/// Makes `key` of `to` what it is in `from`, absence included.
pub fn copy_key(to: &mut Value, from: &Value, key: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(key) {
        Some(value) => {
            map.insert(key.to_owned(), value.clone());
        }
        None => {
            map.shift_remove(key);
        }
    }
}

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.namespace`.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// `metadata.finalizers`.
#[must_use]
pub fn finalizers(object: &Value) -> Vec<&str> {
    list(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
}

/// Whether more than so many objects and lists stand within each other.
#[must_use]
pub fn is_deeper(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(items), Some(left)) => items.iter().any(|item| is_deeper(item, left)),
        (Value::Object(map), Some(left)) => map.values().any(|below| is_deeper(below, left)),
        _ => false,
    }
}

/// Whether the object is being deleted.
#[must_use]
pub fn is_terminating(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

/// Whether an object is still what it was in all that its kind counts as a new generation.
#[must_use]
pub fn same_generation(object: &Value, old: &Value) -> bool {
    let of = |object| int(object, &["metadata", "generation"]);
    of(object) == of(old)
}

/// Whether a value is what Kubernetes takes as unset: null, empty text, zero, false, an empty list or map.
#[must_use]
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Whether two objects differ in nothing but what garbage collection writes: owners, finalizers, and whose fields are whose.
#[must_use]
pub fn same_but_for_owners(left: &Value, right: &Value) -> bool {
    let bare = |object: &Value| {
        let mut bare = object.clone();
        for key in ["ownerReferences", "finalizers", "managedFields"] {
            remove(&mut bare, &["metadata"], key);
        }
        bare
    };
    same(Some(&bare(left)), Some(&bare(right)))
}

/// Whether two values that were decoded are the same to Go's semantic equality: null and an empty list are absence. An empty
/// object is something: decoding leaves one only where Go has a pointer, or a struct that is always there.
#[must_use]
pub fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    let absent = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    };
    match (left, right) {
        (left, right) if absent(left) && absent(right) => true,
        // So is a map written that is always there and has nothing in it.
        (Some(Value::Null), Some(Value::Object(map))) | (Some(Value::Object(map)), Some(Value::Null)) => map.is_empty(),
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            left.keys().chain(right.keys()).all(|key| same(left.get(key), right.get(key)))
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(Some(left), Some(right)))
        }
        (left, right) => left == right,
    }
}

/// The same of values of a type of Kubernetes, by its name in OpenAPI: amounts are equal by their value, however they are
/// written, and what a type always has is never absent.
#[must_use]
pub fn same_of(name: &str, left: Option<&Value>, right: Option<&Value>) -> bool {
    match Schemas::builtin().named(name) {
        Some(schema) => schema::same(schema, left, right),
        None => same(left, right),
    }
}

/// The same of what stands at `path` in two values of such a type.
#[must_use]
pub fn same_at(name: &str, path: &[&str], left: &Value, right: &Value) -> bool {
    match Schemas::builtin().named(name) {
        Some(schema) => schema::same_at(schema, path, Some(left), Some(right)),
        None => same(at(left, path), at(right, path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_never_surprise() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": 5});
        assert_eq!(text(&object, &["metadata", "name"]), "a");
        assert_eq!(text(&object, &["spec", "x"]), "");
        set(&mut object, &["status", "load"], "x", 1);
        assert_eq!(int(&object, &["status", "load", "x"]), Some(1));
        set(&mut object, &["spec"], "x", 1);
        assert_eq!(object["spec"], 5);
    }

    #[test]
    fn an_empty_object_is_something_in_what_was_decoded() {
        let same = |left: Value, right: Value| same(Some(&left), Some(&right));
        assert!(same(json!({"a": null, "b": [], "c": [{"d": 1}]}), json!({"c": [{"d": 1, "e": []}]})));
        assert!(same(json!({"a": null}), json!({"a": {}})));
        assert!(!same(json!({"podSelector": {}}), json!({"namespaceSelector": {}})));
        assert!(!same(json!({}), json!({"affinity": {}})));
    }

    #[test]
    fn what_garbage_collection_writes_is_no_change() {
        let role = |metadata: Value, rule: Value| json!({"metadata": metadata, "aggregationRule": rule});
        let old = role(json!({"name": "a"}), Value::Null);
        let kept = json!({"name": "a", "finalizers": ["a/b"], "ownerReferences": [{"name": "b"}]});
        assert!(same_but_for_owners(&role(kept, Value::Null), &old));
        assert!(!same_but_for_owners(&role(json!({"name": "a", "labels": {"a": "b"}}), Value::Null), &old));
        assert!(!same_but_for_owners(&role(json!({"name": "a"}), json!({"clusterRoleSelectors": [{}]})), &old));
    }

    #[test]
    fn what_stands_at_a_path_is_compared_by_its_type() {
        let pod = |amount: &str| json!({"spec": {"overhead": {"cpu": amount}}});
        let same =
            |left: &str, right: &str| same_at("io.k8s.api.core.v1.Pod", &["spec", "overhead"], &pod(left), &pod(right));
        assert!(same("0.5", "500m") && !same("0.5", "501m"));
    }
}
