//! The shapes of objects, from the schema table and the descriptions of the typed structs.

use std::collections::{BTreeMap, BTreeSet};

use martello_api::resource::{GroupVersionKind, Resource};
use martello_api::schema::{Descriptions, Field, Kind, ListMerge, Presence, Schema, Schemas, zero};
use serde_json::{Map, Value, json};

use super::{CustomSchema, custom};

/// Which version of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// 2.0
    Second,
    /// 3.0
    Third,
}

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// The definitions of what these resources speak, and of all that is part of it.
pub(super) fn definitions(resources: &[&Resource], custom: &[CustomSchema], flavour: Flavour) -> Value {
    let mut schemas = reached(resources);
    if !custom.is_empty() {
        custom::needs().into_iter().for_each(|schema| reach(schema, &mut schemas));
    }
    let names: BTreeSet<&str> = schemas.keys().copied().chain([PATCH, FIELDS_V1, RAW_EXTENSION]).collect();
    let words = Descriptions::of(&names);
    let mut all = Map::new();
    for (name, schema) in &schemas {
        all.insert((*name).to_owned(), definition(schema, flavour, &words));
    }
    let scalars = [
        (QUANTITY, json!({"type": "string"})),
        (INT_OR_STRING, json!({"type": "string", "format": "int-or-string"})),
        (TIME, json!({"type": "string", "format": "date-time"})),
        (MICRO_TIME, json!({"type": "string", "format": "date-time"})),
        (PATCH, json!({"type": "object"})),
        (FIELDS_V1, json!({"type": "object"})),
        (RAW_EXTENSION, json!({"type": "object"})),
    ];
    for (name, mut value) in scalars {
        if flavour == Flavour::Third && name == QUANTITY {
            value = json!({"oneOf": [{"type": "string"}, {"type": "number"}]});
        }
        if flavour == Flavour::Third && name == INT_OR_STRING {
            value = json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]});
        }
        describe(&mut value, words.of_type(name));
        all.insert(name.to_owned(), value);
    }
    all.extend(custom.iter().flat_map(|schema| custom::definitions(schema, flavour)));
    Value::Object(all)
}

/// The list kind of a kind.
pub(super) fn list_of(gvk: &GroupVersionKind) -> GroupVersionKind {
    GroupVersionKind { kind: format!("{}List", gvk.kind).into(), ..gvk.clone() }
}

fn reached(resources: &[&Resource]) -> BTreeMap<&'static str, &'static Schema> {
    let all = Schemas::builtin();
    let mut found = BTreeMap::new();
    let kinds = resources.iter().flat_map(|resource| {
        let own = [resource.gvk.clone(), list_of(&resource.gvk)];
        own.into_iter().chain(resource.subresources.iter().map(|sub| sub.gvk.clone()))
    });
    let roots = kinds
        .filter_map(|gvk| all.get(&gvk))
        .chain([STATUS, DELETE_OPTIONS].into_iter().filter_map(|name| all.named(name)));
    roots.for_each(|schema| reach(schema, &mut found));
    found
}

/// Adds a schema and all that is part of it.
fn reach(root: &'static Schema, found: &mut BTreeMap<&'static str, &'static Schema>) {
    let mut open = vec![root];
    while let Some(schema) = open.pop() {
        if found.insert(&*schema.name, schema).is_none() {
            open.extend(schema.fields().iter().filter_map(|field| message(&field.kind)));
        }
    }
}

fn message(kind: &'static Kind) -> Option<&'static Schema> {
    match kind {
        Kind::Message(link) => Some(link.get()),
        Kind::List(list) => message(&list.item),
        Kind::Map(map) => message(&map.value),
        _ => None,
    }
}

fn describe(value: &mut Value, words: &str) {
    if let (Value::Object(map), false) = (value, words.is_empty()) {
        map.insert("description".into(), words.into());
    }
}

fn definition(schema: &Schema, flavour: Flavour, words: &Descriptions) -> Value {
    let mut properties = Map::new();
    for field in schema.fields() {
        let mut value = property(field, flavour);
        if let (Value::Object(map), true) =
            (&mut value, schema.name.ends_with(".APIServiceSpec") && field.name == "caBundle")
        {
            // The one text that is declared a list: of bytes, upstream.
            map.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        describe(&mut value, words.of_field(&schema.name, &field.name));
        properties.insert(field.name.to_string(), value);
    }
    let required: Vec<&str> = schema.fields().iter().filter(|field| field.required).map(|field| &*field.name).collect();
    let mut map = Map::from_iter([("type".to_owned(), json!("object"))]);
    if !properties.is_empty() {
        map.insert("properties".into(), Value::Object(properties));
    }
    if !required.is_empty() {
        map.insert("required".into(), json!(required));
    }
    if schema.atomic {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(unions) = &schema.unions {
        map.insert("x-kubernetes-unions".into(), unions.clone());
    }
    if !schema.kinds.is_empty() {
        let kinds: Vec<Value> = schema.kinds.iter().map(gvk).collect();
        map.insert("x-kubernetes-group-version-kind".into(), Value::Array(kinds));
    }
    let mut value = Value::Object(map);
    describe(&mut value, words.of_type(&schema.name));
    value
}

/// A kind as extensions write it.
pub(super) fn gvk(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

/// A reference to a definition.
pub(super) fn reference(name: &str, flavour: Flavour) -> Value {
    match flavour {
        Flavour::Second => json!({"$ref": format!("#/definitions/{name}")}),
        Flavour::Third => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

fn property(field: &Field, flavour: Flavour) -> Value {
    let mut value = match &field.kind {
        // The one field whose own type is not of the schema table.
        Kind::Raw if field.name == "fieldsV1" => reference(FIELDS_V1, flavour),
        kind => shape(kind, flavour),
    };
    let default = match (&field.default, field.presence, &field.kind) {
        (Some(default), ..) => Some(default.clone()),
        (None, Presence::Always, Kind::Message(_)) => Some(json!({})),
        (None, Presence::Always, kind) => Some(zero(kind)),
        (None, ..) => None,
    };
    if flavour == Flavour::Third {
        if value.get("$ref").is_some() {
            value = json!({"allOf": [value]});
        }
        if let (Value::Object(map), Some(default)) = (&mut value, default) {
            map.insert("default".into(), default);
        }
    }
    let Value::Object(map) = &mut value else { return value };
    if let Some(kind) = &field.map_type {
        map.insert("x-kubernetes-map-type".into(), json!(kind));
    }
    if let Kind::List(list) = &field.kind
        && list.declared
    {
        let kind = match &list.merge {
            ListMerge::Atomic => "atomic",
            ListMerge::Set => "set",
            ListMerge::Keys(keys) => {
                map.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                "map"
            }
        };
        map.insert("x-kubernetes-list-type".into(), kind.into());
    }
    let strategies: Vec<&str> =
        [(field.patch.merge, "merge"), (field.patch.retain_keys, "retainKeys"), (field.patch.replace, "replace")]
            .into_iter()
            .filter_map(|(given, name)| given.then_some(name))
            .collect();
    if !strategies.is_empty() {
        map.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
    }
    if let Some(key) = &field.patch.key {
        map.insert("x-kubernetes-patch-merge-key".into(), json!(key));
    }
    value
}

fn shape(kind: &Kind, flavour: Flavour) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Quantity => reference(QUANTITY, flavour),
        Kind::IntOrString => reference(INT_OR_STRING, flavour),
        Kind::Time => reference(TIME, flavour),
        Kind::MicroTime => reference(MICRO_TIME, flavour),
        Kind::Any => json!({}),
        Kind::Raw => reference(RAW_EXTENSION, flavour),
        Kind::Message(link) => reference(&link.get().name, flavour),
        Kind::List(list) => json!({"type": "array", "items": shape(&list.item, flavour)}),
        Kind::Map(map) => json!({"type": "object", "additionalProperties": shape(&map.value, flavour)}),
    }
}
