//! Secrets: sealed before they are stored.

use std::sync::Arc;

use base64::Engine as _;
use martello_api::{
    go,
    resource::Resource,
    schema::{Raw, parse_json},
    status::Cause,
};
use serde_json::{Value, json};

use super::{
    configmap::{decoded_length, immutable},
    secret_pair, token_secrets,
};
use crate::{
    registry::{
        kind::{Cell, Column, Strategy, resource},
        object, table,
        validation::text,
    },
    server::{Core, account_tokens},
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

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut bytes = 0;
        for (key, value) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
            for fault in text::config_map_key(key) {
                causes.push(Cause::invalid(format!("data[{key}]"), &json!(key), &fault));
            }
            bytes += value.as_str().map_or(0, decoded_length);
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
                Some("") if *key == "ssh-privatekey" => causes.push(Cause::required(format!("data[{key}]"), "")),
                Some(encoded) if key.starts_with(".docker") => {
                    if let Some(fault) = json_fault(encoded) {
                        let hidden = json!("<secret contents redacted>");
                        causes.push(Cause::invalid(format!("data[{key}]"), &hidden, &fault));
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if object.get("type") != old.get("type") {
            causes.push(Cause::invalid("type", object.get("type").unwrap_or(&Value::Null), "field is immutable"));
        }
        immutable(object, old, "io.k8s.api.core.v1.Secret", &["data"], causes);
        self.validate_create(object, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        if object::text(object, &["type"]) != "kubernetes.io/tls" {
            return Vec::new();
        }
        let bytes = |key: &str| {
            let encoded = object::text(object, &["data", key]);
            base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
        };
        secret_pair::fault(&bytes("tls.crt"), &bytes("tls.key")).into_iter().collect()
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, _old: Option<&Value>, _revision: u64) {
        if let Some(secret) = object {
            account_tokens::follow(core, secret);
            token_secrets::follow(core, secret);
        }
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text(
                "Type",
                "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
            ),
            Column::text(
                "Data",
                "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = object.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![object::name(object).into(), object::text(object, &["type"]).into(), count.into(), table::age(object)]
    }
}

/// What is wrong with a value that should be a map in JSON, in the words of Go's parser.
fn json_fault(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    match parse_json(&bytes) {
        Ok(Raw::Map(_) | Raw::Null) => None,
        Ok(other) => Some(go::not_of_type(other.go_kind(), "map[string]interface {}")),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_registries_is_a_map() {
        let fault = |text: &str| json_fault(&base64::engine::general_purpose::STANDARD.encode(text));
        assert_eq!(fault(r#"{"auths": {}}"#), None);
        assert_eq!(fault("{"), Some("unexpected end of JSON input".to_owned()));
        assert_eq!(fault("{a}"), Some("invalid character 'a' looking for beginning of object key string".to_owned()));
        assert_eq!(
            fault("[]"),
            Some("json: cannot unmarshal array into Go value of type map[string]interface {}".to_owned())
        );
    }
}
