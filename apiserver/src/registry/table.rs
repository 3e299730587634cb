//! Tables: what `kubectl get` shows.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{
    call::Call,
    cell::{self, human_duration},
    kind::{Cell, Column, Kind},
    object,
    storage::parse,
    verbs::answer,
};
use crate::store::{Entry, Row};

/// Columns of kinds that tell nothing but these.
pub const NAME_AND_AGE: [Column; 2] = [Column::name(), Column::age()];

/// The row of [`NAME_AND_AGE`].
#[must_use]
pub fn name_and_age(object: &Value) -> Vec<Cell> {
    vec![object::name(object).into(), age(object)]
}

/// Which part of the object a row carries.
#[derive(Clone, Copy)]
enum Include {
    None,
    Metadata,
    Object,
}

/// What a client asks of Tables.
pub struct Shape {
    include: Include,
    version: String,
    /// As of when ages are told.
    pub now: Timestamp,
}

impl Shape {
    /// What a call asks of Tables of that version.
    pub fn of(call: &Call, version: &str) -> Result<Self, ApiError> {
        let include = match call.query.get("includeObject") {
            "None" => Include::None,
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            other => {
                let cause =
                    Cause::invalid("includeObject", &json!(other), "must be 'Metadata', 'Object', 'None', or empty");
                let message = format!("Unable to convert to Table as requested: {}: {}", cause.field, cause.message);
                return Err(ApiError::bad_request(message));
            }
        };
        Ok(Self { include, version: version.to_owned(), now: call.now })
    }

    /// A Table up to its first row. Without columns they are null: a watch tells them once.
    #[must_use]
    pub fn head(&self, metadata: &Value, columns: Option<&[u8]>) -> Vec<u8> {
        let start = format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{}\",\"metadata\":{metadata},\"columnDefinitions\":",
            self.version
        );
        let mut head = start.into_bytes();
        head.extend_from_slice(columns.unwrap_or(b"null"));
        head.extend_from_slice(b",\"rows\":[");
        head
    }

    /// What ends a row behind its object.
    #[must_use]
    pub fn row_end(&self) -> &'static [u8] {
        match self.include {
            Include::Metadata => b"}}",
            Include::None | Include::Object => b"}",
        }
    }

    /// Writes the row of an entry that is shown as it is stored up to its object, and answers with the bytes of that, which
    /// are to follow. What is relative to now alone is made anew.
    pub fn begin_row(&self, kind: &Kind, entry: &Entry, out: &mut Vec<u8>) -> Result<Bytes, ApiError> {
        let columns = kind.columns_number();
        let row = entry.row(columns, || parse(entry.bytes()).map(|value| row_of(kind, &value)))?;
        self.write_row(&row, out);
        Ok(match self.include {
            Include::None => Bytes::new(),
            Include::Metadata => entry.metadata().unwrap_or_else(|| Bytes::from_static(b"{}")),
            Include::Object => entry.bytes().clone(),
        })
    }

    /// Writes a row with its object.
    fn write_whole(&self, row: &Row, value: &Value, out: &mut Vec<u8>) {
        self.write_row(row, out);
        let object = match self.include {
            Include::None => None,
            Include::Metadata => Some(value.get("metadata").map_or_else(|| json!({}).to_string(), Value::to_string)),
            Include::Object => Some(value.to_string()),
        };
        out.extend_from_slice(object.unwrap_or_default().as_bytes());
        out.extend_from_slice(self.row_end());
    }

    fn write_row(&self, row: &Row, out: &mut Vec<u8>) {
        row.write(out, |then, out| out.extend_from_slice(human_duration(self.now.as_second() - then).as_bytes()));
        out.extend_from_slice(b",\"object\":");
        match self.include {
            Include::None => out.extend_from_slice(b"null"),
            Include::Metadata => answer::begin_metadata_only(&self.version, out),
            Include::Object => {}
        }
    }
}

fn row_of(kind: &Kind, value: &Value) -> Row {
    cell::row(kind.columns_number(), &kind.row(value), kind.row_condition(value).as_ref())
}

/// One object as a Table.
pub fn of_one(kind: &Kind, call: &Call, version: &str, value: &Value) -> Result<Vec<u8>, ApiError> {
    of_list(kind, call, version, &revision_of(value), std::slice::from_ref(value))
}

/// Objects as a Table.
pub fn of_list(
    kind: &Kind,
    call: &Call,
    version: &str,
    metadata: &Value,
    values: &[Value],
) -> Result<Vec<u8>, ApiError> {
    let shape = Shape::of(call, version)?;
    Ok(table(&shape, metadata, Some(kind.columns_told()), values.iter().map(|value| (row_of(kind, value), value))))
}

/// One object as a Table whose columns were told before, as of that time.
pub fn of_event(shape: &Shape, kind: &Kind, told: bool, value: &Value) -> Vec<u8> {
    let columns = (!told).then(|| kind.columns_told());
    table(shape, &revision_of(value), columns, std::iter::once((row_of(kind, value), value)))
}

/// The empty object that tells how far a watch came, as a Table. The one that ends the first events says so in its metadata,
/// which those see, too, who asked for rows without objects.
pub fn of_bookmark(shape: &Shape, kind: &Kind, told: bool, initial_end: bool, value: &Value) -> Vec<u8> {
    let include = match shape.include {
        Include::None if initial_end => Include::Metadata,
        other => other,
    };
    let shape = Shape { include, version: shape.version.clone(), now: shape.now };
    of_event(&shape, kind, told, value)
}

/// The same of an entry that is shown as it is stored.
pub fn of_entry(shape: &Shape, kind: &Kind, told: bool, entry: &Entry) -> Result<Vec<u8>, ApiError> {
    let metadata = json!({"resourceVersion": entry.revision.to_string()});
    let mut out = shape.head(&metadata, (!told).then(|| kind.columns_told()));
    let object = shape.begin_row(kind, entry, &mut out)?;
    out.extend_from_slice(&object);
    out.extend_from_slice(shape.row_end());
    out.extend_from_slice(END);
    Ok(out)
}

/// What ends a Table.
pub const END: &[u8] = b"]}";

/// The scale of an object as a Table. Those of built-in and of custom objects differ in what is said of the columns.
pub fn of_scale(call: &Call, version: &str, scale: &Value, custom: bool) -> Result<Vec<u8>, ApiError> {
    const COLUMNS: [Column; 4] = [
        Column::name(),
        Column::text("Desired", "replicas is the desired number of instances for the scaled object.").integer(),
        Column::text("Available", "replicas is the actual number of observed instances of the scaled object.")
            .integer(),
        Column::age(),
    ];
    const OF_CUSTOM: [Column; 4] = [
        Column::name(),
        Column::text("Desired", "Number of desired replicas").integer(),
        Column::text("Available", "Number of actual replicas").integer(),
        Column { kind: "date", ..Column::age() },
    ];
    let shape = Shape::of(call, version)?;
    let count = |part| object::int(scale, &[part, "replicas"]).unwrap_or(0);
    let cells: [Cell; 4] = [object::name(scale).into(), count("spec").into(), count("status").into(), age(scale)];
    let columns = if custom { &OF_CUSTOM } else { &COLUMNS };
    let columns = definitions(columns.iter().map(|column| definition(column, column.description)));
    Ok(table(&shape, &revision_of(scale), Some(&columns), std::iter::once((cell::row(0, &cells, None), scale))))
}

fn revision_of(value: &Value) -> Value {
    let revision = object::text(value, &["metadata", "resourceVersion"]);
    if revision.is_empty() { json!({}) } else { json!({"resourceVersion": revision}) }
}

fn table<'a>(
    shape: &Shape,
    metadata: &Value,
    columns: Option<&[u8]>,
    rows: impl Iterator<Item = (Row, &'a Value)>,
) -> Vec<u8> {
    let mut out = shape.head(metadata, columns);
    for (index, (row, value)) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        shape.write_whole(&row, value, &mut out);
    }
    out.extend_from_slice(END);
    out
}

/// The columns of a kind as a Table tells them.
#[must_use]
pub fn columns_of(kind: &Kind) -> Bytes {
    if let Some(known) = kind.column_definitions() {
        return definitions(known.iter().cloned());
    }
    let described = kind.columns().iter().zip(kind.column_descriptions());
    definitions(described.map(|(column, description)| definition(column, description)))
}

fn definitions(all: impl Iterator<Item = Value>) -> Bytes {
    Value::Array(all.collect()).to_string().into()
}

fn definition(column: &Column, description: &str) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": description,
        "priority": column.priority,
    })
}

/// Where load balancers are reached, in order and each once.
#[must_use]
pub fn balanced(object: &Value) -> Vec<&str> {
    let given = object::list(object, &["status", "loadBalancer", "ingress"]).iter();
    let known = given.filter_map(|one| {
        let both = [object::text(one, &["ip"]), object::text(one, &["hostname"])];
        both.into_iter().find(|text| !text.is_empty())
    });
    known.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The age of an object, as people read it.
#[must_use]
pub fn age(object: &Value) -> Cell {
    Cell::since(object::text(object, &["metadata", "creationTimestamp"]))
}

/// `a=1,b=2` in the order of these texts, or `<none>`.
#[must_use]
pub fn labels_text(labels: Option<&Value>) -> String {
    let mut pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A `LabelSelector` as text, in upstream's order.
#[must_use]
pub fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return "<none>".to_owned() };
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in object::list(selector, &["matchExpressions"]) {
        let key = object::text(expression, &["key"]);
        let mut values: Vec<&str> = object::list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match object::text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_shown_in_order_however_they_were_sent() {
        assert_eq!(labels_text(Some(&json!({"z": "1", "a": "2", "a-b": "3"}))), "a-b=3,a=2,z=1");
        assert_eq!(labels_text(Some(&json!({}))), "<none>");
        assert_eq!(labels_text(None), "<none>");
    }
}
