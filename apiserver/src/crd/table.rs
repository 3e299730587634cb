//! The schema of a custom version as the table that decoding, pruning, defaults, merging and apply share with built-in kinds.

use std::sync::Arc;

use martello_api::schema::{Field, Kind, Link, List, ListMerge, Map, Nulls, Schema, Schemas};
use serde_json::Value;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The table of a version from its `openAPIV3Schema`; `name` is that of its definition in OpenAPI.
#[must_use]
pub fn table(schema: &Value, name: String) -> Schema {
    let mut fields = fields_of(schema);
    fields.retain(|field| !matches!(&*field.name, "apiVersion" | "kind" | "metadata"));
    fields.push(Field::new("apiVersion", Kind::String));
    fields.push(Field::new("kind", Kind::String));
    if let Some(link) = Schemas::builtin().link(OBJECT_META) {
        fields.push(Field::new("metadata", Kind::Message(link)));
    }
    let mut root = loose(name, fields);
    root.embedded = true;
    root.preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
    root
}

fn loose(name: String, fields: Vec<Field>) -> Schema {
    let mut schema = Schema::of(name, fields);
    schema.loose = true;
    schema
}

fn fields_of(schema: &Value) -> Vec<Field> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties
        .map(|(name, property)| Field {
            default: property.get("default").cloned(),
            nullable: flag(property, "nullable"),
            ..Field::new(name.clone(), kind(property))
        })
        .collect()
}

fn message(schema: &Value) -> Schema {
    let mut fields = fields_of(schema);
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if embedded {
        for name in ["apiVersion", "kind"] {
            if !fields.iter().any(|field| field.name == name) {
                fields.push(Field::new(name, Kind::String));
            }
        }
        if let (false, Some(link)) =
            (fields.iter().any(|field| field.name == "metadata"), Schemas::builtin().link(OBJECT_META))
        {
            fields.push(Field::new("metadata", Kind::Message(link)));
        }
    }
    let mut message = loose(String::new(), fields);
    message.embedded = embedded;
    message.preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
    message.atomic = is_atomic(schema);
    message
}

fn kind(schema: &Value) -> Kind {
    if flag(schema, "x-kubernetes-int-or-string") {
        return Kind::IntOrString;
    }
    match text(schema, "type") {
        "string" => Kind::String,
        "integer" => Kind::Int64,
        "number" => Kind::Double,
        "boolean" => Kind::Bool,
        "array" => {
            let items = schema.get("items");
            Kind::List(Arc::new(List {
                item: items.map_or(Kind::Any, kind),
                merge: merge(schema),
                declared: schema.get("x-kubernetes-list-type").is_some(),
                nulls: items.map(nulls).unwrap_or_default(),
            }))
        }
        named => object(schema, named),
    }
}

fn object(schema: &Value, named: &str) -> Kind {
    let open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let has_fields = schema.get("properties").is_some() || flag(schema, "x-kubernetes-embedded-resource");
    match schema.get("additionalProperties") {
        Some(values @ Value::Object(_)) => {
            Kind::Map(Arc::new(Map { value: kind(values), atomic: is_atomic(schema), nulls: nulls(values) }))
        }
        Some(Value::Bool(true)) if !has_fields => {
            let nulls = Nulls { allowed: true, default: None };
            let value = if open { Kind::Any } else { Kind::Message(Link::to(Arc::new(closed()))) };
            Kind::Map(Arc::new(Map { value, atomic: is_atomic(schema), nulls }))
        }
        _ if open && !has_fields => {
            if named.is_empty() {
                Kind::Any
            } else {
                // Owned by key, which what upstream's own kinds hold in this form is not.
                let nulls = Nulls { allowed: true, default: None };
                Kind::Map(Arc::new(Map { value: Kind::Any, atomic: is_atomic(schema), nulls }))
            }
        }
        _ => Kind::Message(Link::to(Arc::new(message(schema)))),
    }
}

/// An object of which no field is known.
fn closed() -> Schema {
    loose(String::new(), Vec::new())
}

fn nulls(schema: &Value) -> Nulls {
    Nulls { allowed: flag(schema, "nullable"), default: schema.get("default").cloned() }
}

fn merge(schema: &Value) -> ListMerge {
    match text(schema, "x-kubernetes-list-type") {
        "set" => ListMerge::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            ListMerge::Keys(keys.filter_map(Value::as_str).map(|key| key.to_owned().into()).collect())
        }
        _ => ListMerge::Atomic,
    }
}

fn is_atomic(schema: &Value) -> bool {
    text(schema, "x-kubernetes-map-type") == "atomic"
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use martello_api::schema::{apply_defaults, decode_value};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_prunes_and_fills_in_as_its_schema_says() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "string", "default": "x"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "integer", "default": 1}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
            "object": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
        }}}});
        let table = table(&schema, "x".into());
        let mut filled = json!({"metadata": {}});
        apply_defaults(&table, &mut filled);
        assert_eq!(filled, json!({"metadata": {}, "spec": {"a": "x"}}));
        let given = json!({"spec": {
            "open": {"any": {"thing": 1}}, "map": {"m": {"x": 1}}, "list": [{"k": "v", "z": 1}],
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "frob": 1}, "spec": {"a": 1}, "other": 1},
        }});
        let mut pruned = decode_value(&table, given).unwrap().value;
        apply_defaults(&table, &mut pruned);
        assert_eq!(
            pruned,
            json!({"spec": {
                "a": "x", "open": {"any": {"thing": 1}}, "map": {"m": {"k": 1}}, "list": [{"k": "v"}],
                "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
            }})
        );
    }
}
