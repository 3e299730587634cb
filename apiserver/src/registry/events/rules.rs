//! What both views of events share.

use jiff::Timestamp;
use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{kind::Column, object, table, validation::text::qualified_name};

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

/// Longest reporter, action and reason.
const MAX_WORD: usize = 128;
/// Longest message.
const MAX_MESSAGE: usize = 1024;

/// Checks an event, in its stored form, that says when it happened to the microsecond; others are older and freer.
pub fn check_new(event: &Value, reporter: &str, causes: &mut Vec<Cause>) {
    let text = |key: &str| object::text(event, &[key]);
    if text("eventTime").is_empty() {
        return;
    }
    let limited = |key: &str, limit: usize, causes: &mut Vec<Cause>| {
        if text(key).is_empty() && key != "message" {
            causes.push(Cause::required(key, ""));
        }
        if text(key).len() > limit {
            causes.push(Cause::invalid(key, &json!(""), &format!("can have at most {limit} characters")));
        }
    };
    let name = text("reportingComponent");
    if name.is_empty() {
        causes.push(Cause::required(reporter, ""));
    }
    for fault in qualified_name(name) {
        causes.push(Cause::invalid(reporter, &json!(name), &fault));
    }
    limited("reportingInstance", MAX_WORD, causes);
    limited("action", MAX_WORD, causes);
    limited("reason", MAX_WORD, causes);
    limited("message", MAX_MESSAGE, causes);
}

/// Checks a series of events.
pub fn check_series(event: &Value, causes: &mut Vec<Cause>) {
    let Some(series) = event.get("series").filter(|series| !series.is_null()) else { return };
    if object::int(series, &["count"]).unwrap_or(0) < 2 {
        causes.push(Cause::invalid("series.count", &json!(""), "should be at least 2"));
    }
    if object::text(series, &["lastObservedTime"]).is_empty() {
        causes.push(Cause::required("series.lastObservedTime", ""));
    }
}

/// Checks that an event of the new group, in its stored form, has none of what only older ones have.
pub fn check_unset(event: &Value, causes: &mut Vec<Cause>) {
    for key in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if event.get(key).is_some_and(|value| !object::is_zero(value)) {
            causes.push(Cause::invalid(key, &json!(""), "needs to be unset"));
        }
    }
}

/// Checks that an event of the new group, in its stored form, stays as it was, its series apart.
pub fn check_kept(event: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const KEPT: [&str; 13] = [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ];
    for key in KEPT {
        if !object::semantically_equal(event.get(key), old.get(key)) {
            let shown = if key == "reportingComponent" { "reportingController" } else { key };
            causes.push(Cause::invalid(shown, event.get(key).unwrap_or(&Value::Null), "field is immutable"));
        }
    }
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
