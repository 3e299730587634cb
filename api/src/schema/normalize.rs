//! Zero values, written or left out as a typed Go struct would be.

use serde_json::{Map as JsonMap, Value};

use super::{Field, Kind, Presence, Schema};

/// Brings a value whose types are right into the form in which it is stored and served.
///
/// That form has been through protobuf upstream: an empty list that is always written is `null`. Call it last, when
/// nothing changes the object any more; what [`super::decode_json`] returns still tells an empty list from none.
pub fn normalize(schema: &Schema, value: &mut Value) {
    let Value::Object(map) = value else { return };
    if schema.loose {
        if let (Some(field), Some(value)) = (schema.field("metadata"), map.get_mut("metadata")) {
            descend(&field.kind, value);
        }
        return;
    }
    for (name, value) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            descend(&field.kind, value);
        }
    }
    finish(schema, map);
    for field in schema.fields().iter().filter(|field| field.presence == Presence::Null) {
        if let Some(value) = map.get_mut(&*field.name).filter(|value| is_empty_collection(field, value)) {
            *value = Value::Null;
        }
    }
}

fn descend(kind: &Kind, value: &mut Value) {
    match (kind, value) {
        (Kind::Message(link), value) => normalize(link.get(), value),
        (Kind::List(list), Value::Array(items)) => items.iter_mut().for_each(|item| element(&list.item, item)),
        (Kind::Map(map), Value::Object(entries)) => entries.values_mut().for_each(|value| element(&map.value, value)),
        _ => {}
    }
}

/// What stands in a list or map of a typed struct is there: null is its zero value.
fn element(kind: &Kind, value: &mut Value) {
    if value.is_null() {
        *value = zero(kind);
    }
    descend(kind, value);
}

/// Writes what a typed struct always writes, and drops what it never does.
pub(super) fn finish(schema: &Schema, map: &mut JsonMap<String, Value>) {
    for field in schema.fields() {
        let drop = match (field.presence, map.get(&*field.name)) {
            (Presence::Always, None | Some(Value::Null)) if field.default.is_none() => {
                map.insert(field.name.clone().into_owned(), zero(&field.kind));
                continue;
            }
            (Presence::Null, None) => {
                map.insert(field.name.clone().into_owned(), Value::Null);
                continue;
            }
            (Presence::Null, _) | (_, None) => false,
            (_, Some(Value::Null)) => !matches!(field.kind, Kind::Any),
            (Presence::OmitZero, Some(value)) => is_zero(value),
            (Presence::Optional | Presence::Always, Some(_)) => false,
        };
        if drop {
            map.remove(&*field.name);
        }
    }
}

fn is_empty_collection(field: &Field, value: &Value) -> bool {
    match (&field.kind, value) {
        (Kind::List(_), Value::Array(items)) => items.is_empty(),
        (Kind::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// What a Go variable of this type is before anything is stored in it.
#[must_use]
pub fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => Value::from(0),
        Kind::String | Kind::Bytes => Value::String(String::new()),
        Kind::Quantity => Value::String("0".into()),
        Kind::Time | Kind::MicroTime | Kind::Any | Kind::Raw | Kind::List(_) | Kind::Map(_) => Value::Null,
        Kind::Message(link) => {
            let mut map = JsonMap::new();
            finish(link.get(), &mut map);
            Value::Object(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Schemas, decode_value};
    use super::*;

    fn schema(name: &str) -> &'static Schema {
        Schemas::builtin().named(name).unwrap()
    }

    #[test]
    fn zero_values_are_written_or_left_out_as_upstream_does() {
        let mut role = json!({"rules": []});
        normalize(schema("io.k8s.api.rbac.v1.ClusterRole"), &mut role);
        assert_eq!(role, json!({"metadata": {}, "rules": null}));
        let mut pod = json!({"spec": {"hostNetwork": false, "automountServiceAccountToken": false, "nodeName": "", "securityContext": {}}});
        normalize(schema("io.k8s.api.core.v1.Pod"), &mut pod);
        assert_eq!(
            pod,
            json!({"metadata": {}, "spec": {"automountServiceAccountToken": false, "containers": null, "securityContext": {}}, "status": {}})
        );
    }

    #[test]
    fn null_in_a_list_or_map_is_the_zero_value() {
        let mut map = json!({"data": {"a": null}, "metadata": {"finalizers": [null]}});
        normalize(schema("io.k8s.api.core.v1.ConfigMap"), &mut map);
        assert_eq!(map, json!({"data": {"a": ""}, "metadata": {"finalizers": [""]}}));
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_as_it_is(
            labels in proptest::collection::btree_map("[a-c]", "[a-c]{0,2}", 0..3), replicas in 0..3, paused: bool, image in "[a-b]{0,1}"
        ) {
            let schema = schema("io.k8s.api.apps.v1.Deployment");
            let given = json!({"metadata": {"labels": labels}, "spec": {"replicas": replicas, "paused": paused,
                "template": {"spec": {"containers": [{"image": image}, null]}}}});
            let once = decode_value(schema, given).unwrap().value;
            let mut again = once.clone();
            normalize(schema, &mut again);
            prop_assert_eq!(&again, &once);
            prop_assert_eq!(decode_value(schema, again).unwrap().value, once);
        }
    }
}
