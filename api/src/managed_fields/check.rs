//! Whether an applied object fits its schema, with upstream's objections.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Kind, Schema, element};
use crate::schema::ListMerge;

/// What does not fit, each with its path.
pub(super) fn objections(schema: &Schema, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    message(schema, value, "", &mut found);
    found
}

fn message(schema: &Schema, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(map) = value else {
        found.push(format!("{path}: expected map, got {}", shown(value)));
        return;
    };
    let mut names: Vec<&String> = map.keys().collect();
    names.sort();
    for name in names {
        let here = format!("{path}.{name}");
        match (schema.field(name), map.get(name)) {
            (Some(field), Some(value)) => kind(&field.kind, value, &here, found),
            (None, _) if !schema.preserve_unknown => found.push(format!("{here}: field not declared in schema")),
            _ => {}
        }
    }
}

fn kind(of: &Kind, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut expected = |fits: bool, what: &str| {
        if !fits && !value.is_null() {
            found.push(format!("{path}: expected {what}, got {}", shown(value)));
        }
    };
    match of {
        _ if value.is_null() => {}
        Kind::Bool => expected(value.is_boolean(), "boolean"),
        Kind::Int32 | Kind::Int64 | Kind::Double => expected(value.is_number(), "numeric (int or float)"),
        Kind::String | Kind::Bytes | Kind::Time | Kind::MicroTime => expected(value.is_string(), "string"),
        Kind::Quantity | Kind::IntOrString | Kind::Any | Kind::Raw => {}
        Kind::Message(link) => message(link.get(), value, path, found),
        Kind::Map(map) => match value {
            Value::Object(entries) => {
                entries.iter().for_each(|(name, value)| kind(&map.value, value, &format!("{path}.{name}"), found))
            }
            _ => expected(false, "map"),
        },
        Kind::List(list) => {
            let Value::Array(items) = value else { return expected(false, "list") };
            let mut seen = BTreeSet::new();
            for (at, item) in items.iter().enumerate() {
                let element = element::of_item(list, item);
                let step = match (&list.merge, &element) {
                    (ListMerge::Atomic, _) => format!("[{at}]"),
                    (_, Some(element)) => element::display(element),
                    (_, None) => {
                        let why =
                            "associative list with keys has an element that omits all key fields (\"key fields\")";
                        found.push(format!("{path}: element {at}: {why}"));
                        continue;
                    }
                };
                if let Some(element) = element
                    && !seen.insert(element)
                {
                    found.push(format!("{path}: duplicate entries for key {step}"));
                    continue;
                }
                kind(&list.item, item, &format!("{path}{step}"), found);
            }
        }
    }
}

fn shown(value: &Value) -> String {
    let inner = match value {
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "[]interface {}{…}".to_owned(),
        Value::Object(_) => "map[string]interface {}{…}".to_owned(),
        other => other.to_string(),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}
