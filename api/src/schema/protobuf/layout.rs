//! The fields of a schema in the order of the wire.

use super::super::{Kind, Schema};

/// Numbers from the outside in; zeros behind the last.
type Path = [u16; 3];

/// How JSON and protobuf differ in the shape of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Not.
    Plain,
    /// A schema, or a flag: a message of the two.
    SchemaOrBool,
    /// A schema, or a list of schemas: a message of the two.
    SchemaOrList,
    /// A schema, or a list of names: a message of the two.
    SchemaOrNames,
}

/// A field's place.
#[derive(Debug)]
pub(super) struct Place {
    path: Path,
    /// Index in [`Schema::fields`].
    pub(super) field: usize,
    pub(super) form: Form,
}

/// All places of a schema, sorted by their paths.
#[derive(Debug, Default)]
pub(in crate::schema) struct Layout(Vec<Place>);

/// What is at a number of a message.
pub(super) enum At<'a> {
    Field(&'a Place),
    /// A message that JSON does not know: its fields are those of the message around it.
    Inside(&'a [Place]),
    Nothing,
}

impl Layout {
    pub(in crate::schema) fn of(schema: &Schema) -> Self {
        let recursive = schema.short_name() == "JSONSchemaProps";
        let mut places: Vec<Place> = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate().filter(|(_, field)| field.number != 0) {
            let path = match field.outer {
                [0, _] => [field.number, 0, 0],
                [first, 0] => [first, field.number, 0],
                [first, second] => [first, second, field.number],
            };
            let form = match (&*field.name, &field.kind) {
                ("additionalItems" | "additionalProperties", Kind::Any) if recursive => Form::SchemaOrBool,
                ("items", Kind::Any) if recursive => Form::SchemaOrList,
                ("dependencies", Kind::Map(_)) if recursive => Form::SchemaOrNames,
                _ => Form::Plain,
            };
            places.push(Place { path, field: index, form });
        }
        places.sort_by_key(|place| place.path);
        Self(places)
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.0
    }
}

impl Place {
    /// Its number in the message at this level.
    pub(super) fn number(&self, level: usize) -> u16 {
        self.path.get(level).copied().unwrap_or(0)
    }

    pub(super) fn is_deeper(&self, level: usize) -> bool {
        self.number(level + 1) != 0
    }
}

/// What `number` is among `places`, which are of one message at this level.
pub(super) fn find(places: &[Place], level: usize, number: u64) -> At<'_> {
    let from = places.partition_point(|place| u64::from(place.number(level)) < number);
    let (_, places) = places.split_at(from.min(places.len()));
    let to = places.partition_point(|place| u64::from(place.number(level)) == number);
    match places.split_at(to.min(places.len())).0 {
        [] => At::Nothing,
        group @ [first, ..] if first.is_deeper(level) => At::Inside(group),
        [first, ..] => At::Field(first),
    }
}
