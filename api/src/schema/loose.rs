//! Custom kinds: what is given is kept where the schema has a place for it, whatever its type; validation judges later.

use std::fmt::Write as _;

use serde_json::{Map as JsonMap, Value};

use super::decode::duplicates;
use super::json::Raw;
use super::{DecodeError, Decoded, FieldIssue, Kind, Nulls, Schema, Schemas, decode_raw};
use crate::{go, status::Cause};

/// What every object has, whatever its kind.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// More issues than this are not collected, as upstream.
const MAX_ISSUES: usize = 100;
/// Bytes of paths after which no more unknown fields are collected: a long key stands in the path of each field below it.
const MAX_PATH_BYTES: usize = 4 << 20;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Decodes an object; its unknown fields are gone, its metadata is typed.
pub(super) fn decode(schema: &Schema, raw: Raw<'_>) -> Result<Decoded, DecodeError> {
    if !matches!(raw, Raw::Map(_)) {
        return Err(DecodeError::NoObject(raw.go_kind()));
    }
    let mut issues = Vec::new();
    duplicates(&raw, &mut String::new(), &mut issues);
    let mut value = raw.into_value();
    let mut unknown = Vec::new();
    if let Some(metadata) = value.get_mut("metadata") {
        let (typed, found) = metadata_of(metadata.take(), "metadata")?;
        *metadata = typed;
        unknown.extend(found);
    }
    let mut pruner = Pruner::default();
    pruner.message(schema, &mut value);
    if let Some(why) = pruner.fault {
        return Err(DecodeError::Type(why));
    }
    unknown.extend(pruner.unknown);
    unknown.sort();
    unknown.dedup();
    issues.extend(unknown.into_iter().map(FieldIssue::Unknown));
    issues.truncate(MAX_ISSUES);
    Ok(Decoded { value, issues })
}

/// Metadata in the form of its type, and what it has no place for.
fn metadata_of(value: Value, path: &str) -> Result<(Value, Vec<String>), DecodeError> {
    let Some(schema) = Schemas::builtin().named(OBJECT_META) else { return Ok((value, Vec::new())) };
    match value {
        Value::Null => Ok((Value::Object(JsonMap::new()), Vec::new())),
        Value::Object(_) => {
            let decoded = decode_raw(schema, Raw::from(value))?;
            let unknown = decoded.issues.into_iter().filter_map(|issue| match issue {
                FieldIssue::Unknown(field) => Some(format!("{path}.{field}")),
                _ => None,
            });
            Ok((decoded.value, unknown.collect()))
        }
        other => {
            let why = go::not_of_type(go::json_kind(&other), "v1.ObjectMeta");
            Err(DecodeError::Type(why))
        }
    }
}

/// Drops every field that the schema has no place for; answers their paths.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.message(schema, value);
    pruner.unknown
}

#[derive(Default)]
struct Pruner {
    path: String,
    unknown: Vec<String>,
    /// What the paths of the unknown fields take.
    path_bytes: usize,
    /// Where keys of maps stand in the path, from the point before each.
    keys: Vec<(usize, usize)>,
    /// What is wrong with the first object within the object that is none.
    fault: Option<String>,
}

impl Pruner {
    fn message(&mut self, schema: &Schema, value: &mut Value) {
        let Value::Object(map) = value else { return };
        let is_root = self.path.is_empty();
        map.retain(|name, value| {
            let here = self.path.len();
            if here > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            let keep = if schema.embedded && META_FIELDS.contains(&name.as_str()) {
                match name.as_str() {
                    "metadata" if !is_root => self.metadata(value),
                    "apiVersion" | "kind" if !is_root && !value.is_string() => self.wrong(value, "must be a string"),
                    _ => {}
                }
                true
            } else if let Some(field) = schema.field(name) {
                self.value(&field.kind, value);
                true
            } else {
                if !schema.preserve_unknown {
                    self.note_unknown();
                }
                schema.preserve_unknown
            };
            self.path.truncate(here);
            keep
        });
    }

    /// Notes that the field at the path is unknown.
    fn note_unknown(&mut self) {
        if self.path_bytes < MAX_PATH_BYTES {
            self.path_bytes += size_of::<String>() + self.path.len();
            self.unknown.push(self.path.clone());
        }
    }

    /// Metadata of an object within an object.
    fn metadata(&mut self, value: &mut Value) {
        match metadata_of(value.clone(), &self.path) {
            Ok((typed, unknown)) => {
                *value = typed;
                self.unknown.extend(unknown);
            }
            Err(error) => self.wrong(value, &error.to_string()),
        }
    }

    fn wrong(&mut self, value: &Value, why: &str) {
        if self.fault.is_none() {
            let mut shown = value.clone();
            shown.sort_all_objects();
            let cause = Cause::invalid(self.field_path(), &shown, why);
            self.fault = Some(format!("{}: {}", cause.field, cause.message));
        }
    }

    /// The path as messages about values have it: keys of maps stand in brackets.
    fn field_path(&self) -> String {
        let (mut shown, mut from) = (String::with_capacity(self.path.len() + self.keys.len()), 0);
        for &(start, end) in &self.keys {
            shown.push_str(self.path.get(from..start).unwrap_or_default());
            let _infallible = write!(shown, "[{}]", self.path.get(start + 1..end).unwrap_or_default());
            from = end;
        }
        shown.push_str(self.path.get(from..).unwrap_or_default());
        shown
    }

    fn value(&mut self, kind: &Kind, value: &mut Value) {
        let here = self.path.len();
        match (kind, value) {
            (Kind::Message(link), value @ Value::Object(_)) if link.get().loose => self.message(link.get(), value),
            (Kind::Message(link), value) if link.get().loose && !link.get().preserve_unknown => self.closed(value),
            (Kind::List(list), Value::Array(items)) => {
                for (at, item) in items.iter_mut().enumerate() {
                    let _infallible = write!(self.path, "[{at}]");
                    self.value(&list.item, item);
                    self.path.truncate(here);
                }
            }
            (Kind::Map(map), Value::Object(entries)) => {
                for (name, value) in entries.iter_mut() {
                    self.path.push('.');
                    self.path.push_str(name);
                    self.keys.push((here, self.path.len()));
                    self.value(&map.value, value);
                    self.keys.pop();
                    self.path.truncate(here);
                }
            }
            (Kind::Any | Kind::Raw | Kind::Message(_), _) => {}
            (Kind::Map(map), _) if matches!(map.value, Kind::Any) => {}
            (_, value) => self.closed(value),
        }
    }

    /// What stands where nothing of the kind has a place: objects lose every field, whatever the schema says of the type.
    fn closed(&mut self, value: &mut Value) {
        let here = self.path.len();
        match value {
            Value::Object(map) => {
                for name in map.keys() {
                    if here > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(name);
                    self.note_unknown();
                    self.path.truncate(here);
                }
                map.clear();
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    let _infallible = write!(self.path, "[{at}]");
                    self.closed(item);
                    self.path.truncate(here);
                }
            }
            _ => {}
        }
    }
}

/// Fills in defaults; null that may not stay is taken for nothing given.
pub(super) fn apply_defaults(schema: &Schema, value: &mut Value) {
    let Value::Object(map) = value else { return };
    for field in schema.fields() {
        let unset = match map.get(&*field.name) {
            None => true,
            Some(Value::Null) => !field.nullable,
            Some(_) => false,
        };
        if unset {
            match &field.default {
                Some(default) => {
                    map.insert(field.name.clone().into_owned(), default.clone());
                }
                None => {
                    map.shift_remove(&*field.name);
                }
            }
        }
        if let Some(value) = map.get_mut(&*field.name) {
            descend(&field.kind, value);
        }
    }
}

fn descend(kind: &Kind, value: &mut Value) {
    match (kind, value) {
        (Kind::Message(link), value) if link.get().loose => apply_defaults(link.get(), value),
        (Kind::List(list), Value::Array(items)) => {
            for item in items {
                settle(&list.nulls, item);
                descend(&list.item, item);
            }
        }
        (Kind::Map(map), Value::Object(entries)) => {
            entries.retain(|_, value| {
                settle(&map.nulls, value);
                descend(&map.value, value);
                map.nulls.allowed || !value.is_null()
            });
        }
        _ => {}
    }
}

fn settle(nulls: &Nulls, value: &mut Value) {
    if let (true, false, Some(default)) = (value.is_null(), nulls.allowed, &nulls.default) {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::{Field, Link, ListMerge, Map, decode_json};
    use super::*;

    fn loose(fields: Vec<Field>) -> Schema {
        Schema { loose: true, ..Schema::of("x", fields) }
    }

    fn widget() -> Schema {
        let inner = loose(vec![
            Field::new("a", Kind::String),
            Field { default: Some(json!(3)), ..Field::new("n", Kind::Int64) },
            Field { nullable: true, ..Field::new("z", Kind::String) },
            Field::new("l", Kind::list(Kind::String, ListMerge::Atomic)),
        ]);
        let mut root = loose(vec![Field::new("spec", Kind::Message(Link::to(Arc::new(inner))))]);
        root.embedded = true;
        root
    }

    #[test]
    fn unknown_and_duplicate_fields_are_told_and_wrong_types_are_kept() {
        let body =
            br#"{"kind":"W","metadata":{"name":"w","frob":1},"extra":1,"spec":{"a":1,"a":2,"b":{"c":1},"l":["x"]}}"#;
        let decoded = decode_json(&widget(), body).unwrap();
        assert_eq!(decoded.value, json!({"kind": "W", "metadata": {"name": "w"}, "spec": {"a": 2, "l": ["x"]}}));
        let issues: Vec<String> = decoded.issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            issues,
            [
                "duplicate field \"spec.a\"",
                "unknown field \"extra\"",
                "unknown field \"metadata.frob\"",
                "unknown field \"spec.b\""
            ]
        );
    }

    #[test]
    fn objects_where_the_schema_has_something_else_lose_their_fields() {
        let decoded = decode_json(&widget(), br#"{"spec":{"a":{"x":1},"l":[{"y":2},[{"z":3}]],"n":[4]}}"#).unwrap();
        assert_eq!(decoded.value, json!({"spec": {"a": {}, "l": [{}, [{}]], "n": [4]}}));
        let issues: Vec<String> = decoded.issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            issues,
            ["unknown field \"spec.a.x\"", "unknown field \"spec.l[0].y\"", "unknown field \"spec.l[1][0].z\""]
        );
    }

    /// All of their paths would take gigabytes.
    #[test]
    fn unknown_fields_below_a_long_key_are_not_all_told() {
        let fields: Vec<String> = (0..5_000).map(|at| format!("\"f{at}\":0,\"f{at}\":0")).collect();
        let body = format!("{{\"spec\":{{\"l\":[{{\"{}\":{{{}}}}}]}}}}", "k".repeat(1 << 16), fields.join(","));
        let decoded = decode_json(&widget(), body.as_bytes()).unwrap();
        assert_eq!(decoded.value, json!({"spec": {"l": [{}]}}));
        assert_eq!(decoded.issues.len(), MAX_ISSUES);
        let mut pruner = Pruner { path: "p".repeat(1 << 20), ..Pruner::default() };
        pruner.closed(&mut (0..100).map(|at| (at.to_string(), json!(0))).collect::<Value>());
        assert_eq!(pruner.unknown.len(), 4);
    }

    #[test]
    fn an_object_within_an_object_says_what_it_is() {
        let mut inner = loose(Vec::new());
        (inner.embedded, inner.preserve_unknown) = (true, true);
        let emb = Kind::Message(Link::to(Arc::new(inner)));
        let map = Map { value: emb.clone(), atomic: false, nulls: Nulls::default() };
        let mut root = loose(vec![Field::new("emb", emb), Field::new("map", Kind::Map(Arc::new(map)))]);
        root.embedded = true;
        let fault = |emb: &str| {
            decode_json(&root, format!(r#"{{"kind":"W","emb":{emb}}}"#).as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(fault(r#"{"apiVersion":1}"#), "emb.apiVersion: Invalid value: 1: must be a string");
        let why = "json: cannot unmarshal array into Go value of type v1.ObjectMeta";
        assert_eq!(fault(r#"{"metadata":[]}"#), format!("emb.metadata: Invalid value: []: {why}"));
        let below_key = fault(r#"{},"map":{"k.l":{"kind":true}}"#);
        assert_eq!(below_key, "map[k.l].kind: Invalid value: true: must be a string");
    }

    #[test]
    fn null_becomes_the_default_or_goes_unless_it_may_stay() {
        let mut value = json!({"spec": {"a": null, "n": null, "z": null, "l": [null]}});
        super::super::apply_defaults(&widget(), &mut value);
        assert_eq!(value, json!({"spec": {"n": 3, "z": null, "l": [null]}}));
        let mut absent = json!({});
        super::super::apply_defaults(&widget(), &mut absent);
        assert_eq!(absent, json!({}));
    }
}
