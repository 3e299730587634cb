//! What a value's schema says: its type, how its JSON is read, and how large it can get.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use martello_api::{
    resource::GroupVersionKind,
    schema::{Kind, Schema as Builtin, Schemas},
};
use serde_json::Value as Json;

use super::{types::Type, words::is_no_name};

/// Largest request, in bytes: without other bounds a list or text is as large as what fits.
const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;
/// Schemas deeper than this are unknown further down.
const MAX_SCHEMA_DEPTH: usize = 64;
const MIN_TEXT_BYTES: u64 = 2;
const MAX_TIME_CHARS: u64 = 32;
const DATE_CHARS: u64 = 12;

/// What is known of a value before it is there.
#[derive(Debug)]
pub struct Schema {
    /// What it is.
    pub shape: Shape,
    /// Most items, entries or characters it can have.
    max_elements: Option<u64>,
    /// Fewest bytes that it takes as JSON.
    min_bytes: u64,
}

/// What a value is.
#[derive(Debug)]
pub enum Shape {
    /// Anything.
    Any,
    /// A number or a text.
    IntOrString,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Text.
    String,
    /// Base64.
    Bytes,
    /// An instant.
    Timestamp,
    /// A day.
    Date,
    /// A span.
    Duration,
    /// A list.
    List(Arc<Schema>, ListKind),
    /// A map from text.
    Map(Arc<Schema>),
    /// Known fields.
    Object(Arc<Fields>),
}

/// How items of a list are told apart: equality and sums depend on it.
#[derive(Debug, PartialEq, Eq)]
pub enum ListKind {
    /// By their place.
    Atomic,
    /// By their value.
    Set,
    /// By these fields.
    Keyed(Vec<String>),
}

/// The fields of an object type.
#[derive(Debug)]
pub struct Fields {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Known(HashMap<String, Field>),
    Builtin(&'static Builtin, usize),
    /// Fields of types that no schema says: variables of a policy.
    Typed(Vec<(String, Type)>),
    /// Any field: what a mutation builds.
    Built,
    /// The patch that a mutation may build.
    JsonPatch,
}

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON: in expressions some characters are escaped.
    pub json: Arc<str>,
    /// What it holds.
    pub schema: Arc<Schema>,
}

impl Schema {
    /// Of this shape, bounded by nothing but the size of a request.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let (max_elements, min_bytes) = match &shape {
            Shape::Any => (None, 1),
            Shape::IntOrString => (Some(MAX_REQUEST_BYTES - 2), 1),
            Shape::Bool => (None, 4),
            Shape::Int | Shape::Double => (None, 1),
            Shape::String | Shape::Bytes => (Some(MAX_REQUEST_BYTES - 2), MIN_TEXT_BYTES),
            Shape::Timestamp => (Some(MAX_TIME_CHARS), 21),
            Shape::Date => (Some(DATE_CHARS), DATE_CHARS),
            Shape::Duration => (Some(MAX_TIME_CHARS), 3),
            Shape::List(item, _) => (Some((MAX_REQUEST_BYTES - 2) / (item.min_bytes + 1)), 2),
            Shape::Map(value) => (Some((MAX_REQUEST_BYTES - 2) / (value.min_bytes + 6)), 2),
            Shape::Object(_) => (None, 2),
        };
        Self { shape, max_elements, min_bytes }
    }

    /// What an OpenAPI schema says; none where expressions may not look. `root` has metadata and its like besides.
    #[must_use]
    pub fn of(open_api: &Json, root: bool) -> Option<Arc<Self>> {
        Self::named(open_api, root, "self", 0).map(Arc::new)
    }

    /// What an OpenAPI schema says of a whole object, whose metadata are those of every object; types are named after `name`.
    #[must_use]
    pub fn of_object(open_api: &Json, name: &str) -> Option<Arc<Self>> {
        let mut own = Self::named(open_api, true, name, 0)?;
        if let Shape::Object(fields) = &mut own.shape
            && let Some(Fields { source: Source::Known(known), .. }) = Arc::get_mut(fields)
            && let Some(metadata) = Self::metadata(&format!("{name}.metadata"))
        {
            known.insert("metadata".to_owned(), Field { json: "metadata".into(), schema: Arc::new(metadata) });
        }
        Some(Arc::new(own))
    }

    fn metadata(name: &str) -> Option<Self> {
        let any = GroupVersionKind::new("", "v1", "ConfigMap");
        Self::of_kind(&Schemas::builtin().get(&any)?.field("metadata")?.kind, 0, name)
    }

    fn named(schema: &Json, root: bool, name: &str, depth: usize) -> Option<Self> {
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

    /// What the table of built-in types says of one. As upstream names them, types are told apart by their place below
    /// `name`: two fields of one type are not alike.
    #[must_use]
    pub fn of_builtin(builtin: &'static Builtin, name: &str) -> Arc<Self> {
        Arc::new(Self::builtin(builtin, 0, name))
    }

    fn builtin(builtin: &'static Builtin, depth: usize, name: &str) -> Self {
        let fields = Fields { name: name.to_owned(), source: Source::Builtin(builtin, depth) };
        Self::new(Shape::Object(Arc::new(fields)))
    }

    fn of_kind(kind: &'static Kind, depth: usize, name: &str) -> Option<Self> {
        let below =
            |kind: &'static Kind, element: &str| Self::of_kind(kind, depth, &format!("{name}.{element}")).map(Arc::new);
        Some(Self::new(match kind {
            Kind::Bool => Shape::Bool,
            Kind::Int32 | Kind::Int64 => Shape::Int,
            Kind::Double => Shape::Double,
            Kind::String => Shape::String,
            Kind::Bytes => Shape::Bytes,
            Kind::IntOrString => Shape::IntOrString,
            Kind::Time | Kind::MicroTime => Shape::Timestamp,
            // OpenAPI says of a quantity what it may be, and no type: expressions do not see it.
            Kind::Any | Kind::Quantity => return None,
            Kind::Raw => Shape::Object(Arc::new(Fields::known(name, HashMap::new()))),
            Kind::Message(link) => {
                return (depth < MAX_SCHEMA_DEPTH).then(|| Self::builtin(link.get(), depth + 1, name));
            }
            Kind::List(list) => Shape::List(below(&list.item, "@idx")?, ListKind::Atomic),
            Kind::Map(map) => Shape::Map(below(&map.value, "@elem")?),
        }))
    }

    /// Its type in expressions.
    #[must_use]
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Any | Shape::IntOrString => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List(item, _) => Type::list(item.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object(fields) => Type::Object(Arc::clone(fields)),
        }
    }

    /// Most items, entries or characters that it can have.
    #[must_use]
    pub fn max_elements(&self) -> Option<u64> {
        self.max_elements
    }

    /// Fewest bytes that it takes as JSON.
    #[must_use]
    pub fn min_serialized_size(&self) -> u64 {
        self.min_bytes
    }

    /// What its items or values are.
    #[must_use]
    pub fn item(&self) -> Option<&Arc<Self>> {
        match &self.shape {
            Shape::List(item, _) | Shape::Map(item) => Some(item),
            _ => None,
        }
    }

    /// A field, by its escaped name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Field> {
        match &self.shape {
            Shape::Object(fields) => fields.get(name),
            _ => None,
        }
    }
}

impl Fields {
    /// A type of this name with these fields, by their escaped names.
    #[must_use]
    pub fn known(name: impl Into<String>, fields: HashMap<String, Field>) -> Self {
        Self { name: name.into(), source: Source::Known(fields) }
    }

    /// A type of this name whose fields have these types.
    #[must_use]
    pub fn typed(name: impl Into<String>, fields: Vec<(String, Type)>) -> Self {
        Self { name: name.into(), source: Source::Typed(fields) }
    }

    /// The object that a mutation builds: `Object`, `Object.spec` …
    #[must_use]
    pub fn built(name: impl Into<String>) -> Self {
        Self { name: name.into(), source: Source::Built }
    }

    /// The patch that a mutation may build.
    #[must_use]
    pub fn json_patch() -> Self {
        Self { name: "JSONPatch".to_owned(), source: Source::JsonPatch }
    }

    /// Name of the type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A field, by its escaped name, where values are read.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Field> {
        match &self.source {
            Source::Known(fields) => fields.get(name).cloned(),
            Source::Builtin(builtin, depth) => {
                let field = builtin.field(&unescape(name))?;
                let schema = Arc::new(Schema::of_kind(&field.kind, *depth, &format!("{}.{name}", self.name))?);
                Some(Field { json: field.name.as_ref().into(), schema })
            }
            Source::Typed(_) | Source::Built | Source::JsonPatch => None,
        }
    }

    /// A known field, borrowed.
    #[must_use]
    pub fn borrow(&self, name: &str) -> Option<&Field> {
        match &self.source {
            Source::Known(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The type of a field.
    #[must_use]
    pub fn field_type(&self, name: &str) -> Option<Type> {
        match &self.source {
            Source::Built => Some(Type::Dyn),
            Source::Typed(fields) => fields.iter().find(|(own, _)| own == name).map(|(_, ty)| ty.clone()),
            Source::JsonPatch => match name {
                "op" | "path" | "from" => Some(Type::String),
                "value" => Some(Type::Dyn),
                _ => None,
            },
            _ => self.get(name).map(|field| field.schema.ty()),
        }
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

const ESCAPES: [(&str, &str); 4] = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name of a field as expressions write it; none where they can't.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if is_no_name(name) {
        return Some(format!("__{name}__"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fine) {
        return None;
    }
    let mut escaped = name.to_owned();
    for (plain, written) in ESCAPES {
        escaped = escaped.replace(plain, written);
    }
    Some(escaped)
}

/// The name that was escaped.
#[must_use]
fn unescape(name: &str) -> String {
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = inner.filter(|word| is_no_name(word)) {
        return word.to_owned();
    }
    let mut plain = name.to_owned();
    for (sign, written) in ESCAPES.into_iter().rev() {
        plain = plain.replace(written, sign);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_back() {
        for (name, escaped) in [
            ("namespace", Some("__namespace__")),
            ("a-b.c/d", Some("a__dash__b__dot__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("plain", Some("plain")),
            ("1a", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
            if let Some(escaped) = escaped {
                assert_eq!(unescape(escaped), name);
            }
        }
    }

    /// As upstream's 1.36.4 type checker of policies gives it.
    #[test]
    fn types_of_built_in_fields_are_told_apart_by_their_place() {
        let pod = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let pod = Schema::of_builtin(pod, "Pod1");
        let below = |schema: &Schema, name: &str| schema.field(name).unwrap().schema;
        let spec = below(&pod, "spec");
        assert_eq!(below(&spec, "containers").ty().to_string(), "list(Pod1.spec.containers.@idx)");
        assert_eq!(below(&spec, "initContainers").ty().to_string(), "list(Pod1.spec.initContainers.@idx)");
        assert!(below(&spec, "resources").field("limits").is_none(), "quantities are not seen");
        let entries = below(&below(&pod, "metadata"), "managedFields");
        let fields = below(entries.item().unwrap(), "fieldsV1");
        assert_eq!(fields.ty().to_string(), "Pod1.metadata.managedFields.@idx.fieldsV1");
        assert!(fields.field("f:spec").is_none());
    }

    #[test]
    fn metadata_of_custom_objects_are_those_of_all() {
        let schema = serde_json::json!({"type": "object", "properties": {"spec": {"type": "object"}}});
        let widget = Schema::of_object(&schema, "Widget1").unwrap();
        let labels = widget.field("metadata").unwrap().schema.field("labels").unwrap();
        assert_eq!(labels.schema.ty().to_string(), "map(string, string)");
        assert_eq!(widget.field("spec").unwrap().schema.ty().to_string(), "Widget1.spec");
    }

    #[test]
    fn bounds_come_from_the_schema_or_the_request() {
        let schema = serde_json::json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "array", "items": {"type": "string", "maxLength": 5}},
            "b": {"type": "array", "maxItems": 3, "items": {"type": "integer"}},
        }});
        let schema = Schema::of(&schema, false).unwrap();
        let a = schema.field("a").unwrap().schema;
        assert_eq!(a.max_elements(), Some((3 * 1024 * 1024 - 2) / 3));
        assert_eq!(a.item().unwrap().max_elements(), Some(20));
        assert_eq!(schema.field("b").unwrap().schema.max_elements(), Some(3));
        assert_eq!(schema.min_serialized_size(), 2 + 1 + 2 + 4);
    }
}
