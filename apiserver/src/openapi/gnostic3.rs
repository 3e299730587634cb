//! The protobuf form of OpenAPI version 3 (gnostic's `openapi.v3.Document`), encoded from the JSON form.

use serde_json::{Map, Value};

use super::wire::{Message, any, entries, named, wrapped};

const METHODS: [(u64, &str); 7] =
    [(4, "get"), (5, "put"), (6, "post"), (7, "delete"), (8, "options"), (9, "head"), (10, "patch")];

/// Encodes the JSON form.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("openapi"));
    if let Some(info) = document.get("info") {
        let mut message = Message::default();
        message.text(1, info.get("title"));
        message.text(6, info.get("version"));
        out.message(2, &message);
    }
    let mut paths = Message::default();
    for (path, item) in entries(document.get("paths")) {
        paths.message(1, &named(path, &path_item(item)));
    }
    out.message(4, &paths);
    let mut components = Message::default();
    if let Some(schemas) = document.pointer("/components/schemas") {
        components.message(1, &properties(schemas));
    }
    let mut security = Message::default();
    for (name, value) in entries(document.pointer("/components/securitySchemes")) {
        let mut scheme = Message::default();
        for (number, of) in [(1, "type"), (2, "description"), (3, "name"), (4, "in")] {
            scheme.text(number, value.get(of));
        }
        security.message(1, &named(name, &wrapped(1, &scheme)));
    }
    components.message(7, &security);
    out.message(5, &components);
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, method) in METHODS {
        if let Some(Value::Object(value)) = item.get(method) {
            message.message(number, &operation(value));
        }
    }
    parameters(&mut message, 13, item.get("parameters"));
    message
}

fn operation(map: &Map<String, Value>) -> Message {
    let mut message = Message::default();
    message.texts(1, map.get("tags"));
    message.text(3, map.get("description"));
    message.text(5, map.get("operationId"));
    parameters(&mut message, 6, map.get("parameters"));
    if let Some(body) = map.get("requestBody") {
        let mut inner = Message::default();
        inner.message(2, &content(body.get("content")));
        inner.flag(3, body.get("required"));
        message.message(7, &wrapped(1, &inner));
    }
    let mut responses = Message::default();
    for (code, response) in entries(map.get("responses")) {
        let mut value = Message::default();
        value.text(1, response.get("description"));
        if response.get("content").is_some() {
            value.message(3, &content(response.get("content")));
        }
        responses.message(2, &named(code, &wrapped(1, &value)));
    }
    message.message(8, &responses);
    message.extensions(13, map);
    message
}

fn content(value: Option<&Value>) -> Message {
    let mut message = Message::default();
    for (kind, told) in entries(value) {
        let shape = told.get("schema").map(|shape| wrapped(1, &schema_or_reference(shape)));
        message.message(1, &named(kind, &shape.unwrap_or_default()));
    }
    message
}

fn parameters(message: &mut Message, number: u64, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        let mut inner = Message::default();
        for (number, of) in [(1, "name"), (2, "in"), (3, "description")] {
            inner.text(number, parameter.get(of));
        }
        inner.flag(4, parameter.get("required"));
        if let Some(shape) = parameter.get("schema") {
            inner.message(10, &schema_or_reference(shape));
        }
        message.message(number, &wrapped(1, &inner));
    }
}

fn schema_or_reference(value: &Value) -> Message {
    match value.get("$ref") {
        Some(to) => {
            let mut reference = Message::default();
            reference.text(1, Some(to));
            wrapped(2, &reference)
        }
        None => wrapped(1, &schema(value)),
    }
}

fn properties(value: &Value) -> Message {
    let mut message = Message::default();
    for (name, value) in entries(Some(value)) {
        message.message(1, &named(name, &schema_or_reference(value)));
    }
    message
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    let Value::Object(map) = value else { return message };
    message.flag(1, map.get("nullable"));
    if let Some(example) = map.get("example") {
        message.message(7, &any(example));
    }
    message.text(9, map.get("title"));
    limits(&mut message, map);
    message.texts(23, map.get("required"));
    for one in map.get("enum").and_then(Value::as_array).into_iter().flatten() {
        message.message(24, &any(one));
    }
    message.text(25, map.get("type"));
    for (number, key) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for one in map.get(key).and_then(Value::as_array).into_iter().flatten() {
            message.message(number, &schema_or_reference(one));
        }
    }
    if let Some(not) = map.get("not") {
        message.message(29, &schema(not));
    }
    if let Some(items) = map.get("items") {
        message.message(30, &wrapped(1, &schema_or_reference(items)));
    }
    if let Some(fields) = map.get("properties") {
        message.message(31, &properties(fields));
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut either = Message::default();
            either.choice(2, *allowed);
            message.message(32, &either);
        }
        Some(values) => message.message(32, &wrapped(1, &schema_or_reference(values))),
        None => {}
    }
    if let Some(default) = default(map.get("default")) {
        message.message(33, &default);
    }
    message.text(34, map.get("description"));
    message.text(35, map.get("format"));
    message.extensions(36, map);
    message
}

/// What bounds a value.
fn limits(message: &mut Message, map: &Map<String, Value>) {
    message.double(10, map.get("multipleOf"));
    message.double(11, map.get("maximum"));
    message.flag(12, map.get("exclusiveMaximum"));
    message.double(13, map.get("minimum"));
    message.flag(14, map.get("exclusiveMinimum"));
    message.count(15, map.get("maxLength"));
    message.count(16, map.get("minLength"));
    message.text(17, map.get("pattern"));
    message.count(18, map.get("maxItems"));
    message.count(19, map.get("minItems"));
    message.flag(20, map.get("uniqueItems"));
    message.count(21, map.get("maxProperties"));
    message.count(22, map.get("minProperties"));
}

/// Numbers, texts and truths; the format can't tell other defaults.
fn default(value: Option<&Value>) -> Option<Message> {
    let mut message = Message::default();
    match value? {
        Value::Bool(truth) => message.choice(2, *truth),
        Value::String(text) => message.bytes(3, text.as_bytes()),
        Value::Number(number) => message.chosen_double(1, number.as_f64()?),
        _ => return None,
    }
    Some(message)
}
