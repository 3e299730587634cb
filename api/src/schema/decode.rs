//! Strict, schema-led decoding: what a typed Go struct would have read, and every unknown or duplicate field by path.
//!
//! What comes out is normal: unknown fields are gone, nulls dropped, quantities, times and bytes canonical, and zero
//! values written or left out as Kubernetes writes them. Whether an issue is an error is the caller's choice.

mod error;
mod path;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Map as JsonMap, Value};

pub(super) use self::error::excerpt;
pub use self::error::{DecodeError, FieldIssue, unrecognized};
use self::path::{Part, Path};
use super::json::{Raw, double, number, parse};
use super::normalize::{finish, zero};
use super::{Kind, Schema, base64, time, yaml};
use crate::go;

/// More issues than this are not collected, as upstream.
const MAX_ISSUES: usize = 100;
/// A decoded object.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    /// In normal form.
    pub value: Value,
    /// What strict validation refuses.
    pub issues: Vec<FieldIssue>,
}

/// A body that was parsed, and not yet decoded.
#[derive(Debug)]
pub struct Document<'a> {
    raw: Raw<'a>,
    duplicates: Vec<String>,
}

impl<'a> Document<'a> {
    /// Of JSON.
    ///
    /// # Errors
    /// Malformed JSON, or no object.
    pub fn json(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self { raw: parse(bytes)?, duplicates: Vec::new() }.checked()
    }

    /// Of YAML, of which the first document counts.
    ///
    /// # Errors
    /// Malformed YAML, or no object.
    pub fn yaml(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut read = yaml::parse(bytes).map_err(DecodeError::Yaml)?;
        // Upstream makes JSON of it first, with its keys in order, and so are its objections.
        read.value.sort_keys();
        Self { raw: read.value, duplicates: read.duplicates }.checked()
    }

    fn checked(mut self) -> Result<Self, DecodeError> {
        if self.raw == Raw::Null {
            self.raw = Raw::Map(Vec::new());
        }
        check_head(&self.raw)?;
        Ok(self)
    }

    /// What it says that it is; empty where it does not.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.head("kind")
    }

    /// Of which version it says that it is; empty where it does not.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.head("apiVersion")
    }

    /// The last of what it says there. Whoever looks at what an object is, and at nothing else of it, does not look at case.
    fn head(&self, name: &str) -> &str {
        let Raw::Map(entries) = &self.raw else { return "" };
        let said = entries.iter().rev().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        said.filter_map(|(_, value)| match value {
            Raw::String(text) => Some(&**text),
            _ => None,
        })
        .next()
        .unwrap_or_default()
    }

    /// Makes sure that every number in it is one, as reading it without types takes.
    ///
    /// # Errors
    /// The first that is too large.
    pub fn check_numbers(&self) -> Result<(), DecodeError> {
        match excessive(&self.raw) {
            None => Ok(()),
            Some(text) => Err(DecodeError::Type(go::not_of_type(&format!("number {text}"), "float64"))),
        }
    }

    /// Decodes it as an object of `schema`.
    ///
    /// # Errors
    /// The first field whose type is wrong.
    pub fn decode(self, schema: &Schema) -> Result<Decoded, DecodeError> {
        let mut decoded = decode_raw(schema, self.raw)?;
        if !self.duplicates.is_empty() {
            decoded.issues.insert(0, FieldIssue::Yaml(self.duplicates));
        }
        Ok(decoded)
    }
}

/// Objects say what they are in text, or not at all.
///
/// # Errors
/// What is no object, or says what it is in something else.
pub fn check_head(raw: &Raw<'_>) -> Result<(), DecodeError> {
    let Raw::Map(entries) = raw else { return Err(DecodeError::NoObject(raw.go_kind())) };
    for (name, value) in entries {
        let Some(field) = ["apiVersion", "kind"].into_iter().find(|field| name.eq_ignore_ascii_case(field)) else {
            continue;
        };
        if !matches!(value, Raw::String(_) | Raw::Null) {
            return Err(DecodeError::Head { field, found: value.go_kind() });
        }
    }
    Ok(())
}

/// A number that no float holds.
fn excessive<'r>(raw: &'r Raw<'_>) -> Option<&'r str> {
    match raw {
        Raw::Number(text) => text.parse::<f64>().is_ok_and(f64::is_infinite).then_some(&**text),
        Raw::List(items) => items.iter().find_map(excessive),
        Raw::Map(entries) => entries.iter().find_map(|(_, value)| excessive(value)),
        Raw::Null | Raw::Bool(_) | Raw::String(_) => None,
    }
}

/// Decodes JSON as an object of `schema`.
///
/// # Errors
/// Malformed JSON, or the first field whose type is wrong.
pub fn decode_json(schema: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    Document::json(bytes)?.decode(schema)
}

/// Decodes YAML as an object of `schema`.
///
/// # Errors
/// Malformed YAML, or the first field whose type is wrong.
pub fn decode_yaml(schema: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    Document::yaml(bytes)?.decode(schema)
}

/// Decodes a plain value, for instance a patched one, as an object of `schema`.
///
/// # Errors
/// The first field whose type is wrong.
pub fn decode_value(schema: &Schema, value: Value) -> Result<Decoded, DecodeError> {
    decode_raw(schema, Raw::from(value))
}

/// Decodes what was parsed already as an object of `schema`.
///
/// # Errors
/// The first field whose type is wrong.
pub fn decode_raw(schema: &Schema, raw: Raw<'_>) -> Result<Decoded, DecodeError> {
    if schema.loose {
        return super::loose::decode(schema, raw);
    }
    check_head(&raw)?;
    let Raw::Map(entries) = raw else { return Err(DecodeError::NoObject(raw.go_kind())) };
    let mut shaper = Shaper { issues: Vec::new(), wrong: None };
    let path = Path { parent: None, part: Part::Root };
    let value = shaper.message(schema, entries, &path).map_err(DecodeError::Type)?;
    match shaper.wrong {
        Some(wrong) => Err(DecodeError::Type(wrong)),
        None => Ok(Decoded { value, issues: shaper.issues }),
    }
}

/// The fields that occur twice, by path, as many as are told. The path is written in place: a long key stands in the path of
/// each field below it, and would be copied for each.
pub(crate) fn duplicates(raw: &Raw<'_>, path: &mut String, issues: &mut Vec<FieldIssue>) {
    let here = path.len();
    match raw {
        Raw::Map(entries) => {
            let mut seen = std::collections::HashSet::with_capacity(entries.len());
            for (key, value) in entries {
                if here > 0 {
                    path.push('.');
                }
                path.push_str(key);
                duplicates(value, path, issues);
                if !seen.insert(key) && issues.len() < MAX_ISSUES {
                    issues.push(FieldIssue::Duplicate(path.clone()));
                }
                path.truncate(here);
            }
        }
        Raw::List(items) => {
            for (at, item) in items.iter().enumerate() {
                let _infallible = write!(path, "[{at}]");
                duplicates(item, path, issues);
                path.truncate(here);
            }
        }
        _ => {}
    }
}

struct Shaper {
    issues: Vec<FieldIssue>,
    /// The first field of a wrong type; decoding goes on, since a later fault may be graver.
    wrong: Option<String>,
}

/// A grave fault, in Go's words.
type Fault = String;

impl Shaper {
    fn note(&mut self, issue: FieldIssue) {
        if self.issues.len() < MAX_ISSUES && !self.issues.contains(&issue) {
            self.issues.push(issue);
        }
    }

    fn message(
        &mut self,
        schema: &Schema,
        entries: Vec<(Cow<'_, str>, Raw<'_>)>,
        path: &Path<'_>,
    ) -> Result<Value, Fault> {
        let mut map = JsonMap::new();
        let mut seen = vec![false; schema.fields().len()];
        for (name, raw) in entries {
            let Some(at) = schema.place(&name) else {
                if schema.preserve_unknown {
                    map.insert(name.into_owned(), raw.into_value());
                } else {
                    self.note(FieldIssue::Unknown(path.text(&name)));
                }
                continue;
            };
            let (Some(field), Some(seen)) = (schema.fields().get(at), seen.get_mut(at)) else { continue };
            if std::mem::replace(seen, true) {
                self.note(FieldIssue::Duplicate(path.text(&name)));
            }
            if raw == Raw::Null {
                continue;
            }
            let here = path.below(Part::Field(schema, &field.name));
            if let Some(value) = self.value(&field.kind, raw, &here)? {
                map.insert(name.into_owned(), value);
            }
        }
        finish(schema, &mut map);
        Ok(Value::Object(map))
    }

    /// Nothing where the type is wrong; that is noted.
    fn value(&mut self, kind: &Kind, raw: Raw<'_>, path: &Path<'_>) -> Result<Option<Value>, Fault> {
        let raw = match (kind, raw) {
            (_, Raw::Null) => return Ok(Some(zero(kind))),
            (Kind::Any | Kind::Raw, raw) => return Ok(Some(raw.into_value())),
            (Kind::String, Raw::String(text)) => return Ok(Some(Value::String(text.into_owned()))),
            (Kind::Bool, Raw::Bool(flag)) => return Ok(Some(Value::Bool(flag))),
            (Kind::Int32, Raw::Number(text)) if text.parse::<i32>().is_ok() => return Ok(Some(number(&text))),
            (Kind::Int64, Raw::Number(text)) if text.parse::<i64>().is_ok() => return Ok(Some(number(&text))),
            (Kind::Double, Raw::Number(text)) => {
                return match double(&text) {
                    Some(value) => Ok(Some(value)),
                    None => Err(path.refusal(&format!("number {text}"), "float64")),
                };
            }
            (Kind::Bytes, Raw::String(text)) => {
                let read = base64::canonical(text);
                return Ok(read.map_err(|why| self.wrong.get_or_insert(why).clone()).ok().map(Value::String));
            }
            (Kind::Quantity, Raw::String(text) | Raw::Number(text)) => return quantity(&text).map(Some),
            (Kind::Quantity, _) => return Err(crate::quantity::QuantityError::Format.to_string()),
            (Kind::IntOrString, Raw::String(text)) => return Ok(Some(Value::String(text.into_owned()))),
            (Kind::IntOrString, Raw::Number(text)) if text.parse::<i32>().is_ok() => return Ok(Some(number(&text))),
            (Kind::IntOrString, Raw::Number(text)) => return Err(path.refusal(&format!("number {text}"), "int32")),
            (Kind::IntOrString, raw) => return Err(path.refusal(raw.go_kind(), "int32")),
            (Kind::Time | Kind::MicroTime, Raw::String(text)) => {
                let text = time::canonical(&text, matches!(kind, Kind::MicroTime))?;
                return Ok(Some(if time::is_none(&text) { Value::Null } else { Value::String(text) }));
            }
            (Kind::Time | Kind::MicroTime, raw) => return Err(path.refusal(raw.go_kind(), "string")),
            (Kind::Message(link), Raw::Map(entries)) => return self.message(link.get(), entries, path).map(Some),
            (Kind::List(list), Raw::List(items)) => {
                let mut values = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    values.extend(self.value(&list.item, item, &path.below(Part::Index(at)))?);
                }
                return Ok(Some(Value::Array(values)));
            }
            (Kind::Map(map), Raw::Map(entries)) => return self.map(&map.value, entries, path).map(Some),
            (_, raw) => raw,
        };
        if self.wrong.is_none() {
            let found = match (&raw, kind) {
                (Raw::Number(text), Kind::Int32 | Kind::Int64) => format!("number {text}"),
                _ => raw.go_kind().to_owned(),
            };
            self.wrong = Some(path.refusal(&found, &path.go_type(kind)));
        }
        Ok(None)
    }

    fn map(&mut self, kind: &Kind, entries: Vec<(Cow<'_, str>, Raw<'_>)>, path: &Path<'_>) -> Result<Value, Fault> {
        let mut map = JsonMap::new();
        for (key, raw) in entries {
            let value = self.value(kind, raw, &path.below(Part::Key(&key)))?;
            if map.contains_key(&*key) {
                self.note(FieldIssue::Duplicate(path.text(&key)));
            }
            if let Some(value) = value {
                map.insert(key.into_owned(), value);
            }
        }
        Ok(Value::Object(map))
    }
}

pub(super) fn quantity(text: &str) -> Result<Value, Fault> {
    crate::quantity::written(text.trim()).map(Value::String).map_err(|error| error.to_string())
}
