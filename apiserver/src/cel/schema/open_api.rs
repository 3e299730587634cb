//! What OpenAPI says of a value.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::{Field, Fields, ListKind, MAX_SCHEMA_DEPTH, Schema, Shape, escape};

impl Schema {
    pub(super) fn named(schema: &Json, root: bool, name: &str, depth: usize) -> Option<Self> {
        if depth > MAX_SCHEMA_DEPTH {
            return None;
        }
        let bound = |key: &str| schema.get(key).and_then(Json::as_i64).map(|max| u64::try_from(max).unwrap_or(0));
        let longest = bound("maxLength");
        if schema.get("x-kubernetes-int-or-string").and_then(Json::as_bool) == Some(true) {
            let mut own = Self::new(Shape::IntOrString);
            own.max_elements = longest.map(|max| max.saturating_mul(4)).or(own.max_elements);
            return Some(own);
        }
        let mut own = match schema.get("type").and_then(Json::as_str)? {
            "array" => {
                let items = schema.get("items")?;
                let item = Self::named(items, embedded(items), &format!("{name}.@idx"), depth + 1)?;
                let mut own = Self::new(Shape::List(Arc::new(item), list_kind(schema)));
                own.max_elements = bound("maxItems").or(own.max_elements);
                own
            }
            "object" => match schema.get("additionalProperties").filter(|extra| extra.is_object()) {
                Some(extra) => {
                    let value = Self::named(extra, embedded(extra), &format!("{name}.@elem"), depth + 1)?;
                    let mut own = Self::new(Shape::Map(Arc::new(value)));
                    own.max_elements = bound("maxProperties").or(own.max_elements);
                    own
                }
                None => Self::object(schema, root, name, depth),
            },
            "string" => Self::text(schema, longest),
            "boolean" => Self::new(Shape::Bool),
            "number" => Self::new(Shape::Double),
            "integer" => Self::new(Shape::Int),
            _ => return None,
        };
        own.max_elements = own.max_elements.map(|max| max.min(i64::MAX.unsigned_abs()));
        Some(own)
    }

    fn text(schema: &Json, longest: Option<u64>) -> Self {
        match schema.get("format").and_then(Json::as_str) {
            Some("byte") => {
                let mut own = Self::new(Shape::Bytes);
                own.max_elements = longest.or(own.max_elements);
                own
            }
            Some("duration") => Self::new(Shape::Duration),
            Some("date") => Self::new(Shape::Date),
            Some("date-time") => Self::new(Shape::Timestamp),
            _ => {
                let choices = schema.get("enum").and_then(Json::as_array).filter(|choices| !choices.is_empty());
                let chosen = choices.map(|choices| {
                    let lengths = choices.iter().filter_map(Json::as_str).map(|choice| choice.len() as u64);
                    lengths.max().unwrap_or(0)
                });
                let mut own = Self::new(Shape::String);
                own.max_elements = longest.map(|max| max.saturating_mul(4)).or(chosen).or(own.max_elements);
                own
            }
        }
    }

    fn object(schema: &Json, root: bool, name: &str, depth: usize) -> Self {
        let text = || Arc::new(Self::new(Shape::String));
        let required: HashSet<&str> =
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        let mut fields = HashMap::new();
        let mut min_bytes = 2;
        for (json, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let Some(own) = Self::named(property, embedded(property), &format!("{name}.{json}"), depth + 1) else {
                continue;
            };
            if required.contains(json.as_str()) && property.get("default").is_none() {
                min_bytes += json.len() as u64 + own.min_bytes + 4;
            }
            if let Some(escaped) = escape(json) {
                fields.insert(escaped, Field { json: json.as_str().into(), schema: Arc::new(own) });
            }
        }
        if root {
            for name in ["apiVersion", "kind"] {
                fields.insert(name.to_owned(), Field { json: name.into(), schema: text() });
            }
            let metadata =
                ["name", "generateName"].map(|name| (name.to_owned(), Field { json: name.into(), schema: text() }));
            let metadata = Fields::known(format!("{name}.metadata"), metadata.into());
            let schema = Arc::new(Self::new(Shape::Object(Arc::new(metadata))));
            fields.insert("metadata".to_owned(), Field { json: "metadata".into(), schema });
        }
        let mut own = Self::new(Shape::Object(Arc::new(Fields::known(name.to_owned(), fields))));
        own.min_bytes = min_bytes;
        own
    }
}

fn embedded(schema: &Json) -> bool {
    schema.get("x-kubernetes-embedded-resource").and_then(Json::as_bool).unwrap_or(false)
}

fn list_kind(schema: &Json) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            ListKind::Keyed(keys.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}
