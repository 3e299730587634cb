//! Whether a schema is structural: every value has a type, and logic only restricts what stands outside of it.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::{
    pattern,
    registry::{object, validation::field::Field},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is not structural, in the order of the messages.
#[must_use]
pub fn faults(root: &Field<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    invariants(root, Level::Root, &mut causes);
    completeness(root, root, &mut causes);
    causes.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
    causes
}

/// What no structural schema can say at all; upstream tells of it where nothing else does.
#[must_use]
pub fn unsupported(schema: &Field<'_>) -> Option<String> {
    if !schema.value.is_object() {
        return None;
    }
    for key in ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"] {
        let given = schema.at(key);
        if !given.is_empty() || key == "additionalItems" && !given.value.is_null() {
            return Some(format!(
                "OpenAPIV3Schema '{}' is not supported",
                if key == "$schema" { "schema" } else { key }
            ));
        }
    }
    if *schema.at("x-kubernetes-preserve-unknown-fields").value == json!(false) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    if schema.count("items") > 0 {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| schema.items(key));
    let single = ["not", "additionalProperties", "items"].into_iter().map(|key| schema.at(key));
    let properties = schema.entries("properties").into_iter().map(|(_, property)| property);
    lists.chain(single).chain(properties).find_map(|below| unsupported(&below))
}

/// What logic restricts must be specified outside of it, too.
fn completeness(schema: &Field<'_>, logic: &Field<'_>, causes: &mut Vec<Cause>) {
    let not = logic.get("not").into_iter();
    let nested = not.chain(["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| logic.items(key)));
    for nested in nested {
        completed(schema, &nested, causes);
    }
}

fn completed(schema: &Field<'_>, logic: &Field<'_>, causes: &mut Vec<Cause>) {
    let missing = |place: &Field<'_>, logic: &Field<'_>, causes: &mut Vec<Cause>| {
        place.required(&format!("because it is defined in {}", logic.path), causes);
    };
    completeness(schema, logic, causes);
    if let Some(nested) = logic.get("items") {
        match schema.at("items") {
            items if items.value.is_object() => completed(&items, &nested, causes),
            items => missing(&items, &nested, causes),
        }
    }
    for (name, nested) in logic.entries("properties") {
        let own = schema.value.get("properties").and_then(|properties| properties.get(name));
        let place = Field::new(own.unwrap_or(&Value::Null), format!("{}.properties[{name}]", schema.path));
        match own {
            Some(_) => completed(&place, &nested, causes),
            None => missing(&place, &nested, causes),
        }
    }
}

fn invariants(schema: &Field<'_>, level: Level, causes: &mut Vec<Cause>) {
    let kind = schema.str("type");
    let items = schema.at("items");
    if kind == "array" && !items.value.is_object() {
        items.required("must be specified", causes);
    }
    if items.value.is_object() {
        invariants(&items, Level::Item, causes);
    }
    for (_, property) in schema.entries("properties") {
        invariants(&property, Level::Field, causes);
    }
    let others = schema.at("additionalProperties");
    if !others.value.is_null() && level == Level::Root {
        others.forbidden("must not be used at the root", causes);
    }
    if others.value.is_object() {
        invariants(&others, Level::Field, causes);
    }
    exclusive(schema, causes);
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let (int_or_string, first) = (schema.flag("x-kubernetes-int-or-string"), &either);
    let skip_any = schema.value.get("anyOf") == Some(first);
    let skip_first = object::list(schema.value, &["allOf"]).first().is_some_and(|all| all.get("anyOf") == Some(first));
    values(schema, skip_any, skip_first, causes);
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let open = schema.flag("x-kubernetes-preserve-unknown-fields");
    if embedded && kind != "object" {
        const WHY: &str = "must be object if x-kubernetes-embedded-resource is true";
        let kind = schema.at("type");
        if kind.text().is_empty() { kind.required(WHY, causes) } else { kind.invalid(WHY, causes) }
    } else if kind.is_empty() && !int_or_string && !open {
        schema.at("type").required(
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
            causes,
        );
    }
    if embedded && !others.value.is_null() {
        others.forbidden("must not be used if x-kubernetes-embedded-resource is set", causes);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        schema.at("type").invalid("must be object at the root", causes);
    }
    if level == Level::Root || embedded {
        metadata(schema, level, causes);
    }
    if embedded && !open && schema.entries("properties").is_empty() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        schema.at("properties").required(why, causes);
    }
}

fn exclusive(schema: &Field<'_>, causes: &mut Vec<Cause>) {
    if !schema.flag("x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if schema.flag(key) {
            schema.at(key).invalid("must be false if x-kubernetes-int-or-string is true", causes);
        }
    }
}

/// Kind, version and metadata are what they are for all objects; names alone may be restricted.
fn metadata(schema: &Field<'_>, level: Level, causes: &mut Vec<Cause>) {
    for (name, property) in schema.entries("properties") {
        let wanted = match name {
            "kind" | "apiVersion" => "string",
            "metadata" => "object",
            _ => continue,
        };
        if property.str("type") != wanted {
            let shown = json!(property.str("type"));
            causes.push(Cause::invalid(property.at("type").path, &shown, &format!("must be {wanted}")));
        }
        let names_only =
            property.entries("properties").iter().all(|(name, _)| matches!(*name, "name" | "generateName"));
        // Upstream compares the rest of what is structural with nothing at all, values included.
        let says_more = property.value.as_object().into_iter().flatten().any(|(key, value)| {
            !object::is_zero(value) && !matches!(key.as_str(), "type" | "properties" | "default" | "example")
        });
        if name == "metadata" && level == Level::Root && (!names_only || says_more) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            property.forbidden(why, causes);
        }
    }
}

fn values(schema: &Field<'_>, skip_any: bool, skip_first: bool, causes: &mut Vec<Cause>) {
    if !skip_any {
        schema.items("anyOf").iter().for_each(|nested| restriction(nested, false, causes));
    }
    for (at, nested) in schema.items("allOf").iter().enumerate() {
        restriction(nested, skip_first && at == 0, causes);
    }
    schema.items("oneOf").iter().for_each(|nested| restriction(nested, false, causes));
    if let Some(not) = schema.get("not") {
        restriction(&not, false, causes);
    }
    let given = schema.at("pattern");
    if let Err(why) = pattern::compile(given.text()) {
        given.invalid(&format!("must be a valid regular expression, but isn't: {why}"), causes);
    }
}

/// Within logic, only values are restricted.
fn restriction(nested: &Field<'_>, skip_any: bool, causes: &mut Vec<Cause>) {
    values(nested, skip_any, false, causes);
    if let Some(items) = nested.get("items") {
        restriction(&items, false, causes);
    }
    for (name, property) in nested.entries("properties") {
        restriction(&property, false, causes);
        if name == "metadata" {
            property.forbidden("must not be specified in a nested context", causes);
        }
    }
    let rules: [(&str, &str); 14] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (key, why) in rules {
        let given = nested.at(key);
        let says = match given.value {
            Value::Null => false,
            _ if why.contains("undefined") => true,
            value => !object::is_zero(value),
        };
        if says {
            given.forbidden(why, causes);
        }
    }
}
