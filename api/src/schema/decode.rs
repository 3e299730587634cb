//! Strict, schema-led decoding: what a typed Go struct would have read, and every unknown or duplicate field by path.
//!
//! What comes out is normal: unknown fields are gone, nulls dropped, quantities, times and bytes canonical, and zero
//! values written or left out as Kubernetes writes them. Whether an issue is an error is the caller's choice.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map as JsonMap, Value};

use super::json::{JsonError, Raw, number, parse};
use super::normalize::{finish, zero};
use super::{Kind, Schema, base64, time, yaml};
use crate::quantity::Quantity;
use crate::resource::GroupVersionKind;
use crate::status::ApiError;

/// More issues than this are not collected, as upstream.
const MAX_ISSUES: usize = 100;
/// Bytes of a body that an error shows.
const SHOWN_BYTES: usize = 30;

/// A decoded object.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    /// In normal form.
    pub value: Value,
    /// What strict validation refuses.
    pub issues: Vec<FieldIssue>,
}

/// Something that strict validation refuses and the rest ignores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldIssue {
    /// A field that the schema does not have.
    Unknown(String),
    /// A field that was given twice; the last one counts.
    Duplicate(String),
    /// Keys that were given twice in YAML, one line each.
    Yaml(Vec<String>),
    /// Of an operation of a JSON patch.
    Patch(String),
}

impl std::fmt::Display for FieldIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {path:?}"),
            Self::Duplicate(path) => write!(f, "duplicate field {path:?}"),
            Self::Patch(issue) => write!(f, "json patch {issue}"),
            Self::Yaml(lines) => {
                f.write_str("yaml: unmarshal errors:")?;
                lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

/// Why a body is not an object of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Malformed JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {0} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )]
    NoObject(&'static str),
    /// Malformed YAML.
    #[error("{0}")]
    Yaml(String),
    /// A field of the wrong type.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// The failure as the API answers it to a body that should have held `gvk`.
    #[must_use]
    pub fn to_api_error(&self, gvk: &GroupVersionKind, body: &[u8]) -> ApiError {
        let kind = &gvk.kind;
        match self {
            Self::Type(why) => ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {why}",
                gvk.version
            )),
            Self::Json(_) | Self::NoObject(_) | Self::Yaml(_) => ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {self} ({})",
                excerpt(body, matches!(self, Self::Yaml(_)))
            )),
        }
    }
}

pub(super) fn excerpt(body: &[u8], as_hex: bool) -> String {
    if body.is_empty() {
        return "<empty>".into();
    }
    let shown = body.get(..body.len().min(SHOWN_BYTES)).unwrap_or_default();
    let mut text = if as_hex {
        shown.iter().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    } else {
        String::from_utf8_lossy(shown).into_owned()
    };
    if body.len() > SHOWN_BYTES {
        text.push_str(" ...");
    }
    text
}

/// Decodes JSON as an object of `schema`.
///
/// # Errors
/// Malformed JSON, or the first field whose type is wrong.
pub fn decode_json(schema: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_raw(schema, parse(bytes)?)
}

/// Decodes YAML as an object of `schema`.
///
/// # Errors
/// Malformed YAML, or the first field whose type is wrong.
pub fn decode_yaml(schema: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let read = yaml::parse(bytes).map_err(DecodeError::Yaml)?;
    let mut decoded = decode_raw(schema, read.value)?;
    if !read.duplicates.is_empty() {
        decoded.issues.insert(0, FieldIssue::Yaml(read.duplicates));
    }
    Ok(decoded)
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
    let Raw::Map(entries) = raw else { return Err(DecodeError::NoObject(raw.go_kind())) };
    let mut shaper = Shaper { issues: Vec::new(), wrong: None };
    let path = Path { parent: None, part: Part::Root };
    let value = shaper.message(schema, entries, &path).map_err(DecodeError::Type)?;
    match shaper.wrong {
        Some(wrong) => Err(DecodeError::Type(wrong)),
        None => Ok(Decoded { value, issues: shaper.issues }),
    }
}

/// Where the shaper is; lives on its stack, and becomes text only in an error.
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    part: Part<'p>,
}

enum Part<'p> {
    Root,
    Field(&'p Schema, &'p str),
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    fn below<'q>(&'q self, part: Part<'q>) -> Path<'q>
    where
        'p: 'q,
    {
        Path { parent: Some(self), part }
    }

    /// `spec.containers[0].name`
    fn text(&self, last: &str) -> String {
        let mut text = self.parts().iter().fold(String::new(), |mut text, part| {
            let _infallible = match part {
                Part::Root => Ok(()),
                Part::Field(_, name) | Part::Key(name) if text.is_empty() => write!(text, "{name}"),
                Part::Field(_, name) | Part::Key(name) => write!(text, ".{name}"),
                Part::Index(at) => write!(text, "[{at}]"),
            };
            text
        });
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(last);
        text
    }

    fn parts(&self) -> Vec<&Part<'_>> {
        let (mut parts, mut here) = (Vec::new(), Some(self));
        while let Some(path) = here {
            parts.push(&path.part);
            here = path.parent;
        }
        parts.reverse();
        parts
    }

    /// ` Go struct field Container.spec.containers.name of type string`
    fn go_target(&self, kind: &Kind) -> String {
        let (mut holder, mut names) = ("", Vec::new());
        for part in self.parts() {
            if let Part::Field(schema, name) = part {
                holder = schema.short_name();
                names.push(*name);
            }
        }
        format!("Go struct field {holder}.{} of type {}", names.join("."), kind.go_type())
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
            (Kind::Double, Raw::Number(text)) => return Ok(Some(number(&text))),
            (Kind::Bytes, Raw::String(text)) => return base64::canonical(text).map(|text| Some(Value::String(text))),
            (Kind::Quantity, Raw::String(text) | Raw::Number(text)) => return quantity(&text).map(Some),
            (Kind::Quantity, _) => return Err(crate::quantity::QuantityError::Format.to_string()),
            (Kind::IntOrString, raw) => return int_or_string(raw).map(Some),
            (Kind::Time, raw) => return timed(raw, false).map(Some),
            (Kind::MicroTime, raw) => return timed(raw, true).map(Some),
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
            self.wrong = Some(format!("json: cannot unmarshal {found} into {}", path.go_target(kind)));
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
    let amount: Quantity = text.trim().parse().map_err(|error: crate::quantity::QuantityError| error.to_string())?;
    Ok(Value::String(amount.to_string()))
}

fn int_or_string(raw: Raw<'_>) -> Result<Value, Fault> {
    match raw {
        Raw::String(text) => Ok(Value::String(text.into_owned())),
        Raw::Number(text) if text.parse::<i32>().is_ok() => Ok(number(&text)),
        Raw::Number(text) => Err(format!("json: cannot unmarshal number {text} into Go value of type int32")),
        other => Err(format!("json: cannot unmarshal {} into Go value of type int32", other.go_kind())),
    }
}

fn timed(raw: Raw<'_>, micro: bool) -> Result<Value, Fault> {
    match raw {
        Raw::String(text) => time::canonical(&text, micro).map(Value::String),
        other => Err(format!("json: cannot unmarshal {} into Go value of type string", other.go_kind())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Schemas;
    use super::*;

    fn schema(group: &'static str, kind: &'static str) -> &'static Schema {
        Schemas::builtin().get(&GroupVersionKind::new(group, "v1", kind)).unwrap()
    }

    fn issues(kind: &'static str, body: &str) -> Vec<String> {
        decode_json(schema("", kind), body.as_bytes()).unwrap().issues.iter().map(ToString::to_string).collect()
    }

    fn error(group: &'static str, kind: &'static str, body: &Value) -> String {
        decode_json(schema(group, kind), body.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn unknown_and_duplicate_fields_are_told_by_path() {
        assert_eq!(
            issues(
                "ConfigMap",
                r#"{"data":{"k":"1","k":"2"},"immutable":false,"immutable":false,"metadata":{"frob":2},"Data":1}"#
            ),
            [
                "duplicate field \"data.k\"",
                "duplicate field \"immutable\"",
                "unknown field \"metadata.frob\"",
                "unknown field \"Data\""
            ]
        );
        assert_eq!(
            issues("Pod", r#"{"spec":{"containers":[{"bar":1}]}}"#),
            ["unknown field \"spec.containers[0].bar\""]
        );
        let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n  k: \"2\"\n";
        let decoded = decode_yaml(schema("", "ConfigMap"), yaml).unwrap();
        assert_eq!(
            decoded.issues.first().unwrap().to_string(),
            "yaml: unmarshal errors:\n  line 7: key \"k\" already set in map"
        );
    }

    #[test]
    fn wrong_types_read_as_go_words_them() {
        for (group, kind, body, message) in [
            (
                "",
                "ConfigMap",
                json!({"data": {"k": 1}}),
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                "",
                "ConfigMap",
                json!({"data": "x"}),
                "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
            ),
            (
                "",
                "Pod",
                json!({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}),
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                "scheduling.k8s.io",
                "PriorityClass",
                json!({"value": 1.5}),
                "json: cannot unmarshal number 1.5 into Go struct field PriorityClass.value of type int32",
            ),
            ("", "Secret", json!({"data": {"k": "abc!"}}), "illegal base64 data at input byte 3"),
            (
                "",
                "Pod",
                json!({"metadata": 5}),
                "json: cannot unmarshal number into Go struct field Pod.metadata of type v1.ObjectMeta",
            ),
        ] {
            assert_eq!(error(group, kind, &body), message);
        }
    }

    #[test]
    fn bodies_that_are_no_object_are_shown_in_part() {
        let answer = |body: &[u8]| {
            let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
            decode_json(schema("", "ConfigMap"), body).unwrap_err().to_api_error(&gvk, body).message
        };
        assert_eq!(
            answer(b""),
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
        );
        assert!(
            answer(br#"{"apiVersion":"v1","kind":"ConfigMap""#)
                .ends_with(r#"unexpected end of JSON input ({"apiVersion":"v1","kind":"Con ...)"#)
        );
    }

    #[test]
    fn what_comes_out_is_what_a_typed_client_would_send() {
        let body = json!({
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}}]}}},
            "metadata": {"name": "d", "creationTimestamp": null, "labels": {}},
        });
        let decoded = decode_json(schema("apps", "Deployment"), body.to_string().as_bytes()).unwrap();
        assert_eq!(
            decoded.value,
            json!({
                "metadata": {"name": "d"},
                "spec": {
                    "selector": {},
                    "strategy": {},
                    "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}},
                },
                "status": {},
            })
        );
    }
}
