//! Descriptions of columns: what the schema says of the field that a column shows.

use super::kind::{Column, Kind};

/// The description of a column.
#[must_use]
pub fn description(_kind: &Kind, column: &Column) -> &'static str {
    column.description
}
