//! From JSON to protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::time::since_epoch;
use super::super::{Field, Kind, Schema};
use super::layout::{Form, Place};
use super::wire::Writer;

/// Writes the fields of an object that is in normal form; what does not fit its schema is left out.
pub(super) fn object(out: &mut Writer, schema: &Schema, value: &Value) {
    let Value::Object(map) = value else { return };
    fields(out, schema, schema.layout().places(), 0, map);
}

fn fields(out: &mut Writer, schema: &Schema, places: &[Place], level: usize, map: &serde_json::Map<String, Value>) {
    for group in places.chunk_by(|a, b| a.number(level) == b.number(level)) {
        let Some(first) = group.first() else { continue };
        let number = first.number(level);
        if first.is_deeper(level) {
            out.message(number, |out| fields(out, schema, group, level + 1, map));
            continue;
        }
        let Some(field) = schema.fields().get(first.field) else { continue };
        if let Some(value) = map.get(&*field.name).filter(|value| !value.is_null()) {
            field_value(out, schema, field, first.form, number, value);
        }
    }
}

fn field_value(out: &mut Writer, schema: &Schema, field: &Field, form: Form, number: u16, value: &Value) {
    match (&field.kind, value) {
        (Kind::List(list), Value::Array(items)) => {
            items.iter().for_each(|item| one(out, &list.item, number, item));
        }
        (Kind::Map(map), Value::Object(entries)) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                out.message(number, |out| {
                    out.bytes(1, key.as_bytes());
                    if form == Form::Plain {
                        one(out, &map.value, 2, value);
                    } else {
                        either(out, schema, form, 2, value);
                    }
                });
            }
        }
        (Kind::List(_) | Kind::Map(_), _) => {}
        (kind, value) if form == Form::Plain => one(out, kind, number, value),
        (_, value) => either(out, schema, form, number, value),
    }
}

fn one(out: &mut Writer, kind: &Kind, number: u16, value: &Value) {
    match (kind, value) {
        (Kind::Bool, Value::Bool(flag)) => out.varint(number, u64::from(*flag)),
        (Kind::Int32 | Kind::Int64, Value::Number(value)) => {
            out.varint(number, value.as_i64().unwrap_or(0).cast_unsigned());
        }
        (Kind::Double, Value::Number(value)) => out.fixed64(number, value.as_f64().unwrap_or(0.0).to_bits()),
        (Kind::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Kind::Bytes, Value::String(text)) => out.bytes(number, &STANDARD.decode(text).unwrap_or_default()),
        (Kind::Quantity, Value::String(text)) => out.message(number, |out| out.bytes(1, text.as_bytes())),
        (Kind::IntOrString, value) => out.message(number, |out| int_or_string(out, value)),
        (Kind::Time | Kind::MicroTime, Value::String(text)) => out.message(number, |out| time(out, kind, text)),
        (Kind::Any | Kind::Raw, value) => {
            out.message(number, |out| out.bytes(1, &serde_json::to_vec(value).unwrap_or_default()));
        }
        (Kind::Message(link), value) => out.message(number, |out| object(out, link.get(), value)),
        (Kind::List(list), value) => out.message(number, |out| {
            value.as_array().into_iter().flatten().for_each(|item| one(out, &list.item, 1, item));
        }),
        // An item that is nothing still counts.
        (_, Value::Null) => out.bytes(number, &[]),
        _ => {}
    }
}

fn int_or_string(out: &mut Writer, value: &Value) {
    let text = value.as_str();
    out.varint(1, u64::from(text.is_some()));
    out.varint(2, value.as_i64().unwrap_or(0).cast_unsigned());
    out.bytes(3, text.unwrap_or_default().as_bytes());
}

fn time(out: &mut Writer, kind: &Kind, text: &str) {
    let Some(since) = since_epoch(text) else { return };
    // Both parts have the sign of the time; on the wire, nanoseconds count forward.
    let mut seconds = since.as_secs();
    let mut nanos = i64::from(since.subsec_nanos());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    let nanos = if matches!(kind, Kind::MicroTime) { nanos / 1000 * 1000 } else { 0 };
    out.varint(1, seconds.cast_unsigned());
    out.varint(2, nanos.cast_unsigned());
}

fn either(out: &mut Writer, schema: &Schema, form: Form, number: u16, value: &Value) {
    out.message(number, |out| match (form, value) {
        (Form::SchemaOrBool, Value::Bool(allows)) => out.varint(1, u64::from(*allows)),
        (Form::SchemaOrBool, value) => {
            out.varint(1, 1);
            out.message(2, |out| object(out, schema, value));
        }
        (Form::SchemaOrList, Value::Array(items)) => {
            items.iter().for_each(|item| out.message(2, |out| object(out, schema, item)));
        }
        (Form::SchemaOrNames, Value::Array(names)) => names.iter().for_each(|name| one(out, &Kind::String, 2, name)),
        (_, value) => out.message(1, |out| object(out, schema, value)),
    });
}
