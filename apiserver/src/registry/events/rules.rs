//! What both views of events share.

use jiff::Timestamp;
use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{kind::Column, object, table};

/// Fields of the stored form that selectors may name.
pub const INDEXED: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Columns.
pub const COLUMNS: [Column; 10] = [
    Column::text("Last Seen", "lastTimestamp"),
    Column::text("Type", "type"),
    Column::text("Reason", "reason"),
    Column::text("Object", "involvedObject"),
    Column::text("Subobject", "involvedObject.fieldPath").wide(),
    Column::text("Source", "source").wide(),
    Column::text("Message", "message"),
    Column::text("First Seen", "firstTimestamp").wide(),
    Column::text("Count", "count").wide(),
    Column { priority: 1, ..Column::name() },
];

/// Cells of an event in its stored form.
#[must_use]
pub fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let text = |key: &str| object::text(event, &[key]);
    let first =
        [text("firstTimestamp"), text("eventTime")].into_iter().find(|time| !time.is_empty()).unwrap_or_default();
    let series = object::text(event, &["series", "lastObservedTime"]);
    let last = [series, text("lastTimestamp"), first].into_iter().find(|time| !time.is_empty()).unwrap_or_default();
    let count =
        object::int(event, &["series", "count"]).or_else(|| object::int(event, &["count"])).filter(|count| *count != 0);
    let involved = |key: &str| object::text(event, &["involvedObject", key]);
    let mut source = object::text(event, &["source", "component"]).to_owned();
    if source.is_empty() {
        text("reportingComponent").clone_into(&mut source);
    }
    let host = match object::text(event, &["source", "host"]) {
        "" => text("reportingInstance"),
        host => host,
    };
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    let name = involved("name");
    let kind = involved("kind").to_lowercase();
    vec![
        table::since(last, now),
        text("type").into(),
        text("reason").into(),
        if name.is_empty() { kind } else { format!("{kind}/{name}") }.into(),
        involved("fieldPath").into(),
        source.into(),
        text("message").trim().into(),
        table::since(first, now),
        count.unwrap_or(1).into(),
        object::name(event).into(),
    ]
}

/// Checks the namespace of what an event is about against that of the event.
pub fn check_namespace(event: &Value, causes: &mut Vec<Cause>) {
    let involved = object::text(event, &["involvedObject", "namespace"]);
    let own = object::namespace(event);
    let fits = if involved.is_empty() {
        matches!(own, "" | "default" | "kube-system") || object::text(event, &["involvedObject", "kind"]) == "Node"
    } else {
        own == involved
    };
    if !fits && !involved.is_empty() {
        causes.push(Cause::invalid("involvedObject.namespace", &json!(involved), "does not match event.namespace"));
    }
}
