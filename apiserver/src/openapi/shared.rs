//! Parameters that version 2 tells once for all paths, under names made of their content.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

/// Definitions that bodies may share: those that are not of one kind.
const GENERIC: &str = "#/definitions/io.k8s.apimachinery";

/// Puts references in the place of parameters and answers what they refer to.
pub(super) fn share(paths: &mut Value) -> Map<String, Value> {
    let mut shared = Map::new();
    for item in paths.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        for (key, value) in item {
            let list = if key == "parameters" { Some(value) } else { value.get_mut("parameters") };
            for parameter in list.and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(name) = shared_name(parameter) {
                    let reference = json!({"$ref": format!("#/parameters/{name}")});
                    shared.insert(name, std::mem::replace(parameter, reference));
                }
            }
        }
    }
    shared
}

/// The name of a parameter that is shared. Names of objects tell their kind; `fieldValidation` and `dryRun` are where
/// older clients look whether they are known.
fn shared_name(parameter: &Value) -> Option<String> {
    let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
    let own = match (text("in"), text("name")) {
        ("query" | "path", "name") | ("query", "fieldValidation" | "dryRun") => true,
        ("body", _) => {
            let of = parameter.pointer("/schema/$ref").and_then(Value::as_str).unwrap_or_default();
            !of.starts_with(GENERIC)
        }
        _ => false,
    };
    (!own).then(|| format!("{}-{}", text("name"), hash(&written(parameter))))
}

/// A parameter in the order of keys that the hash is of.
fn written(parameter: &Value) -> String {
    let keys = ["uniqueItems", "type", "description", "name", "in", "required", "schema"];
    let parts = keys.iter().filter_map(|key| parameter.get(*key).map(|value| format!("{key:?}:{value}")));
    // As upstream's encoder has it, these are escaped in every text.
    let text = parts.collect::<Vec<_>>().join(",");
    format!("{{{}}}", text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

/// The first six bytes of FNV-1, 64 bits wide, as Base64.
fn hash(text: &str) -> String {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = text.bytes().fold(BASIS, |hash, byte| hash.wrapping_mul(PRIME) ^ u64::from(byte));
    URL_SAFE.encode(hash.to_be_bytes().get(..6).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_parameter_is_named_as_upstream_names_it() {
        let words = "object name and auth scope, such as for teams and projects";
        let namespace = json!({"description": words, "in": "path", "name": "namespace", "required": true, "type": "string",
            "uniqueItems": true});
        let patch = json!({"in": "body", "name": "body", "required": true,
            "schema": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}});
        let mut paths = json!({"/a": {"parameters": [namespace], "patch": {"parameters": [patch]}}});
        let shared = share(&mut paths);
        assert_eq!(shared.keys().collect::<Vec<_>>(), ["namespace-vgWSWtn3", "body-78PwaGsr"]);
        assert_eq!(paths["/a"]["parameters"][0]["$ref"], "#/parameters/namespace-vgWSWtn3");
        assert_eq!(paths["/a"]["patch"]["parameters"][0]["$ref"], "#/parameters/body-78PwaGsr");
    }

    #[test]
    fn what_tells_a_kind_stays_where_it_is() {
        for own in [
            json!({"in": "path", "name": "name", "description": "name of the Pod"}),
            json!({"in": "query", "name": "dryRun"}),
            json!({"in": "body", "name": "body", "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}}),
        ] {
            assert_eq!(shared_name(&own), None, "{own}");
        }
    }
}
