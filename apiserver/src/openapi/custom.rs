//! Definitions of kinds that came at run time, made from their schemas.

use std::{collections::BTreeSet, sync::LazyLock};

use martello_api::{resource::GroupVersionKind, schema::Descriptions};
use serde_json::{Map, Value, json};

use super::{
    CustomSchema,
    definitions::{Flavour, gvk, reference},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Whose words describe kind and version: they are the same for all.
const LIKE: &str = "io.k8s.api.core.v1.ConfigMap";
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The mark of schemas that keep unknown fields.
const OPEN: &str = "x-kubernetes-preserve-unknown-fields";

static WORDS: LazyLock<Descriptions> = LazyLock::new(|| Descriptions::of(&BTreeSet::from([LIKE])));

/// What `apiVersion` or `kind` is for.
pub(super) fn type_words(field: &str) -> &'static str {
    WORDS.of_field(LIKE, field)
}

/// `com.example.v1.Widget`
fn name(kind: &GroupVersionKind) -> String {
    crate::crd::definition::definition_name(&kind.group, &kind.version, &kind.kind)
}

/// The kind of the lists of a custom kind.
pub(super) fn list_of(schema: &CustomSchema) -> GroupVersionKind {
    GroupVersionKind { kind: schema.list_kind.clone().into(), ..schema.resource.gvk.clone() }
}

/// The definition that a kind has, if it is one of these or their lists.
pub(super) fn named(custom: &[CustomSchema], kind: &GroupVersionKind) -> Option<String> {
    custom.iter().any(|schema| schema.resource.gvk == *kind || list_of(schema) == *kind).then(|| name(kind))
}

/// The definitions of a kind and of its list.
pub(super) fn definitions(custom: &CustomSchema, flavour: Flavour) -> [(String, Value); 2] {
    let kind = &custom.resource.gvk;
    let list = list_of(custom);
    // Of an object with unknown fields, version 2 says no more than that it is one.
    let is_bare = flavour == Flavour::Second && custom.schema.as_object().is_some_and(|map| says(map, OPEN));
    let mut object = if is_bare { json!({}) } else { (*custom.schema).clone() };
    unfold(&mut object);
    if flavour == Flavour::Second {
        object = second(&object);
    }
    whole_objects(&mut object, flavour);
    if let Value::Object(map) = &mut object {
        map.insert("type".into(), "object".into());
        map.insert("x-kubernetes-group-version-kind".into(), json!([gvk(kind)]));
        if !is_bare && let Value::Object(properties) = map.entry("properties").or_insert_with(|| json!({})) {
            put_type(properties);
            put_metadata(properties, flavour);
        }
    }
    let mut properties = Map::new();
    put_type(&mut properties);
    let mut metadata = held(LIST_META, flavour);
    describe(
        &mut metadata,
        "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
    );
    properties.insert("metadata".into(), metadata);
    let items = format!("List of {}. More info: {CONVENTIONS}", custom.resource.plural);
    let item = reference(&name(kind), flavour);
    properties.insert("items".into(), json!({"description": items, "type": "array", "items": item}));
    let whole = json!({
        "description": format!("{} is a list of {}", custom.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [gvk(&list)],
    });
    [(name(kind), object), (name(&list), whole)]
}

fn put_type(properties: &mut Map<String, Value>) {
    for key in ["apiVersion", "kind"] {
        let mut property = json!({"type": "string"});
        describe(&mut property, WORDS.of_field(LIKE, key));
        properties.insert(key.into(), property);
    }
}

fn put_metadata(properties: &mut Map<String, Value>, flavour: Flavour) {
    let mut metadata = held(OBJECT_META, flavour);
    describe(&mut metadata, WORDS.of_field(LIKE, "metadata"));
    properties.insert("metadata".into(), metadata);
}

fn held(name: &str, flavour: Flavour) -> Value {
    match flavour {
        Flavour::Second => reference(name, flavour),
        Flavour::Third => json!({"allOf": [reference(name, flavour)]}),
    }
}

fn describe(value: &mut Value, words: &str) {
    if let (Value::Object(map), false) = (value, words.is_empty()) {
        map.insert("description".into(), words.into());
    }
}

/// Whether a schema has this mark.
fn says(schema: &Map<String, Value>, mark: &str) -> bool {
    schema.get(mark).and_then(Value::as_bool) == Some(true)
}

/// Does something to the schemas of what a schema holds.
fn each_part(schema: &mut Map<String, Value>, mut act: impl FnMut(&mut Value)) {
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(&mut act),
            ("items" | "additionalProperties", value @ Value::Object(_)) => act(value),
            _ => {}
        }
    }
}

/// Says in the schema's own words what may be a number or a text.
fn unfold(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    each_part(map, unfold);
    if !says(map, "x-kubernetes-int-or-string") {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let first = map.get("allOf").and_then(|all| all.get(0));
    if map.get("anyOf") == Some(&either) || first == Some(&json!({"anyOf": either})) {
        return;
    }
    if !map.contains_key("anyOf") {
        map.insert("anyOf".into(), either);
    } else if let Value::Array(all) = map.entry("allOf").or_insert_with(|| json!([])) {
        all.insert(0, json!({"anyOf": either}));
    }
}

/// Gives whole objects within an object what every object has; version 2 keeps silent of those with unknown fields.
fn whole_objects(schema: &mut Value, flavour: Flavour) {
    let Value::Object(map) = schema else { return };
    each_part(map, |part| whole_objects(part, flavour));
    if !says(map, "x-kubernetes-embedded-resource") || flavour == Flavour::Second && says(map, OPEN) {
        return;
    }
    if let Value::Object(properties) = map.entry("properties").or_insert_with(|| json!({})) {
        let words = [
            ("apiVersion", "apiVersion defines the versioned schema of this representation of an object.", "resources"),
            ("kind", "kind is a string value representing the type of this object. In CamelCase.", "types-kinds"),
        ];
        for (key, what, more) in words {
            let description = format!("{what} More info: {CONVENTIONS}#{more}");
            properties.insert(key.into(), json!({"type": "string", "description": description}));
        }
        put_metadata(properties, flavour);
    }
    if let Value::Array(required) = map.entry("required").or_insert_with(|| json!([])) {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|own| own == name) {
                required.push(name.into());
            }
        }
    }
}

/// What version 2 can say of a schema: clients take its words too literally where null, either of two types or unknown
/// fields are fine, so that there little is said.
fn second(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let (nullable, open) = (says(map, "nullable"), says(map, OPEN));
    let may_be_null = |schema: &Value| schema.as_object().is_some_and(|map| says(map, "nullable"));
    let own_type = map.get("type").and_then(Value::as_str).unwrap_or_default();
    let has_items = map.contains_key("items") && !open;
    let untyped = nullable || own_type == "array" && !has_items || own_type == "object" && open;
    let fields = map.get("properties").filter(|_| !nullable && !open);
    let stays = |name: &&Value| {
        let field = name.as_str().and_then(|name| fields?.get(name));
        !field.is_some_and(may_be_null)
    };
    let mut told = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            "allOf" | "anyOf" | "oneOf" | "not" | "nullable" | "default" => continue,
            "items" | "properties" if nullable || open => continue,
            "type" if untyped => continue,
            "required" if map.get("additionalProperties").is_some_and(may_be_null) => continue,
            "required" => {
                let names: Vec<Value> = value.as_array().into_iter().flatten().filter(stays).cloned().collect();
                if names.is_empty() {
                    continue;
                }
                names.into()
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                properties.map(|(name, value)| (name.clone(), second(value))).collect::<Map<_, _>>().into()
            }
            "items" | "additionalProperties" => second(value),
            _ => value.clone(),
        };
        told.insert(key.clone(), value);
    }
    Value::Object(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_objects_and_either_of_two_types_are_told_in_the_schemas_own_words() {
        let mut schema = json!({"properties": {
            "whole": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
        }});
        unfold(&mut schema);
        assert_eq!(schema["properties"]["port"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        let mut third = schema.clone();
        whole_objects(&mut third, Flavour::Third);
        assert_eq!(third["properties"]["whole"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(third["properties"]["whole"]["properties"]["kind"]["type"], "string");
        let mut told = second(&schema);
        whole_objects(&mut told, Flavour::Second);
        assert_eq!(
            told["properties"]["whole"],
            json!({"x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true})
        );
        assert_eq!(told["properties"]["port"], json!({"x-kubernetes-int-or-string": true}));
    }

    #[test]
    fn version_2_demands_no_field_that_may_be_null() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true},
            "b": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "string"}},
        }});
        assert_eq!(
            second(&schema),
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {}, "b": {"x-kubernetes-preserve-unknown-fields": true}}})
        );
    }
}
