//! The shapes of objects, from the schema table and the descriptions of the typed structs.

use std::collections::{BTreeMap, BTreeSet};

use martello_api::resource::GroupVersionKind;
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
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// The definitions that `told` refers to, and all that is part of them. In version 3, a type that many versions share is
/// told of the version alone that the document is of.
pub(super) fn definitions(
    told: &Map<String, Value>,
    custom: &[CustomSchema],
    flavour: Flavour,
    of: Option<(&str, &str)>,
) -> Map<String, Value> {
    let mut all: Map<String, Value> = custom.iter().flat_map(|schema| custom::definitions(schema, flavour)).collect();
    let mut wanted = BTreeSet::new();
    told.values().chain(all.values()).for_each(|value| references(value, &mut wanted));
    let mut found = BTreeMap::new();
    for name in &wanted {
        if let Some(schema) = Schemas::builtin().named(name) {
            reach(schema, &mut found);
        }
    }
    let words = Descriptions::of(&found.keys().copied().chain([PATCH, RAW_EXTENSION]).collect());
    for (name, schema) in &found {
        let told = definition(schema, flavour, &words, of);
        references(&told, &mut wanted);
        all.insert((*name).to_owned(), told);
    }
    for (_, name) in EITHER.iter().filter(|(_, name)| wanted.contains(&format!("{EXTENSIONS}.{name}"))) {
        let (name, mut value) = (format!("{EXTENSIONS}.{name}"), json!({}));
        describe(&mut value, words.of_type(&name));
        all.insert(name, value);
    }
    for (name, mut value) in scalars(flavour) {
        if wanted.contains(name) {
            describe(&mut value, words.of_type(name));
            all.insert(name.to_owned(), value);
        }
    }
    all
}

/// The types that are no object of fields.
fn scalars(flavour: Flavour) -> [(&'static str, Value); 7] {
    let (mut quantity, mut either) = (json!({"type": "string"}), json!({"type": "string", "format": "int-or-string"}));
    if flavour == Flavour::Third {
        quantity = json!({"oneOf": [{"type": "string"}, {"type": "number"}]});
        either = json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]});
    }
    [
        (QUANTITY, quantity),
        (INT_OR_STRING, either),
        (TIME, json!({"type": "string", "format": "date-time"})),
        (MICRO_TIME, json!({"type": "string", "format": "date-time"})),
        (PATCH, json!({"type": "object"})),
        (FIELDS_V1, json!({"type": "object"})),
        (RAW_EXTENSION, json!({"type": "object"})),
    ]
}

/// The names of what a value refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next());
            found.extend(name.map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The list kind of a kind.
pub(super) fn list_of(gvk: &GroupVersionKind) -> GroupVersionKind {
    GroupVersionKind { kind: format!("{}List", gvk.kind).into(), ..gvk.clone() }
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

/// What a field is for. Kind and version are described alike in all types.
fn words_of<'w>(schema: &Schema, field: &Field, words: &'w Descriptions) -> &'w str {
    match words.of_field(&schema.name, &field.name) {
        "" if schema.name == WATCH_EVENT && field.name == "object" => "The object, or a Status of what went wrong.",
        "" if !schema.kinds.is_empty() && matches!(&*field.name, "apiVersion" | "kind") => {
            custom::type_words(&field.name)
        }
        words => words,
    }
}

fn definition(schema: &Schema, flavour: Flavour, words: &Descriptions, of: Option<(&str, &str)>) -> Value {
    let mut properties = Map::new();
    for field in schema.fields() {
        let mut value = property(schema, field, flavour);
        if let (Value::Object(map), true) =
            (&mut value, schema.name.ends_with(".APIServiceSpec") && field.name == "caBundle")
        {
            // The one text that is declared a list: of bytes, upstream.
            map.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        describe(&mut value, words_of(schema, field, words));
        if flavour == Flavour::Third {
            wrap_reference(&mut value);
        }
        properties.insert(field.name.to_string(), value);
    }
    let required = required(schema);
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
    let own = |kind: &&GroupVersionKind| {
        let version = (&*kind.group, &*kind.version);
        schema.kinds.len() == 1 || of.is_none_or(|of| version == of || version == ("", "v1"))
    };
    let kinds: Vec<Value> = schema.kinds.iter().filter(own).map(gvk).collect();
    if !kinds.is_empty() {
        map.insert("x-kubernetes-group-version-kind".into(), Value::Array(kinds));
    }
    let mut value = Value::Object(map);
    describe(&mut value, words.of_type(&schema.name));
    value
}

/// Types whose required fields are not declared in the order of their numbers.
const DECLARED_OTHERWISE: [(&str, &[&str]); 4] = [
    ("io.k8s.api.networking.v1.HTTPIngressPath", &["pathType", "backend"]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.APIResource", &["name", "singularName", "namespaced", "kind", "verbs"]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", &["apiVersion", "kind", "name", "uid"]),
    (
        "io.k8s.apimachinery.pkg.version.Info",
        &[
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ],
    ),
];

/// The required fields, in the order in which upstream declares them.
fn required(schema: &Schema) -> Vec<&str> {
    if let Some((_, fields)) = DECLARED_OTHERWISE.iter().find(|(name, _)| *name == schema.name) {
        return fields.to_vec();
    }
    let mut fields: Vec<&Field> = schema.fields().iter().filter(|field| field.required).collect();
    fields.sort_by_key(|field| (field.outer, field.number));
    fields.iter().map(|field| &*field.name).collect()
}

/// Fields with a declared default that is what they are without: told, and filled in by nobody.
const DEFAULT_IS_ZERO: [(&str, &str); 3] = [
    ("io.k8s.api.authentication.v1.SelfSubjectReviewStatus", "userInfo"),
    ("io.k8s.api.autoscaling.v1.ScaleSpec", "replicas"),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "minReadySeconds"),
];

/// Fields that have no default where others of their presence have one.
const WITHOUT_DEFAULT: [(&str, &str); 5] = [
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", "sideEffects"),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", "sideEffects"),
    ("io.k8s.api.core.v1.ResourceFieldSelector", "divisor"),
    ("io.k8s.api.networking.v1.HTTPIngressPath", "pathType"),
    ("io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequestStatus", "poolCount"),
];

/// The default that version 3 tells of a field.
fn default(schema: &Schema, field: &Field) -> Option<Value> {
    let told = field.default.is_some()
        || field.presence == Presence::Always
        || field.presence == Presence::Optional && field.required && !matches!(field.kind, Kind::Message(_))
        || DEFAULT_IS_ZERO.iter().any(|(name, of)| *name == schema.name && *of == field.name);
    let zero = || match &field.kind {
        Kind::Message(_) => json!({}),
        kind => zero(kind),
    };
    let without = WITHOUT_DEFAULT.iter().any(|(name, of)| *name == schema.name && *of == field.name);
    (told && !without).then(|| field.default.clone().unwrap_or_else(zero))
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

/// Types that may be of one or another type; what they hold is told as anything.
const EITHER: [(&str, &str); 7] = [
    ("additionalItems", "JSONSchemaPropsOrBool"),
    ("additionalProperties", "JSONSchemaPropsOrBool"),
    ("default", "JSON"),
    ("dependencies", "JSONSchemaPropsOrStringArray"),
    ("enum", "JSON"),
    ("example", "JSON"),
    ("items", "JSONSchemaPropsOrArray"),
];
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The name of such a type, for a field that has one in it.
fn either(schema: &Schema, field: &Field) -> Option<String> {
    let of = schema.name.strip_prefix(EXTENSIONS).is_some_and(|name| name == ".JSONSchemaProps");
    let found = EITHER.iter().find(|(name, _)| of && *name == field.name);
    found.map(|(_, name)| format!("{EXTENSIONS}.{name}"))
}

/// In version 3 nothing may stand beside a reference.
fn wrap_reference(value: &mut Value) {
    if let Value::Object(map) = value
        && map.len() > 1
        && let Some(to) = map.remove("$ref")
    {
        map.insert("allOf".into(), json!([{"$ref": to}]));
    }
}

fn property(schema: &Schema, field: &Field, flavour: Flavour) -> Value {
    let mut value = match &field.kind {
        // The one field whose own type is not of the schema table.
        Kind::Raw if field.name == "fieldsV1" => reference(FIELDS_V1, flavour),
        kind => shape(kind, flavour, either(schema, field)),
    };
    if let (Value::Object(map), Flavour::Third, Some(default)) = (&mut value, flavour, default(schema, field)) {
        map.insert("default".into(), default);
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

/// `either` is the name of what is told as anything, where it has one.
fn shape(kind: &Kind, flavour: Flavour, either: Option<String>) -> Value {
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
        Kind::Any => either.map_or_else(|| json!({}), |name| reference(&name, flavour)),
        Kind::Raw => reference(RAW_EXTENSION, flavour),
        Kind::Message(link) => reference(&link.get().name, flavour),
        Kind::List(list) => json!({"type": "array", "items": shape(&list.item, flavour, either)}),
        Kind::Map(map) => json!({"type": "object", "additionalProperties": shape(&map.value, flavour, either)}),
    }
}
