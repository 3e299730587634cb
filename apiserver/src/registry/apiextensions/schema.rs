//! What is wrong with the schema of a version: words that are not supported, lists and maps that contradict themselves.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{defaults, rules, shown, structural};
use crate::registry::{object, validation::field::Field};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const META_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];
/// What the root may say beside its fields where the status has an endpoint of its own.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
/// What is said already by standing there, whatever it says.
const UNSET_ONLY_IF_ABSENT: [&str; 7] = [
    "additionalProperties",
    "maxProperties",
    "minProperties",
    "not",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];
const AT_ROOT_SHOWN: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// Checks the schema that `validation` holds.
pub fn check(validation: &Field<'_>, status: bool, causes: &mut Vec<Cause>) {
    let Some(root) = validation.get("openAPIV3Schema") else { return };
    let start = causes.len();
    if status {
        at_root(&root, causes);
    }
    if root.flag("nullable") {
        root.at("nullable").forbidden("nullable cannot be true at the root", causes);
    }
    let before = causes.len();
    let unsupported = structural::unsupported(&root);
    if unsupported.is_none() {
        causes.extend(structural::faults(&root));
        if causes.len() == before {
            defaults::check(&root, causes);
        }
    }
    let judges_rules = unsupported.is_none() && causes.len() == before;
    let mut found = Found::default();
    let walk = Walk { defaults: Ok(()), in_meta: false, apart: None };
    walk.schema(&root, true, judges_rules.then(rules::Reach::root), &mut found);
    let sound = found.schema.is_empty() && found.rules.is_empty() && causes.len() == start;
    causes.append(&mut found.schema);
    causes.append(&mut found.rules);
    if let (true, Some(why)) = (sound, unsupported) {
        causes.push(Cause::invalid(root.path.as_str(), &json!(""), &why));
    }
    found.costs.judge(&root, causes);
}

/// What a walk through a schema found: upstream tells of rules after all else, and only where the rest is sound.
#[derive(Default)]
struct Found {
    schema: Vec<Cause>,
    rules: Vec<Cause>,
    costs: rules::Costs,
}

/// Tells of the first word that may not stand at the root, in the order of upstream's type: type after reference.
fn at_root(root: &Field<'_>, causes: &mut Vec<Cause>) {
    let given = |key: &str| {
        let value = root.at(key).value;
        !value.is_null() && (UNSET_ONLY_IF_ABSENT.contains(&key) || !object::is_zero(value))
    };
    let refused = |key: &str| !AT_ROOT.contains(&key) && given(key);
    let before_type = ["id", "$schema", "$ref"].into_iter().any(refused);
    if !before_type && !root.str("type").is_empty() && root.str("type") != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        root.at("type").invalid(why, causes);
    } else if root.value.as_object().into_iter().flatten().any(|(key, _)| refused(key)) {
        let why = format!(
            "only {AT_ROOT_SHOWN} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        causes.push(Cause::invalid(root.path.as_str(), &shown::schema(root.value), &why));
    }
}

/// Where the walk is.
#[derive(Clone)]
struct Walk {
    /// Whether defaults may be given, or why not.
    defaults: Result<(), &'static str>,
    /// Within the metadata of an object.
    in_meta: bool,
    /// The list or map within which old and new values can't be told to be the same.
    apart: Option<String>,
}

impl Walk {
    /// Judges `schema` and what is below it; rules only where `reach` tells how often they may run.
    fn schema(&self, schema: &Field<'_>, is_root: bool, reach: Option<rules::Reach>, found: &mut Found) {
        if !schema.value.is_object() {
            return;
        }
        let before = found.schema.len();
        self.words(schema, &mut found.schema);
        if schema.flag("uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            schema.at("uniqueItems").forbidden(why, &mut found.schema);
        }
        self.fields(schema, is_root, reach, found);
        self.schema(&schema.at("not"), false, None, found);
        for key in ["allOf", "oneOf", "anyOf"] {
            schema.items(key).iter().for_each(|schema| self.schema(schema, false, None, found));
        }
        schema.entries("definitions").iter().for_each(|(_, schema)| self.schema(schema, false, None, found));
        self.items(schema, reach, found);
        schema.entries("dependencies").iter().for_each(|(_, schema)| self.schema(schema, false, None, found));
        extensions(schema, &mut found.schema);
        list_keys(schema, &mut found.schema);
        map_items(schema, &mut found.schema);
        rules::words(schema, &mut found.schema);
        if let (Some(reach), true) = (reach, found.schema.len() == before) {
            rules::check(schema, is_root, reach, self.apart.as_deref(), &mut found.costs, &mut found.rules);
        }
    }

    fn fields(&self, schema: &Field<'_>, is_root: bool, reach: Option<rules::Reach>, found: &mut Found) {
        let others = schema.at("additionalProperties");
        if !others.value.is_null() {
            if schema.count_of("properties") > 0 && *others.value != json!(true) {
                others.forbidden("additionalProperties and properties are mutual exclusive", &mut found.schema);
            }
            let mut walk = self.clone();
            if self.in_meta {
                walk.defaults = Err(" inside additionalProperties applying to object metadata");
            }
            let reach = reach.map(|reach| reach.many(schema.at("maxProperties").int()));
            walk.schema(&others, false, reach, found);
        }
        let atomic = schema.get("x-kubernetes-map-type").is_some_and(|kind| kind.text() != "granular");
        for (name, property) in schema.entries("properties") {
            let mut walk = self.clone();
            if atomic {
                walk.apart.get_or_insert_with(|| schema.path.clone());
            }
            if (is_root || schema.flag("x-kubernetes-embedded-resource")) && META_FIELDS.contains(&name) {
                walk.in_meta = true;
                if is_root {
                    walk.defaults = Err(match name {
                        "metadata" => " in top-level metadata",
                        "kind" => " in top-level kind",
                        _ => " in top-level apiVersion",
                    });
                }
            }
            walk.schema(&property, false, reach, found);
        }
    }

    fn items(&self, schema: &Field<'_>, reach: Option<rules::Reach>, found: &mut Found) {
        let mut walk = self.clone();
        if schema.str("x-kubernetes-list-type") != "map" {
            walk.apart.get_or_insert_with(|| schema.path.clone());
        }
        let reach = reach.map(|reach| reach.many(schema.at("maxItems").int()));
        walk.schema(&schema.at("items"), false, reach, found);
        schema.items("items").iter().for_each(|item| walk.schema(item, false, reach, found));
    }

    fn words(&self, schema: &Field<'_>, causes: &mut Vec<Cause>) {
        let kind = schema.at("type");
        if !kind.text().is_empty() && !TYPES.contains(&kind.text()) {
            kind.one_of(&TYPES, causes);
        }
        if let (Err(why), Some(default)) = (self.defaults, schema.get("default")) {
            default.forbidden(&format!("must not be set{why}"), causes);
        }
        let mut unsupported = |key: &str, given: bool| {
            if given {
                schema.at(key).forbidden(&format!("{key} is not supported"), causes);
            }
        };
        unsupported("id", !schema.str("id").is_empty());
        unsupported("additionalItems", schema.get("additionalItems").is_some());
        for key in ["patternProperties", "definitions"] {
            unsupported(key, schema.count_of(key) > 0);
        }
        for key in ["dependencies", "$ref"] {
            unsupported(key, schema.get(key).is_some());
        }
        if kind.text() == "null" {
            kind.forbidden("type cannot be set to null, use nullable as an alternative", causes);
        }
        if schema.count("items") > 0 {
            schema.at("items").forbidden("items must be a schema object and not an array", causes);
        }
        if self.in_meta && schema.flag("x-kubernetes-embedded-resource") {
            schema.at("x-kubernetes-embedded-resource").forbidden("must not be used inside of resource meta", causes);
        }
    }
}

/// Entries of the map under a key.
trait Count {
    fn count_of(&self, key: &str) -> usize;
}

impl Count for Field<'_> {
    fn count_of(&self, key: &str) -> usize {
        self.value.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len)
    }
}

fn extensions(schema: &Field<'_>, causes: &mut Vec<Cause>) {
    let open = schema.at("x-kubernetes-preserve-unknown-fields");
    if *open.value == json!(false) {
        open.invalid("must be true or undefined", causes);
    }
    let kind = schema.at("type");
    let needs_type = |wanted: &str, because: &str, causes: &mut Vec<Cause>| {
        let why = format!("must be {wanted} if {because} is specified");
        if kind.text().is_empty() { kind.required(&why, causes) } else { kind.invalid(&why, causes) }
    };
    if let Some(map_type) = schema.get("x-kubernetes-map-type") {
        if kind.text() != "object" {
            needs_type("object", "x-kubernetes-map-type", causes);
        }
        map_type.one_of(&["atomic", "granular"], causes);
    }
    let Some(list_type) = schema.get("x-kubernetes-list-type") else { return };
    let items = schema.at("items");
    if kind.text() != "array" {
        needs_type("array", "x-kubernetes-list-type", causes);
    } else if list_type.text() == "set" && items.value.is_object() {
        const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let nested = items.get("x-kubernetes-list-type");
        match items.str("type") {
            "array" => {
                if let Some(nested) = nested.filter(|nested| nested.text() != "atomic") {
                    nested.invalid(WHY, causes);
                }
            }
            "object" if items.str("x-kubernetes-map-type") != "atomic" => {
                let shown = nested.map_or(Value::Null, |nested| nested.value.clone());
                causes.push(Cause::invalid(items.at("x-kubernetes-map-type").path, &shown, WHY));
            }
            _ => {}
        }
    }
    list_type.one_of(&["atomic", "set", "map"], causes);
}

fn list_keys(schema: &Field<'_>, causes: &mut Vec<Cause>) {
    let (kind, keys, items) =
        (schema.at("x-kubernetes-list-type"), schema.at("x-kubernetes-list-map-keys"), schema.at("items"));
    let names: Vec<&str> =
        object::list(schema.value, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).collect();
    if !names.is_empty() && kind.text() != "map" {
        const WHY: &str = "must be map if x-kubernetes-list-map-keys is non-empty";
        if kind.value.is_null() { kind.required(WHY, causes) } else { kind.invalid(WHY, causes) }
    }
    if kind.text() != "map" {
        return;
    }
    if names.is_empty() {
        keys.required("must not be empty if x-kubernetes-list-type is map", causes);
    }
    match items.value {
        Value::Null => return items.required("must have a schema if x-kubernetes-list-type is map", causes),
        Value::Object(_) => {}
        _ => return items.invalid("must only have a single schema if x-kubernetes-list-type is map", causes),
    }
    if items.str("type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(items.at("type").path, &json!(items.str("type")), why));
        return;
    }
    for (at, name) in names.iter().enumerate() {
        match items.at("properties").value.get(name) {
            None => keys.invalid("entries must all be names of item properties", causes),
            Some(property) if matches!(object::text(property, &["type"]), "array" | "object") => {
                let path = format!("{}.properties[{name}].type", items.path);
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                causes.push(Cause::invalid(path, &json!(items.str("type")), why));
            }
            Some(_) => {}
        }
        if names.iter().take(at).any(|other| other == name) {
            keys.invalid("must not contain duplicate entries", causes);
        }
    }
}

/// Keys that tell items apart are always there, and the items of maps and sets are never null.
fn map_items(schema: &Field<'_>, causes: &mut Vec<Cause>) {
    let (kind, items) = (schema.str("x-kubernetes-list-type"), schema.at("items"));
    if !matches!(kind, "map" | "set") || !items.value.is_object() {
        return;
    }
    if items.flag("nullable") {
        items.at("nullable").forbidden(&format!("cannot be nullable when x-kubernetes-list-type is {kind}"), causes);
    }
    if kind == "set" {
        return;
    }
    let required = object::list(items.value, &["required"]);
    for name in object::list(schema.value, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str) {
        let Some(property) = items.at("properties").value.get(name) else { continue };
        let path = format!("{}.properties[{name}]", items.path);
        if !required.contains(&json!(name)) && property.get("default").is_none() {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required(format!("{path}.default"), why));
        }
        if object::flag(property, &["nullable"]) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            causes.push(Cause::forbidden(format!("{path}.nullable"), why));
        }
    }
}

/// Whether any version of a definition's `spec` has a default.
#[must_use]
pub fn has_defaults(spec: &Value) -> bool {
    fn within(schema: &Value) -> bool {
        match schema {
            Value::Object(map) => map.iter().any(|(key, value)| match key.as_str() {
                "default" => !value.is_null(),
                "properties" => value.as_object().into_iter().flatten().any(|(_, property)| within(property)),
                "items" | "additionalProperties" | "not" | "allOf" | "anyOf" | "oneOf" => within(value),
                _ => false,
            }),
            Value::Array(schemas) => schemas.iter().any(within),
            _ => false,
        }
    }
    let versions = object::list(spec, &["versions"]).iter();
    versions.filter_map(|version| object::at(version, &["schema", "openAPIV3Schema"])).any(within)
}
