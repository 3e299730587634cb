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
    let mut object = match flavour {
        Flavour::Third => (*custom.schema).clone(),
        Flavour::Second => second(&custom.schema, true),
    };
    if let Value::Object(map) = &mut object {
        map.insert("type".into(), "object".into());
        map.insert("x-kubernetes-group-version-kind".into(), json!([gvk(kind)]));
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            put_type(properties);
            let mut metadata = held(OBJECT_META, flavour);
            describe(&mut metadata, WORDS.of_field(LIKE, "metadata"));
            properties.insert("metadata".into(), metadata);
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

/// What version 2 can say of a schema: clients take its words too literally where null, either of two types or unknown
/// fields are fine, so that there nothing is said.
fn second(schema: &Value, is_root: bool) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let flag = |key: &str| map.get(key).and_then(Value::as_bool) == Some(true);
    let open = flag("x-kubernetes-preserve-unknown-fields");
    let vague = flag("nullable") || flag("x-kubernetes-int-or-string") || open && !is_root;
    let mut told = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            "allOf" | "anyOf" | "oneOf" | "not" | "nullable" | "default" => continue,
            "type" | "properties" | "items" | "additionalProperties" | "required" | "enum" if vague => continue,
            "properties" if is_root && open => continue,
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                properties.map(|(name, value)| (name.clone(), second(value, false))).collect::<Map<_, _>>().into()
            }
            "items" | "additionalProperties" => second(value, false),
            _ => value.clone(),
        };
        told.insert(key.clone(), value);
    }
    Value::Object(told)
}
