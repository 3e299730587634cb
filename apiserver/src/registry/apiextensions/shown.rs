//! Parts of a definition as upstream's messages show them: its internal types, every field by its Go name, unset ones too.

use serde_json::{Map, Value, json};

use crate::registry::{object, validation::field::go_form};

/// What a field of a schema holds.
#[derive(Clone, Copy)]
enum Holds {
    /// Text, empty where unset.
    Text,
    /// A truth, false where unset.
    Truth,
    /// Anything, null where unset.
    Any,
    /// A schema.
    Schema,
    /// A list of schemas.
    Schemas,
    /// Schemas by name.
    Named,
    /// A schema or a list of them.
    OrList,
    /// A schema or a truth.
    OrTruth,
    /// By name, a schema or a list of names.
    OrNames,
}

/// The fields of a schema, in the order of the internal type.
const FIELDS: [(&str, &str, Holds); 44] = [
    ("id", "ID", Holds::Text),
    ("$schema", "Schema", Holds::Text),
    ("$ref", "Ref", Holds::Any),
    ("description", "Description", Holds::Text),
    ("type", "Type", Holds::Text),
    ("nullable", "Nullable", Holds::Truth),
    ("format", "Format", Holds::Text),
    ("title", "Title", Holds::Text),
    ("default", "Default", Holds::Any),
    ("maximum", "Maximum", Holds::Any),
    ("exclusiveMaximum", "ExclusiveMaximum", Holds::Truth),
    ("minimum", "Minimum", Holds::Any),
    ("exclusiveMinimum", "ExclusiveMinimum", Holds::Truth),
    ("maxLength", "MaxLength", Holds::Any),
    ("minLength", "MinLength", Holds::Any),
    ("pattern", "Pattern", Holds::Text),
    ("maxItems", "MaxItems", Holds::Any),
    ("minItems", "MinItems", Holds::Any),
    ("uniqueItems", "UniqueItems", Holds::Truth),
    ("multipleOf", "MultipleOf", Holds::Any),
    ("enum", "Enum", Holds::Any),
    ("maxProperties", "MaxProperties", Holds::Any),
    ("minProperties", "MinProperties", Holds::Any),
    ("required", "Required", Holds::Any),
    ("items", "Items", Holds::OrList),
    ("allOf", "AllOf", Holds::Schemas),
    ("oneOf", "OneOf", Holds::Schemas),
    ("anyOf", "AnyOf", Holds::Schemas),
    ("not", "Not", Holds::Schema),
    ("properties", "Properties", Holds::Named),
    ("additionalProperties", "AdditionalProperties", Holds::OrTruth),
    ("patternProperties", "PatternProperties", Holds::Named),
    ("dependencies", "Dependencies", Holds::OrNames),
    ("additionalItems", "AdditionalItems", Holds::OrTruth),
    ("definitions", "Definitions", Holds::Named),
    ("externalDocs", "ExternalDocs", Holds::Any),
    ("example", "Example", Holds::Any),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields", Holds::Any),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource", Holds::Truth),
    ("x-kubernetes-int-or-string", "XIntOrString", Holds::Truth),
    ("x-kubernetes-list-map-keys", "XListMapKeys", Holds::Any),
    ("x-kubernetes-list-type", "XListType", Holds::Any),
    ("x-kubernetes-map-type", "XMapType", Holds::Any),
    ("x-kubernetes-validations", "XValidations", Holds::Any),
];

/// A schema.
#[must_use]
pub fn schema(value: &Value) -> Value {
    let shown = FIELDS.iter().map(|(key, name, holds)| {
        let own = value.get(*key).filter(|own| !own.is_null());
        let shown = match (own, holds) {
            (None, Holds::Text) => json!(""),
            (None, Holds::Truth) => json!(false),
            (None, _) => Value::Null,
            (Some(rules), Holds::Any) if *key == "x-kubernetes-validations" => {
                object::list(rules, &[]).iter().map(rule).collect()
            }
            (Some(own), holds) => part(*holds, own),
        };
        ((*name).to_owned(), shown)
    });
    Value::Object(shown.collect())
}

fn part(holds: Holds, own: &Value) -> Value {
    match (holds, own) {
        (Holds::Schema, own) => schema(own),
        (Holds::Schemas, Value::Array(items)) => items.iter().map(schema).collect(),
        (Holds::Named, Value::Object(map)) => named(map, schema),
        (Holds::OrList, Value::Array(items)) => {
            json!({"Schema": null, "JSONSchemas": items.iter().map(schema).collect::<Value>()})
        }
        (Holds::OrList, own) => json!({"Schema": schema(own), "JSONSchemas": null}),
        (Holds::OrTruth, Value::Bool(truth)) => json!({"Allows": truth, "Schema": null}),
        (Holds::OrTruth, own) => json!({"Allows": true, "Schema": schema(own)}),
        (Holds::OrNames, Value::Object(map)) => named(map, |own| match own {
            Value::Array(_) => json!({"Schema": null, "Property": own}),
            own => json!({"Schema": schema(own), "Property": null}),
        }),
        (_, own) => own.clone(),
    }
}

/// Entries in the order of their names, as Go writes maps.
fn named(map: &Map<String, Value>, of: impl Fn(&Value) -> Value) -> Value {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    Value::Object(entries.into_iter().map(|(name, value)| (name.clone(), of(value))).collect())
}

/// A rule in CEL.
#[must_use]
pub fn rule(value: &Value) -> Value {
    let text = json!("");
    go_form(
        value,
        &[
            ("rule", "Rule", text.clone()),
            ("message", "Message", text.clone()),
            ("messageExpression", "MessageExpression", text.clone()),
            ("reason", "Reason", Value::Null),
            ("fieldPath", "FieldPath", text),
            ("optionalOldSelf", "OptionalOldSelf", Value::Null),
        ],
    )
}

/// What a version says of its schema.
#[must_use]
pub fn validation(value: &Value) -> Value {
    json!({"OpenAPIV3Schema": value.get("openAPIV3Schema").filter(|own| !own.is_null()).map(schema)})
}

/// What a version says of its subresources.
#[must_use]
pub fn subresources(value: &Value) -> Value {
    let scale = value.get("scale").filter(|scale| !scale.is_null()).map(|scale| {
        json!({
            "SpecReplicasPath": object::text(scale, &["specReplicasPath"]),
            "StatusReplicasPath": object::text(scale, &["statusReplicasPath"]),
            "LabelSelectorPath": scale.get("labelSelectorPath"),
        })
    });
    json!({"Status": value.get("status").filter(|status| !status.is_null()).map(|_| json!({})), "Scale": scale})
}

/// The columns of a version.
#[must_use]
pub fn columns(value: &Value) -> Value {
    let shown = object::list(value, &[]).iter().map(|column| {
        let text = |key: &str| object::text(column, &[key]);
        json!({
            "Name": text("name"),
            "Type": text("type"),
            "Format": text("format"),
            "Description": text("description"),
            "Priority": object::int(column, &["priority"]).unwrap_or(0),
            "JSONPath": text("jsonPath"),
        })
    });
    shown.collect()
}

/// The fields of a version that selectors may name.
#[must_use]
pub fn selectable(value: &Value) -> Value {
    object::list(value, &[]).iter().map(|field| json!({"JSONPath": object::text(field, &["jsonPath"])})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_shown_by_its_go_name() {
        let shown = schema(&json!({"type": "object", "properties": {"b": {"additionalProperties": false}, "a": {}}}));
        let text = shown.to_string();
        assert!(
            text.starts_with(r#"{"ID":"","Schema":"","Ref":null,"Description":"","Type":"object","Nullable":false,"#)
        );
        assert!(text.ends_with(r#""XListType":null,"XMapType":null,"XValidations":null}"#));
        let names: Vec<_> = shown["Properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(shown["Properties"]["b"]["AdditionalProperties"], json!({"Allows": false, "Schema": null}));
        assert_eq!(
            subresources(&json!({"status": {}, "scale": {"specReplicasPath": ".spec.r"}})),
            json!({"Status": {}, "Scale": {"SpecReplicasPath": ".spec.r", "StatusReplicasPath": "", "LabelSelectorPath": null}})
        );
    }
}
