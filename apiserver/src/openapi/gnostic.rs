//! The protobuf form of OpenAPI version 2 (gnostic's `openapi.v2.Document`), encoded from the JSON form.

use serde_json::{Map, Value};

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
    out.0
}

/// An encoded message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u64, inner: &Self) {
        self.bytes(number, &inner.0);
    }

    fn text(&mut self, number: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, value: Option<&Value>) {
        for one in value.and_then(Value::as_array).into_iter().flatten() {
            self.text(number, Some(one));
        }
    }

    fn flag(&mut self, number: u64, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    /// `x-` extensions, each as YAML, of which JSON is a part.
    fn extensions(&mut self, number: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, format!("{value}\n").as_bytes());
            self.message(number, &named(name, &any));
        }
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// Each `Named…` message: the name, then the value.
fn named(name: &str, value: &Message) -> Message {
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.message(2, value);
    message
}

fn wrapped(number: u64, inner: &Message) -> Message {
    let mut message = Message::default();
    message.message(number, inner);
    message
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
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

fn parameters(message: &mut Message, number: u64, list: Option<&Value>) {
    for parameter in list.and_then(Value::as_array).into_iter().flatten() {
        let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
        let encoded = if place == "body" { wrapped(1, &body(parameter)) } else { wrapped(2, &other(parameter, place)) };
        message.message(number, &wrapped(1, &encoded));
    }
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
