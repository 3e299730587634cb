//! Protobuf messages as they are written, for the documents of both versions.

use serde_json::{Map, Value};

/// An encoded message.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn message(&mut self, number: u64, inner: &Self) {
        self.bytes(number, &inner.0);
    }

    pub(super) fn text(&mut self, number: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    /// One of several fields, told even if it is false.
    pub(super) fn choice(&mut self, number: u64, value: bool) {
        self.varint(number << 3);
        self.varint(u64::from(value));
    }

    /// One of several fields, told even if it is zero.
    pub(super) fn chosen_double(&mut self, number: u64, value: f64) {
        self.varint(number << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A number that may be no integer.
    pub(super) fn double(&mut self, number: u64, value: Option<&Value>) {
        if let Some(value) = value.and_then(Value::as_f64).filter(|value| *value != 0.0) {
            self.chosen_double(number, value);
        }
    }

    /// A number that is not negative.
    pub(super) fn count(&mut self, number: u64, value: Option<&Value>) {
        if let Some(value) = value.and_then(Value::as_u64).filter(|value| *value != 0) {
            self.varint(number << 3);
            self.varint(value);
        }
    }

    pub(super) fn texts(&mut self, number: u64, value: Option<&Value>) {
        for one in value.and_then(Value::as_array).into_iter().flatten() {
            self.text(number, Some(one));
        }
    }

    pub(super) fn flag(&mut self, number: u64, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    /// `x-` extensions, each as YAML, of which JSON is a part.
    pub(super) fn extensions(&mut self, number: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            self.message(number, &named(name, &any(value)));
        }
    }
}

/// Any value, as YAML.
pub(super) fn any(value: &Value) -> Message {
    let mut any = Message::default();
    any.bytes(2, format!("{value}\n").as_bytes());
    any
}

/// The entries of an object; none of anything else.
pub(super) fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// Each `Named…` message: the name, then the value.
pub(super) fn named(name: &str, value: &Message) -> Message {
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.message(2, value);
    message
}

/// A message with one message in it.
pub(super) fn wrapped(number: u64, inner: &Message) -> Message {
    let mut message = Message::default();
    message.message(number, inner);
    message
}
