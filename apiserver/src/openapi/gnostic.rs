//! The protobuf form of OpenAPI version 2 (gnostic's `openapi.v2.Document`), encoded from the JSON form.

use serde_json::{Map, Value};

use super::wire::{Message, entries, named, wrapped};

/// Encodes the JSON form.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    if let Some(info) = document.get("info") {
        let mut message = Message::default();
        message.text(1, info.get("title"));
        message.text(2, info.get("version"));
        out.message(2, &message);
    }
    let mut paths = Message::default();
    for (path, item) in entries(document.get("paths")) {
        paths.message(2, &named(path, &path_item(item)));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, value) in entries(document.get("definitions")) {
        definitions.message(1, &named(name, &schema(value)));
    }
    out.message(9, &definitions);
    let mut parameters = Message::default();
    for (name, value) in entries(document.get("parameters")) {
        parameters.message(1, &named(name, &parameter(value)));
    }
    out.message(10, &parameters);
    for one in document.get("security").and_then(Value::as_array).into_iter().flatten() {
        let mut requirement = Message::default();
        for (name, scopes) in entries(Some(one)) {
            let mut list = Message::default();
            list.texts(1, Some(scopes));
            requirement.message(1, &named(name, &list));
        }
        out.message(12, &requirement);
    }
    let mut security = Message::default();
    for (name, value) in entries(document.get("securityDefinitions")) {
        let mut key = Message::default();
        for (number, of) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
            key.text(number, value.get(of));
        }
        security.message(1, &named(name, &wrapped(2, &key)));
    }
    out.message(13, &security);
    out.0
}

const METHODS: [(u64, &str); 7] =
    [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")];

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, method) in METHODS {
        if let Some(Value::Object(value)) = item.get(method) {
            message.message(number, &operation(value));
        }
    }
    parameters(&mut message, 9, item.get("parameters"));
    message
}

fn operation(map: &Map<String, Value>) -> Message {
    let mut message = Message::default();
    message.texts(1, map.get("tags"));
    message.text(3, map.get("description"));
    message.text(5, map.get("operationId"));
    message.texts(6, map.get("produces"));
    message.texts(7, map.get("consumes"));
    parameters(&mut message, 8, map.get("parameters"));
    let mut responses = Message::default();
    for (code, response) in entries(map.get("responses")) {
        let mut value = Message::default();
        value.text(1, response.get("description"));
        if let Some(shape) = response.get("schema") {
            value.message(2, &wrapped(1, &schema(shape)));
        }
        responses.message(1, &named(code, &wrapped(1, &value)));
    }
    message.message(9, &responses);
    message.texts(10, map.get("schemes"));
    message.extensions(13, map);
    message
}

/// Each in its place, or a reference to where it is.
fn parameters(message: &mut Message, number: u64, list: Option<&Value>) {
    for one in list.and_then(Value::as_array).into_iter().flatten() {
        let item = match one.get("$ref") {
            Some(to) => {
                let mut reference = Message::default();
                reference.text(1, Some(to));
                wrapped(2, &reference)
            }
            None => wrapped(1, &parameter(one)),
        };
        message.message(number, &item);
    }
}

fn parameter(parameter: &Value) -> Message {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
    if place == "body" { wrapped(1, &body(parameter)) } else { wrapped(2, &other(parameter, place)) }
}

fn body(parameter: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, parameter.get("description"));
    message.text(2, parameter.get("name"));
    message.text(3, parameter.get("in"));
    message.flag(4, parameter.get("required"));
    if let Some(shape) = parameter.get("schema") {
        message.message(5, &schema(shape));
    }
    message
}

fn other(parameter: &Value, place: &str) -> Message {
    let (number, kind, unique) = if place == "path" { (4, 5, 19) } else { (3, 6, 20) };
    let mut message = Message::default();
    message.flag(1, parameter.get("required"));
    message.text(2, parameter.get("in"));
    message.text(3, parameter.get("description"));
    message.text(4, parameter.get("name"));
    message.text(kind, parameter.get("type"));
    message.flag(unique, parameter.get("uniqueItems"));
    wrapped(number, &message)
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    let Value::Object(map) = value else { return message };
    message.text(1, map.get("$ref"));
    message.text(2, map.get("format"));
    message.text(4, map.get("description"));
    message.texts(19, map.get("required"));
    if let Some(values) = map.get("additionalProperties") {
        message.message(21, &wrapped(1, &schema(values)));
    }
    if let Some(kind) = map.get("type") {
        let mut item = Message::default();
        item.text(1, Some(kind));
        message.message(22, &item);
    }
    if let Some(items) = map.get("items") {
        message.message(23, &wrapped(1, &schema(items)));
    }
    if map.contains_key("properties") {
        let mut properties = Message::default();
        for (name, value) in entries(map.get("properties")) {
            properties.message(1, &named(name, &schema(value)));
        }
        message.message(25, &properties);
    }
    message.extensions(31, map);
    message
}
