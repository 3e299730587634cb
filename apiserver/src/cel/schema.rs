//! What a value's schema says: its type, how its JSON is read, and how large it can get.

use std::{collections::HashMap, sync::Arc};

use martello_api::{
    resource::GroupVersionKind,
    schema::{Kind, Schema as Builtin, Schemas},
};
use serde_json::Value as Json;

use super::types::Type;

mod device;
mod escape;
mod open_api;

pub use escape::escape;

use escape::unescape;

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
    /// Most characters that the keys of a map are known to have: 0 where nothing says so, as upstream counts.
    longest_key: u64,
    /// The variable whose it is; none where it stands for all.
    variable: Option<&'static str>,
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
        Self { shape, max_elements, longest_key: 0, variable: None, min_bytes }
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

    /// Whether it says how large this variable gets.
    #[must_use]
    pub fn is_of(&self, variable: &str) -> bool {
        self.variable.is_none_or(|own| own == variable)
    }

    /// Most characters that the keys of a map are known to have.
    #[must_use]
    pub fn longest_key(&self) -> u64 {
        self.longest_key
    }

    /// What a name reaches in a map of anything, where how large that gets is known whatever the name.
    #[must_use]
    pub fn bounded_entry(&self) -> Option<&Arc<Self>> {
        self.item().filter(|item| matches!(item.shape, Shape::Any) && item.max_elements.is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

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
