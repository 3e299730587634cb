//! How a value is owned: as one, by field, by key or by item.

use std::sync::LazyLock;

use serde_json::{Map as JsonMap, Value};

use super::{Kind, Link, Schema};
use crate::schema::{Field, List, ListMerge, Schemas};

/// How a value is owned.
#[derive(Clone, Copy)]
pub(super) enum Shape<'s> {
    /// As one.
    Leaf,
    /// By field of this schema.
    Struct(&'s Schema),
    /// By key; each value is of this kind.
    Map(&'s Kind),
    /// By item.
    List(&'s List),
}

static ANY: Kind = Kind::Any;

/// What the metadata of an object within an object is, whatever the definition declares of it.
static METADATA: LazyLock<Option<Kind>> =
    LazyLock::new(|| Schemas::builtin().link("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").map(Kind::Message));

/// The kind of a field of `schema` as who owns what is told by it.
pub(super) fn kind_of<'s>(schema: &Schema, field: &'s Field) -> &'s Kind {
    match &*METADATA {
        Some(metadata) if schema.embedded && field.name == "metadata" => metadata,
        _ => &field.kind,
    }
}

/// How a value of `kind` is owned; where the schema is silent, `values` tell: objects by key, the rest as one.
pub(super) fn shape<'s>(kind: &'s Kind, field: Option<&Field>, values: [Option<&Value>; 2]) -> Shape<'s> {
    let overridden = field.and_then(|field| field.map_type.as_deref());
    match kind {
        Kind::Message(link) => match overridden {
            Some("granular") => Shape::Struct(schema(link)),
            Some(_) => Shape::Leaf,
            None if schema(link).atomic => Shape::Leaf,
            None => Shape::Struct(schema(link)),
        },
        Kind::Map(map) if map.atomic || overridden == Some("atomic") => Shape::Leaf,
        Kind::Map(map) => Shape::Map(&map.value),
        Kind::List(list) if list.merge == ListMerge::Atomic => Shape::Leaf,
        Kind::List(list) => Shape::List(list),
        Kind::Any | Kind::Raw if field.is_some_and(|field| field.atomic) => Shape::Leaf,
        Kind::Any | Kind::Raw if values.iter().flatten().any(|value| value.is_object()) => Shape::Map(&ANY),
        _ => Shape::Leaf,
    }
}

/// Whether the schema says nothing of the form of a value of `kind`.
pub(super) fn is_untyped(kind: &Kind) -> bool {
    matches!(kind, Kind::Any | Kind::Raw)
}

fn schema(link: &Link) -> &Schema {
    link.get()
}

impl<'s> Shape<'s> {
    /// The kind of a field or key, and the field if there is one.
    pub(super) fn below(self, name: &str) -> (&'s Kind, Option<&'s Field>) {
        match self {
            Self::Struct(schema) => {
                schema.field(name).map_or((&ANY, None), |field| (kind_of(schema, field), Some(field)))
            }
            Self::Map(kind) => (kind, None),
            Self::Leaf | Self::List(_) => (&ANY, None),
        }
    }

    /// The kind of what an element of a field set stands for, and the field if there is one.
    pub(super) fn element(self, element: &str) -> (&'s Kind, Option<&'s Field>) {
        match (self, element.strip_prefix("f:")) {
            (Self::List(list), None) => (&list.item, None),
            (_, Some(name)) => self.below(name),
            (_, None) => (&ANY, None),
        }
    }

    /// Whether `name` is a field that the schema declares.
    pub(super) fn declares(self, name: &str) -> bool {
        matches!(self, Self::Struct(schema) if schema.field(name).is_some())
    }
}

pub(super) fn object(value: Option<&Value>) -> Option<&JsonMap<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

pub(super) fn array(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array).filter(|items| !items.is_empty())
}
