//! What a client asks for when it connects, as an object: `PodExecOptions` and its like.

use serde_json::{Map, Value};

use crate::registry::{call::Call, kind::Kind};

/// The options in the query of a call on a subresource that connects.
pub(super) fn options(kind: &Kind, call: &Call) -> Value {
    let subresource = call.target.subresource.as_str();
    let mut made = Map::new();
    let named = kind.resource.subresources.iter().find(|own| own.name == subresource);
    made.insert("kind".into(), named.map_or_else(String::new, |own| own.gvk.kind.to_string()).into());
    made.insert("apiVersion".into(), "v1".into());
    match subresource {
        "exec" | "attach" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if matches!(call.query.get(flag), "true" | "1") {
                    made.insert(flag.into(), true.into());
                }
            }
            insert(&mut made, "container", call.query.get("container"));
            let command: Vec<Value> = call.query.all("command").map(Value::from).collect();
            if !command.is_empty() {
                made.insert("command".into(), command.into());
            }
        }
        "portforward" => {
            let ports = call.query.all("ports").flat_map(|ports| ports.split(','));
            let ports: Vec<Value> = ports.filter_map(|port| port.parse::<u16>().ok()).map(Value::from).collect();
            if !ports.is_empty() {
                made.insert("ports".into(), ports.into());
            }
        }
        _ => insert(&mut made, "path", &format!("/{}", call.rest)),
    }
    Value::Object(made)
}

fn insert(made: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        made.insert(key.into(), text.into());
    }
}
