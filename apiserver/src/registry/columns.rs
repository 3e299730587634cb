//! Descriptions of columns: what the schema says of the field that a column shows.

use std::collections::BTreeSet;

use martello_api::schema::{Descriptions, Kind as FieldKind, Schema, Schemas};

use super::kind::{Column, Kind};

/// The descriptions of a kind's columns: of the field that is named, or the words as they are.
#[must_use]
pub fn describe(kind: &Kind, columns: &[Column]) -> Vec<String> {
    let described = kind.described_as();
    let Some(root) = Schemas::builtin().get(described.as_ref().unwrap_or(&kind.resource.gvk)) else {
        return columns.iter().map(|column| column.description.to_owned()).collect();
    };
    let words = Descriptions::of(&BTreeSet::from([&*root.name]));
    let one = |column: &Column| {
        let found = field(root, column.description).map(|(owner, field)| words.of_field(owner, field));
        found.filter(|text| !text.is_empty()).unwrap_or(column.description).to_owned()
    };
    columns.iter().map(one).collect()
}

/// The type that holds the last field of a dotted path, and that field.
fn field<'s, 'p>(root: &'s Schema, path: &'p str) -> Option<(&'s str, &'p str)> {
    if path.contains(' ') {
        return None;
    }
    let mut here = root;
    let mut segments = path.split('.').peekable();
    while let Some(segment) = segments.next() {
        let field = here.field(segment)?;
        if segments.peek().is_none() {
            return Some((&here.name, segment));
        }
        here = match &field.kind {
            FieldKind::Message(link) => link.get(),
            _ => return None,
        };
    }
    None
}
