//! Secrets: sealed before they are stored.

use base64::Engine as _;
use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::configmap::immutable;
use crate::registry::{
    kind::{Column, Strategy, resource},
    object, table,
    validation::text,
};

/// Most bytes of all values together, as upstream's.
const MAX_BYTES: usize = 1024 * 1024;

/// Secrets.
pub struct Secrets;

impl Strategy for Secrets {
    fn resource(&self) -> Resource {
        resource("", "v1", "Secret", "secrets").build()
    }

    fn sealed(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        if let Some(Value::Object(texts)) = object::remove(object, &[], "stringData") {
            for (key, value) in texts {
                let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
                object::set(object, &["data"], &key, encoded);
            }
        }
        if object::text(object, &["type"]).is_empty() {
            object::set(object, &[], "type", "Opaque");
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut bytes = 0;
        for (key, value) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
            for fault in text::config_map_key(key) {
                causes.push(Cause::invalid(format!("data[{key}]"), &json!(key), &fault));
            }
            bytes += value.as_str().map_or(0, |text| text.len() / 4 * 3);
        }
        if bytes > MAX_BYTES {
            causes.push(Cause::too_long("data", MAX_BYTES));
        }
        let needs: &[&str] = match object::text(object, &["type"]) {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            "kubernetes.io/service-account-token" => {
                let account = "kubernetes.io/service-account.name";
                if object::text(object, &["metadata", "annotations", account]).is_empty() {
                    causes.push(Cause::required(format!("metadata.annotations[{account}]"), ""));
                }
                &[]
            }
            "kubernetes.io/basic-auth" => {
                let has = |key: &str| object::at(object, &["data", key]).is_some();
                if !has("username") && !has("password") {
                    causes.push(Cause::required("data[username]", ""));
                    causes.push(Cause::required("data[password]", ""));
                }
                &[]
            }
            _ => &[],
        };
        for key in needs {
            match object::at(object, &["data", key]).and_then(Value::as_str) {
                None => causes.push(Cause::required(format!("data[{key}]"), "")),
                Some(encoded) if key.starts_with(".docker") && !is_json(encoded) => {
                    causes.push(Cause::invalid(
                        format!("data[{key}]"),
                        &json!("<secret contents redacted>"),
                        "invalid character 'o' in literal null (expecting 'u')",
                    ));
                }
                Some(_) => {}
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if object.get("type") != old.get("type") {
            causes.push(Cause::invalid("type", object.get("type").unwrap_or(&Value::Null), "field is immutable"));
        }
        immutable(object, old, &["data"], causes);
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] =
            [Column::name(), Column::text("Type", "type"), Column::text("Data", "data"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = object.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![object::name(object).into(), object::text(object, &["type"]).into(), count.into(), table::age(object, now)]
    }
}

fn is_json(encoded: &str) -> bool {
    base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
}
