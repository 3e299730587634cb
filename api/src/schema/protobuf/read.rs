//! From protobuf to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Number, Value};

use super::super::decode::quantity;
use super::super::normalize::{finish, zero};
use super::super::{Field, Kind, Schema, parse_json};
use super::ProtobufError;
use super::layout::{At, Form, Place, find};
use super::wire::{Reader, Wire};
use crate::clock::{rfc3339_micros, rfc3339_seconds};

/// Messages nested deeper than this are refused, so that no body can exhaust the stack; real objects stay below 40.
const MAX_DEPTH: usize = 100;
/// More values than this are refused: an empty one takes two bytes on the wire and hundreds in memory. An object that
/// is small enough to be stored has fewer.
const MAX_VALUES: usize = 400_000;

/// Reads one message and all that is in it.
#[derive(Default)]
pub(super) struct Read {
    depth: usize,
    values: usize,
}

type Object = JsonMap<String, Value>;

impl Read {
    /// The object; what is already in `map` stays.
    pub(super) fn object(&mut self, schema: &Schema, bytes: &[u8], mut map: Object) -> Result<Value, ProtobufError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        self.fields(schema, schema.layout().places(), 0, bytes, &mut map)?;
        self.depth -= 1;
        finish(schema, &mut map);
        Ok(Value::Object(map))
    }

    fn fields(
        &mut self,
        schema: &Schema,
        places: &[Place],
        level: usize,
        bytes: &[u8],
        map: &mut Object,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match find(places, level, number) {
                At::Nothing => {}
                At::Inside(inner) => self.fields(schema, inner, level + 1, wire.bytes()?, map)?,
                At::Field(place) => {
                    let Some(field) = schema.fields().get(place.field) else { continue };
                    self.field(schema, field, place.form, wire, map).map_err(|error| error.in_field(&field.name))?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        schema: &Schema,
        field: &Field,
        form: Form,
        wire: Wire<'_>,
        map: &mut Object,
    ) -> Result<(), ProtobufError> {
        match (&field.kind, form) {
            (Kind::List(list), _) => {
                if let (Kind::Int32 | Kind::Int64, Wire::Bytes(packed)) = (&list.item, wire) {
                    let mut numbers = Reader::new(packed);
                    while !numbers.is_empty() {
                        let number = Wire::Varint(numbers.varint()?);
                        let value = self.value(&list.item, number)?;
                        append(map, &field.name, value);
                    }
                    return Ok(());
                }
                let value = self.value(&list.item, wire)?;
                append(map, &field.name, value);
            }
            (Kind::Map(values), form) => {
                let (key, value) = entry(wire.bytes()?)?;
                let value = match (form, value) {
                    (Form::Plain, Some(wire)) => self.value(&values.value, wire)?,
                    (Form::Plain, None) => zero(&values.value),
                    (form, value) => self.either(schema, form, value.map_or(Ok(&[][..]), Wire::bytes)?)?,
                };
                if let Value::Object(entries) = map.entry(&*field.name).or_insert_with(|| Value::Object(JsonMap::new()))
                {
                    entries.insert(key.to_owned(), value);
                }
            }
            (kind, Form::Plain) => {
                let value = self.value(kind, wire)?;
                map.insert(field.name.to_string(), value);
            }
            (_, form) => {
                let value = self.either(schema, form, wire.bytes()?)?;
                map.insert(field.name.to_string(), value);
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, wire: Wire<'_>) -> Result<Value, ProtobufError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ProtobufError::TooMany);
        }
        match kind {
            Kind::Bool => Ok(Value::Bool(wire.varint()? != 0)),
            Kind::Int32 => Ok(int32(wire.varint()?).into()),
            Kind::Int64 => Ok(wire.varint()?.cast_signed().into()),
            Kind::Double => double(wire),
            Kind::String => Ok(wire.text()?.into()),
            Kind::Bytes => Ok(STANDARD.encode(wire.bytes()?).into()),
            Kind::Quantity => match only(wire.bytes()?, 1)? {
                Some(text) => quantity(text.text()?).map_err(ProtobufError::Value),
                None => Ok(zero(kind)),
            },
            Kind::IntOrString => int_or_string(wire.bytes()?),
            Kind::Time => time(wire.bytes()?, rfc3339_seconds, false),
            Kind::MicroTime => time(wire.bytes()?, rfc3339_micros, true),
            Kind::Any | Kind::Raw => raw(wire.bytes()?),
            Kind::Message(link) => self.object(link.get(), wire.bytes()?, JsonMap::new()),
            // Lists and maps inside others are messages whose first field repeats.
            Kind::List(list) => {
                let mut reader = Reader::new(wire.bytes()?);
                let mut items = Vec::new();
                while let Some((number, wire)) = reader.next()? {
                    if number == 1 {
                        items.push(self.value(&list.item, wire)?);
                    }
                }
                Ok(Value::Array(items))
            }
            Kind::Map(_) => Ok(zero(kind)),
        }
    }

    /// What is one of two things in JSON and a message of both in protobuf.
    fn either(&mut self, schema: &Schema, form: Form, bytes: &[u8]) -> Result<Value, ProtobufError> {
        let (mut allows, mut single, mut many) = (false, None, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (form, number) {
                (Form::SchemaOrBool, 1) => allows = wire.varint()? != 0,
                (Form::SchemaOrBool, 2) | (Form::SchemaOrList | Form::SchemaOrNames, 1) => {
                    single = Some(self.object(schema, wire.bytes()?, JsonMap::new())?);
                }
                (Form::SchemaOrList, 2) => many.push(self.object(schema, wire.bytes()?, JsonMap::new())?),
                (Form::SchemaOrNames, 2) => many.push(self.value(&Kind::String, wire)?),
                _ => {}
            }
        }
        Ok(match (form, single) {
            (_, Some(single)) => single,
            (Form::SchemaOrBool, None) => Value::Bool(allows),
            (_, None) => Value::Array(many),
        })
    }
}

fn append(map: &mut Object, name: &str, value: Value) {
    if let Value::Array(items) = map.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        items.push(value);
    }
}

/// Key and value of an entry of a map.
fn entry(bytes: &[u8]) -> Result<(&str, Option<Wire<'_>>), ProtobufError> {
    let (mut key, mut value) = ("", None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = wire.text()?,
            2 => value = Some(wire),
            _ => {}
        }
    }
    Ok((key, value))
}

/// The last value of this number; the others are skipped.
fn only(bytes: &[u8], wanted: u64) -> Result<Option<Wire<'_>>, ProtobufError> {
    let (mut reader, mut found) = (Reader::new(bytes), None);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            found = Some(wire);
        }
    }
    Ok(found)
}

#[allow(clippy::cast_possible_truncation, reason = "protobuf writes 32 bits as 64, and only the lower ones count")]
fn int32(number: u64) -> i32 {
    number as i32
}

fn double(wire: Wire<'_>) -> Result<Value, ProtobufError> {
    let Wire::Fixed64(bits) = wire else { return Err(wire.wrong()) };
    let number = f64::from_bits(bits);
    // Go writes a whole number without a point.
    #[allow(clippy::cast_possible_truncation, reason = "only whole numbers that fit come here")]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Ok((number as i64).into());
    }
    let number =
        Number::from_f64(number).ok_or_else(|| ProtobufError::Value(format!("unsupported value: {number}")))?;
    Ok(Value::Number(number))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.next()? {
        match field {
            1 => {
                is_text = match wire.varint()? {
                    0 => false,
                    1 => true,
                    _ => return Err(ProtobufError::Value("impossible IntOrString.Type".into())),
                }
            }
            2 => number = int32(wire.varint()?),
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// The zero time is none at all; what is finer than can be written is cut off.
fn time(bytes: &[u8], write: fn(Timestamp) -> String, micro: bool) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => seconds = wire.varint()?.cast_signed(),
            2 if micro => nanos = int32(wire.varint()?),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let out_of_range = || ProtobufError::Value("year outside of range [0,9999]".into());
    let time = Timestamp::new(seconds, nanos).map_err(|_| out_of_range())?;
    let text = write(time);
    if text.starts_with('-') { Err(out_of_range()) } else { Ok(text.into()) }
}

/// JSON that protobuf carries as it is.
fn raw(bytes: &[u8]) -> Result<Value, ProtobufError> {
    match only(bytes, 1)?.map(Wire::bytes).transpose()? {
        None | Some([]) => Ok(Value::Null),
        Some(json) => {
            parse_json(json).map(super::super::Raw::into_value).map_err(|error| ProtobufError::Value(error.to_string()))
        }
    }
}
