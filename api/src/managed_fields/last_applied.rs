//! From client-side to server-side apply: what `kubectl` wrote down of its last client-side apply, it owns.

use serde_json::{Map as JsonMap, Value};

use super::Schema;
use super::compare::{compare_objects, strip};
use super::merge::set_of;
use super::set::FieldSet;

/// The manager that takes over what it applied before on the client's side; others don't.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Most bytes that the annotations of an object may have; a longer configuration is not written down.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// What the last client-side apply set and is still so; nothing where there was none of this version.
pub(super) fn owned(schema: &Schema, live: &Value, api_version: &str) -> Option<FieldSet> {
    let text = live.pointer("/metadata/annotations")?.get(ANNOTATION)?.as_str()?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    let mut set = set_of(schema, &applied);
    let changes = compare_objects(schema, &applied, live);
    for changed in [&changes.modified, &changes.added, &changes.removed] {
        set.subtract(changed);
    }
    strip(&mut set);
    Some(set)
}

/// Writes down what was applied where a client-side apply wrote down its own, so that both can go on.
pub(super) fn sync(object: &mut Value, config: &Value) {
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
    if annotations.get(ANNOTATION).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(metadata)) = config.get_mut("metadata") {
        let left = metadata.get_mut("annotations").and_then(Value::as_object_mut).map(|own| {
            own.shift_remove(ANNOTATION);
            own.len()
        });
        if left == Some(0) {
            metadata.shift_remove("annotations");
        }
    }
    annotations.insert(ANNOTATION.to_owned(), Value::String(encoded(&config)));
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        annotations.shift_remove(ANNOTATION);
    }
}

/// As Go encodes a map: keys sorted, what HTML might mistake escaped, a line at the end.
fn encoded(value: &Value) -> String {
    let text = sorted(value).to_string();
    let mut out = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    out.push('\n');
    out
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(
                entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<JsonMap<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::{Ignored, Writer, apply, track_update};
    use super::*;
    use crate::schema::{Schemas, decode_value};

    fn writer(manager: &str) -> Writer<'_> {
        Writer {
            manager,
            api_version: "v1",
            subresource: "",
            reset_fields: Ignored::NOTHING,
            now: Timestamp::UNIX_EPOCH,
            versions: None,
        }
    }

    fn schema() -> &'static Schema {
        Schemas::builtin().named("io.k8s.api.core.v1.ConfigMap").unwrap()
    }

    fn config(data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
    }

    /// An object that was applied on the client's side, and then changed by somebody else.
    fn live() -> Value {
        let mut own = config(&json!({"k": "1", "l": "1"}));
        own["metadata"]["annotations"] = json!({ANNOTATION: encoded(&config(&json!({"k": "1", "l": "1"})))});
        let mut live = decode_value(schema(), own).unwrap().value;
        track_update(schema(), None, &mut live, &writer("kubectl-client-side-apply")).unwrap();
        live["metadata"]["uid"] = json!("u");
        let mut changed = live.clone();
        changed["data"]["l"] = json!("2");
        track_update(schema(), Some(&live), &mut changed, &writer("other")).unwrap();
        changed
    }

    #[test]
    fn kubectl_takes_over_what_it_applied_on_the_clients_side() {
        let applied = apply(schema(), Some(&live()), &config(&json!({"k": "<3>"})), &writer("kubectl"), false).unwrap();
        assert_eq!(applied.value["data"]["k"], "<3>");
        let written = applied.value["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        let expected = "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"\\u003c3\\u003e\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn what_somebody_else_changed_since_still_conflicts_and_others_take_over_nothing() {
        let conflicts = |data: Value, manager: &str| {
            apply(schema(), Some(&live()), &config(&data), &writer(manager), false).unwrap_err().to_string()
        };
        assert_eq!(
            conflicts(json!({"k": "3", "l": "3"}), "kubectl"),
            "Apply failed with 1 conflict: conflict with \"other\" using v1: .data.l"
        );
        assert_eq!(
            conflicts(json!({"k": "3"}), "somebody"),
            "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.k"
        );
    }
}
