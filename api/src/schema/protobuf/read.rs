//! From protobuf to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Map as JsonMap, Number, Value};

use super::super::decode::quantity;
use super::super::json::MAX_VALUES;
use super::super::json::lossy;
use super::super::normalize::{finish, zero};
use super::super::time::{EPOCH, written};
use super::super::{Field, Kind, Schema, parse_json};
use super::ProtobufError;
use super::layout::{At, Form, Place, find};
use super::naming;
use super::wire::{BYTES, FIXED64, Reader, Tag, VARINT};

/// Messages nested deeper than this are refused, so that no body can exhaust the stack; real objects stay below 40.
const MAX_DEPTH: usize = 100;
/// Entries of maps may read so many bytes behind their ends in all: upstream's decoders look for what an entry holds in the
/// whole message, and what one entry may read twice, ten thousand would read ten thousand times.
const MAX_BEYOND: usize = 64 << 10;

/// Reads one message and all that is in it.
#[derive(Default)]
pub(super) struct Read {
    depth: usize,
    values: usize,
    beyond: usize,
}

type Object = JsonMap<String, Value>;

impl Read {
    /// The object; what is already in `map` stays.
    pub(super) fn object(&mut self, schema: &Schema, bytes: &[u8], mut map: Object) -> Result<Value, ProtobufError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        let (places, message) = (schema.layout().places(), schema.short_name());
        self.fields(schema, (places, 0, message), Reader::new(bytes), &mut map)?;
        self.depth -= 1;
        finish(schema, &mut map);
        Ok(Value::Object(map))
    }

    /// The fields of a message, or of one within it that JSON does not know: `at` is its places, its level and its name.
    fn fields(
        &mut self,
        schema: &Schema,
        at: (&[Place], usize, &str),
        mut reader: Reader<'_>,
        map: &mut Object,
    ) -> Result<(), ProtobufError> {
        let (places, level, message) = at;
        while let Some(tag) = reader.next(message)? {
            match find(places, level, tag.number) {
                At::Nothing => reader.skip(tag)?,
                At::Inside(inner) => {
                    let name = naming::inside(schema, level);
                    tag.expect(BYTES, || name.to_owned())?;
                    let within = Reader::new(reader.bytes()?);
                    self.fields(schema, (inner, level + 1, name), within, map)?;
                }
                At::Field(place) => match schema.fields().get(place.field) {
                    Some(field) => self.field(&Spot { schema, field, form: place.form }, tag, &mut reader, map)?,
                    None => reader.skip(tag)?,
                },
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        at: &Spot<'_>,
        tag: Tag,
        reader: &mut Reader<'_>,
        map: &mut Object,
    ) -> Result<(), ProtobufError> {
        let name = &*at.field.name;
        match (&at.field.kind, at.form) {
            (Kind::List(list), _) => {
                if matches!(list.item, Kind::Int32 | Kind::Int64) && tag.wire == BYTES {
                    let packed = reader.bytes()?;
                    let mut numbers = Reader::new(packed);
                    while numbers.at() < packed.len() {
                        self.count()?;
                        append(map, name, whole(&list.item, numbers.varint()?));
                    }
                    return Ok(());
                }
                let value = self.value(at, &list.item, tag, reader, None)?;
                append(map, name, value);
            }
            (Kind::Map(values), _) => {
                tag.expect(BYTES, || naming::field(at.schema, at.field))?;
                let (key, value) = self.entry(at, &values.value, reader)?;
                if let Value::Object(entries) = map.entry(name).or_insert_with(|| Value::Object(JsonMap::new())) {
                    entries.insert(key, value);
                }
            }
            (kind, Form::Plain) => {
                // What is told of a message in several pieces is one.
                let known = matches!(kind, Kind::Message(_)).then(|| map.remove(name)).flatten();
                let value = self.value(at, kind, tag, reader, known)?;
                map.insert(name.to_owned(), value);
            }
            (_, form) => {
                tag.expect(BYTES, || naming::field(at.schema, at.field))?;
                let value = self.either(at.schema, form, reader.bytes()?)?;
                map.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        at: &Spot<'_>,
        kind: &Kind,
        tag: Tag,
        reader: &mut Reader<'_>,
        known: Option<Value>,
    ) -> Result<Value, ProtobufError> {
        let wire = match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => VARINT,
            Kind::Double => FIXED64,
            _ => BYTES,
        };
        tag.expect(wire, || naming::field(at.schema, at.field))?;
        self.bare(at, kind, reader, known)
    }

    /// A value, in whatever way it is said to be written.
    fn bare(
        &mut self,
        at: &Spot<'_>,
        kind: &Kind,
        reader: &mut Reader<'_>,
        known: Option<Value>,
    ) -> Result<Value, ProtobufError> {
        self.count()?;
        match kind {
            Kind::Bool => Ok(Value::Bool(reader.varint()? != 0)),
            Kind::Int32 | Kind::Int64 => Ok(whole(kind, reader.varint()?)),
            Kind::Double => double(reader.fixed64()?),
            Kind::String => Ok(reader.text()?.into()),
            Kind::Bytes => Ok(STANDARD.encode(reader.bytes()?).into()),
            Kind::Quantity => match only(reader.bytes()?, "Quantity", "String_")? {
                Some(text) => quantity(&lossy(text)).map_err(ProtobufError::Value),
                None => Ok(zero(kind)),
            },
            Kind::IntOrString => int_or_string(reader.bytes()?),
            Kind::Time => time(reader.bytes()?, false),
            Kind::MicroTime => time(reader.bytes()?, true),
            Kind::Any | Kind::Raw => raw(reader.bytes()?, naming::wrapper(at.schema, at.field)),
            Kind::Message(link) => {
                let known = match known {
                    Some(Value::Object(map)) => map,
                    _ => JsonMap::new(),
                };
                self.object(link.get(), reader.bytes()?, known)
            }
            // Lists and maps inside others are messages whose first field repeats.
            Kind::List(list) => {
                let message = naming::wrapper(at.schema, at.field);
                let mut within = Reader::new(reader.bytes()?);
                let mut items = Vec::new();
                while let Some(tag) = within.next(message)? {
                    if tag.number == 1 {
                        tag.expect(BYTES, || "Items".to_owned())?;
                        items.push(self.bare(at, &list.item, &mut within, None)?);
                    } else {
                        within.skip(tag)?;
                    }
                }
                Ok(Value::Array(items))
            }
            Kind::Map(_) => {
                reader.bytes()?;
                Ok(zero(kind))
            }
        }
    }

    fn count(&mut self) -> Result<(), ProtobufError> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(ProtobufError::TooMany) } else { Ok(()) }
    }

    /// Key and value of an entry of a map. As generated, the code trusts that they are written as they should be, and looks
    /// for their ends in the whole message.
    fn entry(
        &mut self,
        at: &Spot<'_>,
        values: &Kind,
        reader: &mut Reader<'_>,
    ) -> Result<(String, Value), ProtobufError> {
        let (mut within, length) = (*reader, reader.bytes()?.len());
        let end = reader.at();
        within.go_to(end - length);
        let (mut key, mut value) = (String::new(), None);
        while within.at() < end {
            let begins = within.at();
            match within.tag()?.0 {
                1 => key = within.text()?.into_owned(),
                2 if at.form == Form::Plain => value = Some(self.bare(at, values, &mut within, None)?),
                2 => value = Some(self.either(at.schema, at.form, within.bytes()?)?),
                _ => {
                    within.go_to(begins);
                    within.skip_field(end)?;
                }
            }
            self.beyond += within.at().saturating_sub(end);
            if self.beyond > MAX_BEYOND {
                return Err(ProtobufError::TooMany);
            }
        }
        if let Some(value) = value {
            return Ok((key, value));
        }
        // What is not written is there all the same.
        self.count()?;
        let value = if at.form == Form::Plain { zero(values) } else { self.either(at.schema, at.form, &[])? };
        Ok((key, value))
    }

    /// What is one of two things in JSON and a message of both in protobuf.
    fn either(&mut self, schema: &Schema, form: Form, bytes: &[u8]) -> Result<Value, ProtobufError> {
        let (message, [first, second]) = match form {
            Form::SchemaOrBool => ("JSONSchemaPropsOrBool", ["Allows", "Schema"]),
            Form::SchemaOrList => ("JSONSchemaPropsOrArray", ["Schema", "JSONSchemas"]),
            Form::SchemaOrNames | Form::Plain => ("JSONSchemaPropsOrStringArray", ["Schema", "Property"]),
        };
        let (mut allows, mut single, mut many) = (false, None, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some(tag) = reader.next(message)? {
            let name = match tag.number {
                1 => first,
                2 => second,
                _ => {
                    reader.skip(tag)?;
                    continue;
                }
            };
            let wire = if name == "Allows" { VARINT } else { BYTES };
            tag.expect(wire, || name.to_owned())?;
            match name {
                "Allows" => allows = reader.varint()? != 0,
                "Schema" => single = Some(self.object(schema, reader.bytes()?, JsonMap::new())?),
                "JSONSchemas" => many.push(self.object(schema, reader.bytes()?, JsonMap::new())?),
                _ => {
                    self.count()?;
                    many.push(reader.text()?.into());
                }
            }
        }
        Ok(match (form, single) {
            (_, Some(single)) => single,
            (Form::SchemaOrBool, None) => Value::Bool(allows),
            (_, None) => Value::Array(many),
        })
    }
}

/// A field that is being read: the message that it is of, and its shape.
struct Spot<'s> {
    schema: &'s Schema,
    field: &'s Field,
    form: Form,
}

fn append(map: &mut Object, name: &str, value: Value) {
    if let Value::Array(items) = map.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        items.push(value);
    }
}

/// The last value of the only field that a message has, which is text or bytes.
fn only<'a>(bytes: &'a [u8], message: &str, field: &str) -> Result<Option<&'a [u8]>, ProtobufError> {
    let (mut reader, mut found) = (Reader::new(bytes), None);
    while let Some(tag) = reader.next(message)? {
        if tag.number == 1 {
            tag.expect(BYTES, || field.to_owned())?;
            found = Some(reader.bytes()?);
        } else {
            reader.skip(tag)?;
        }
    }
    Ok(found)
}

fn whole(kind: &Kind, number: u64) -> Value {
    if matches!(kind, Kind::Int32) { int32(number).into() } else { number.cast_signed().into() }
}

#[allow(clippy::cast_possible_truncation, reason = "protobuf writes 32 bits as 64, and only the lower ones count")]
fn int32(number: u64) -> i32 {
    number as i32
}

fn double(bits: u64) -> Result<Value, ProtobufError> {
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
    let (mut is_text, mut number, mut text) = (false, 0, "".into());
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.next("IntOrString")? {
        match tag.number {
            1 => {
                tag.expect(VARINT, || "Type".to_owned())?;
                is_text = match reader.varint()? {
                    0 => false,
                    1 => true,
                    _ => return Err(ProtobufError::Value("impossible IntOrString.Type".into())),
                }
            }
            2 => {
                tag.expect(VARINT, || "IntVal".to_owned())?;
                number = int32(reader.varint()?);
            }
            3 => {
                tag.expect(BYTES, || "StrVal".to_owned())?;
                text = reader.text()?;
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// No bytes are no time; what is finer than can be written is cut off.
fn time(bytes: &[u8], micro: bool) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.next("Timestamp")? {
        match tag.number {
            1 => {
                tag.expect(VARINT, || "Seconds".to_owned())?;
                seconds = reader.varint()?.cast_signed();
            }
            2 => {
                tag.expect(VARINT, || "Nanos".to_owned())?;
                nanos = int32(reader.varint()?);
            }
            _ => reader.skip(tag)?,
        }
    }
    let out_of_range = || ProtobufError::Value("year outside of range [0,9999]".into());
    let fraction = SignedDuration::from_nanos(if micro { i64::from(nanos) } else { 0 });
    let since = SignedDuration::from_secs(seconds).checked_add(fraction);
    let time = since.and_then(|since| EPOCH.checked_add(since).ok()).ok_or_else(out_of_range)?;
    written(time, micro).map(Value::String).ok_or_else(out_of_range)
}

/// JSON that protobuf carries as it is. Whose fields were set is carried unread: what can't be read is text.
fn raw(bytes: &[u8], message: &str) -> Result<Value, ProtobufError> {
    match only(bytes, message, "Raw")? {
        None | Some([]) => Ok(Value::Null),
        Some(json) => match parse_json(json).map(super::super::Raw::into_value) {
            Ok(value) => Ok(value),
            Err(_) if message == "FieldsV1" => Ok(lossy(json).into()),
            Err(error) => Err(ProtobufError::Value(error.to_string())),
        },
    }
}
