//! ConfigMaps.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object, table,
    validation::{field::NOWHERE, text},
};

/// Most bytes of all values together, as upstream's.
const MAX_BYTES: usize = 1024 * 1024;

/// ConfigMaps.
pub struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn resource(&self) -> Resource {
        resource("", "v1", "ConfigMap", "configmaps").short(&["cm"]).build()
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let data = object.get("data").and_then(Value::as_object);
        let binary = object.get("binaryData").and_then(Value::as_object);
        let mut bytes = 0;
        for (key, value) in data.into_iter().flatten() {
            check_key("data", key, causes);
            if binary.is_some_and(|binary| binary.contains_key(key)) {
                causes.push(Cause::invalid(
                    format!("data[{key}]"),
                    &json!(key),
                    "duplicate of key present in binaryData",
                ));
            }
            bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in binary.into_iter().flatten() {
            check_key("binaryData", key, causes);
            bytes += value.as_str().map_or(0, decoded_length);
        }
        if bytes > MAX_BYTES {
            causes.push(Cause::too_long(NOWHERE, MAX_BYTES));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        immutable(object, old, "io.k8s.api.core.v1.ConfigMap", &["data", "binaryData"], causes);
        self.validate_create(object, causes);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text(
                "Data",
                "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = |key: &str| object.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![object::name(object).into(), (count("data") + count("binaryData")).into(), table::age(object)]
    }
}

/// How many bytes a text in base64 stands for.
#[must_use]
pub fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn check_key(field: &str, key: &str, causes: &mut Vec<Cause>) {
    for fault in text::config_map_key(key) {
        causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), &fault));
    }
}

/// What was once immutable stays as it is. Of Secrets too: `of` is the type of both.
pub fn immutable(object: &Value, old: &Value, of: &str, fields: &[&str], causes: &mut Vec<Cause>) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !object::flag(old, &["immutable"]) {
        return;
    }
    if !object::flag(object, &["immutable"]) {
        causes.push(Cause::forbidden("immutable", WHY));
    }
    for field in fields {
        if !object::same_at(of, &[field], object, old) {
            causes.push(Cause::forbidden(*field, WHY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_may_be_is_taken_and_no_more() {
        let faults = |bytes: usize| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(vec![0; bytes]);
            let mut causes = Vec::new();
            ConfigMaps.validate_create(&json!({"binaryData": {"a": text}}), &mut causes);
            causes.len()
        };
        assert_eq!([MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1].map(faults), [0, 0, 1]);
    }
}
