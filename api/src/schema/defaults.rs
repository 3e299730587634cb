//! Defaults that the schema itself declares.

use serde_json::Value;

use super::{Kind, Presence, Schema};

/// Fills in what `schema` declares as the default of fields that are missing, at every depth.
pub fn apply_defaults(schema: &Schema, value: &mut Value) {
    if schema.loose {
        return super::loose::apply_defaults(schema, value);
    }
    let Value::Object(map) = value else { return };
    for field in schema.with_default() {
        let given = map.get(&*field.name);
        let unset = match field.presence {
            Presence::Always => matches!(given, None | Some(Value::Null)) || given.and_then(Value::as_str) == Some(""),
            // A zero that is never written is told to clients only.
            Presence::OmitZero if field.default.as_ref().and_then(Value::as_str) == Some("") => false,
            Presence::OmitZero | Presence::Optional | Presence::Null => matches!(given, None | Some(Value::Null)),
        };
        if let (true, Some(default)) = (unset, &field.default) {
            map.insert(field.name.clone().into_owned(), default.clone());
        }
    }
    for (name, value) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            descend(&field.kind, value);
        }
    }
}

fn descend(kind: &Kind, value: &mut Value) {
    match (kind, value) {
        (Kind::Message(link), value) => apply_defaults(link.get(), value),
        (Kind::List(list), Value::Array(items)) => items.iter_mut().for_each(|item| descend(&list.item, item)),
        (Kind::Map(map), Value::Object(entries)) => entries.values_mut().for_each(|value| descend(&map.value, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Schemas;
    use super::*;

    #[test]
    fn declared_defaults_are_filled_in_at_every_depth() {
        let mut pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}]}]}});
        apply_defaults(Schemas::builtin().named("io.k8s.api.core.v1.Pod").unwrap(), &mut pod);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [{"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81, "protocol": "UDP"}]}]}})
        );
    }
}
