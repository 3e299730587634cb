//! Tables: what `kubectl get` shows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{
    call::Call,
    kind::{Column, Kind},
    object,
    verbs::answer,
};

/// Which part of the object a row carries.
enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    fn of(&self, version: &str, value: &Value) -> Value {
        match self {
            Include::None => Value::Null,
            Include::Metadata => answer::metadata_only(version, value),
            Include::Object => value.clone(),
        }
    }
}

fn include(call: &Call) -> Result<Include, ApiError> {
    match call.query.get("includeObject") {
        "None" => Ok(Include::None),
        "" | "Metadata" => Ok(Include::Metadata),
        "Object" => Ok(Include::Object),
        other => {
            let cause =
                Cause::invalid("includeObject", &json!(other), "must be 'Metadata', 'Object', 'None', or empty");
            let message = format!("Unable to convert to Table as requested: {}: {}", cause.field, cause.message);
            Err(ApiError::bad_request(message))
        }
    }
}

/// One object as a Table.
pub fn of_one(kind: &Kind, call: &Call, version: &str, value: &Value) -> Result<Value, ApiError> {
    of_list(kind, call, version, revision_of(value), std::slice::from_ref(value))
}

/// The scale of a built-in object as a Table. (That of a custom object has the columns of its kind.)
pub fn of_scale(call: &Call, version: &str, scale: &Value) -> Result<Value, ApiError> {
    const COLUMNS: [Column; 4] = [
        Column::name(),
        Column::text("Desired", "replicas is the desired number of instances for the scaled object.").integer(),
        Column::text("Available", "replicas is the actual number of observed instances of the scaled object.")
            .integer(),
        Column::age(),
    ];
    let object = include(call)?.of(version, scale);
    let count = |part| Value::from(object::int(scale, &[part, "replicas"]).unwrap_or(0));
    let cells = json!([object::name(scale), count("spec"), count("status"), age(scale, call.now)]);
    let columns = COLUMNS.iter().map(|column| definition(column, column.description)).collect();
    Ok(table(version, revision_of(scale), columns, vec![json!({"cells": cells, "object": object})]))
}

fn revision_of(value: &Value) -> Value {
    let revision = object::text(value, &["metadata", "resourceVersion"]);
    if revision.is_empty() { json!({}) } else { json!({"resourceVersion": revision}) }
}

/// Objects as a Table.
pub fn of_list(kind: &Kind, call: &Call, version: &str, metadata: Value, values: &[Value]) -> Result<Value, ApiError> {
    let include = include(call)?;
    let columns: Vec<Value> = match kind.column_definitions() {
        Some(known) => known.to_vec(),
        None => columns_of(kind),
    };
    let rows: Vec<Value> = values
        .iter()
        .map(|value| {
            let mut row = json!({"cells": kind.row(value, call.now), "object": include.of(version, value)});
            if let (Value::Object(row), Some(condition)) = (&mut row, kind.row_condition(value)) {
                row.insert("conditions".into(), json!([condition]));
            }
            row
        })
        .collect();
    Ok(table(version, metadata, columns, rows))
}

fn table(version: &str, metadata: Value, columns: Vec<Value>, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn columns_of(kind: &Kind) -> Vec<Value> {
    let described = kind.columns().iter().zip(kind.column_descriptions());
    described.map(|(column, description)| definition(column, description)).collect()
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
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(object::text(object, &["metadata", "creationTimestamp"]), now)
}

/// The time since `then`, as people read it.
#[must_use]
pub fn since(then: &str, now: Timestamp) -> Value {
    match then.parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_second() - then.as_second()).into(),
        Err(_) => "<unknown>".into(),
    }
}

/// Seconds as `5s`, `3m10s`, `2h`, `5d3h`, `2y10d`: coarser the longer they are.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    let with = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => with(hours / 8760, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 8760),
    }
}

/// `a=1,b=2`, or `<none>`.
#[must_use]
pub fn labels_text(labels: Option<&Value>) -> String {
    let pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
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
    use super::*;

    #[test]
    fn ages_are_coarser_the_longer_they_are() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (190, "3m10s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (28_011_600, "324d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
