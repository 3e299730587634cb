//! Values: what an expression sees of JSON, without copying it, and what it makes.

use std::{collections::HashMap, fmt, ops::Deref, sync::Arc};

use jiff::Timestamp;
use serde_json::Value as Json;

use super::{
    meter::{EvalError, Meter},
    opaque::Opaque,
    read,
    schema::{Schema, Shape},
};

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number without sign.
    Uint(u64),
    /// A number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// An instant.
    Timestamp(Timestamp),
    /// A span, in nanoseconds.
    Duration(i64),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// An object that the expression built.
    Object(Arc<Object<'a>>),
    /// A type, by its name.
    Type(Text<'a>),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// Something of a library.
    Opaque(Opaque),
    /// JSON that does not read as its schema says: looking at it is an error.
    Broken(Arc<str>),
}

/// Text, borrowed or shared.
#[derive(Clone)]
pub enum Text<'a> {
    /// Of someone else.
    Borrowed(&'a str),
    /// Shared.
    Shared(Arc<str>),
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// In JSON; the schema is the list's.
    View(&'a [Json], Option<&'a Schema>),
    /// Made by the expression.
    Made(Arc<Vec<Value<'a>>>),
}

/// A map or an object.
#[derive(Clone)]
pub enum Map<'a> {
    /// In JSON; the schema is the map's or the object's.
    View(&'a serde_json::Map<String, Json>, Option<&'a Schema>),
    /// Made by the expression.
    Made(Arc<Entries<'a>>),
    /// Whose entries are worked out when they are asked for.
    Lazy(Arc<dyn Lazy<'a> + 'a>),
}

/// Entries that are worked out when they are asked for.
pub trait Lazy<'a>: Send + Sync {
    /// The entry of this name, if there is one. What it costs is charged to the meter.
    fn get(&self, name: &str, meter: &Meter) -> Option<Result<Value<'a>, EvalError>>;
}

/// An object that the expression built.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// Name of its type.
    pub name: Arc<str>,
    /// What was set, by the names in JSON.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

/// Entries of a map in the order they were made.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    list: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

/// What may be a key; numbers are equal whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(i128),
    /// A number with a fraction, or none at all.
    Double(u64),
    /// `null`
    Null,
    /// Text.
    Text(Arc<str>),
}

impl Key {
    /// The key that a value is; none for what can't be one.
    #[must_use]
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(flag) => Some(Self::Bool(*flag)),
            Value::Int(number) => Some(Self::Number(i128::from(*number))),
            Value::Uint(number) => Some(Self::Number(i128::from(*number))),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < 1e19 => {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and far below the bound of 128 bits")]
                let whole = *number as i128;
                Some(Self::Number(whole))
            }
            Value::Double(number) => Some(Self::Double(number.to_bits())),
            Value::Null => Some(Self::Null),
            Value::String(text) => Some(Self::Text(text.share())),
            _ => None,
        }
    }
}

impl<'a> Entries<'a> {
    /// Adds an entry; false if the key is there already or can't be one.
    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let Some(index) = Key::of(&key) else { return false };
        if self.index.contains_key(&index) {
            return false;
        }
        self.index.insert(index, self.list.len());
        self.list.push((key, value));
        true
    }

    /// Adds an entry, or gives the one that is there another value; false if the key can't be one.
    pub fn put(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let own = Key::of(&key).and_then(|index| self.index.get(&index)).copied();
        match own.and_then(|at| self.list.get_mut(at)) {
            Some((_, own)) => *own = value,
            None => return self.insert(key, value),
        }
        true
    }

    fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        let at = self.index.get(&Key::of(key)?)?;
        self.list.get(*at).map(|(_, value)| value)
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[(Value<'a>, Value<'a>)] {
        &self.list
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl Text<'_> {
    fn share(&self) -> Arc<str> {
        match self {
            Self::Borrowed(text) => (*text).into(),
            Self::Shared(text) => Arc::clone(text),
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(map, _) => map.fmt(out),
            Self::Made(entries) => entries.list.fmt(out),
            Self::Lazy(_) => out.write_str("{…}"),
        }
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Arc::new(items)))
    }
}

impl<'a> Value<'a> {
    /// JSON as its schema reads it, or as it is where there is none.
    #[must_use]
    pub fn view(json: &'a Json, schema: Option<&'a Schema>) -> Self {
        match (json, schema.map(|schema| &schema.shape)) {
            (Json::Null, _) => Self::Null,
            (Json::Object(map), _) => Self::Map(Map::View(map, schema)),
            (Json::Array(items), _) => Self::List(List::View(items, schema)),
            (Json::String(text), Some(shape)) => read::text(text, shape),
            (Json::String(text), None) => Self::String(Text::Borrowed(text)),
            (Json::Bool(flag), _) => Self::Bool(*flag),
            (Json::Number(number), Some(Shape::Double)) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            (Json::Number(number), Some(Shape::Int)) => match number.as_i64().or_else(|| read::whole(number)) {
                Some(whole) => Self::Int(whole),
                None => Self::Broken("invalid data, expected int, got float64".into()),
            },
            (Json::Number(number), _) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    /// A value that may be missing.
    #[must_use]
    pub fn optional(value: Option<Self>) -> Self {
        Self::Optional(value.map(Arc::new))
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Name of its type, as `type(x)` and messages have it.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(object) => &object.name,
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Opaque(opaque) => opaque.type_name(),
            Self::Broken(_) => "error",
        }
    }

    /// Characters, bytes, items or entries; one for what has no size.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(data) => data.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            _ => 1,
        };
        size as u64
    }
}

impl<'a> List<'a> {
    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::View(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Self::View(items, schema) => {
                let item = schema.and_then(Schema::item).map(|item| &**item);
                items.get(at).map(|json| Value::view(json, item))
            }
            Self::Made(items) => items.get(at).cloned(),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl<'a> Map<'a> {
    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::View(map, schema) => match schema.map(|schema| &schema.shape) {
                Some(Shape::Object(_)) => self.entries().len(),
                _ => map.len(),
            },
            Self::Made(entries) => entries.list.len(),
            Self::Lazy(_) => 0,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Made(entries), _) => entries.get(key).cloned(),
            (_, Value::String(name)) => self.field(name),
            _ => None,
        }
    }

    /// The entry of a name: escaped, where the schema knows the fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::View(map, Some(schema)) => match &schema.shape {
                Shape::Object(fields) => {
                    let field = fields.borrow(name)?;
                    map.get(&*field.json).map(|json| Value::view(json, Some(&field.schema)))
                }
                Shape::Map(value) => map.get(name).map(|json| Value::view(json, Some(value))),
                _ => map.get(name).map(|json| Value::view(json, None)),
            },
            Self::View(map, None) => map.get(name).map(|json| Value::view(json, None)),
            Self::Made(entries) => entries.get(&Value::String(Text::Shared(name.into()))).cloned(),
            Self::Lazy(_) => None,
        }
    }

    /// All entries; of an object those that its schema knows.
    #[must_use]
    pub fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Self::View(map, schema) => {
                let shape = schema.map(|schema| &schema.shape);
                let value = |name: &'a String, json: &'a Json| match shape {
                    Some(Shape::Object(fields)) => {
                        let field = fields.borrow(&super::schema::escape(name)?)?;
                        Some((Value::from(name.as_str()), Value::view(json, Some(&field.schema))))
                    }
                    Some(Shape::Map(value)) => Some((Value::from(name.as_str()), Value::view(json, Some(value)))),
                    _ => Some((Value::from(name.as_str()), Value::view(json, None))),
                };
                map.iter().filter_map(|(name, json)| value(name, json)).collect()
            }
            Self::Made(entries) => entries.list.clone(),
            Self::Lazy(_) => Vec::new(),
        }
    }
}
