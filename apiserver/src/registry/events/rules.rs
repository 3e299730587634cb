//! What both views of events share.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::lifetime;
use crate::registry::{
    kind::{Cell, Column, Strategy},
    object,
    validation::{internal, text::qualified_name},
};

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

/// What is kept beside a stored event: the fields that selectors may name, and when it was written.
pub fn index(view: &impl Strategy, stored: &Value) -> Vec<(String, String)> {
    let fields = INDEXED.iter().map(|path| ((*path).to_owned(), view.field(stored, path)));
    fields.chain([lifetime::mark_now()]).collect()
}

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
pub fn row(event: &Value) -> Vec<Cell> {
    let text = |key: &str| object::text(event, &[key]);
    let first =
        [text("firstTimestamp"), text("eventTime")].into_iter().find(|time| !time.is_empty()).unwrap_or_default();
    let (last, count) = match event.get("series").filter(|series| !series.is_null()) {
        Some(series) => (object::text(series, &["lastObservedTime"]), object::int(series, &["count"]).unwrap_or(0)),
        None => {
            let last = [text("lastTimestamp"), first].into_iter().find(|time| !time.is_empty()).unwrap_or_default();
            // An event that was seen once says so, or nothing.
            (last, object::int(event, &["count"]).filter(|count| *count != 0).unwrap_or(1))
        }
    };
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
        Cell::since(last),
        text("type").into(),
        text("reason").into(),
        if name.is_empty() { kind } else { format!("{kind}/{name}") }.into(),
        involved("fieldPath").into(),
        source.into(),
        text("message").trim().into(),
        Cell::since(first),
        count.into(),
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
    // Upstream looks at the reason twice.
    const KEPT: [&str; 14] = [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ];
    for key in KEPT {
        if !object::same(event.get(key), old.get(key)) {
            let shown = if key == "reportingComponent" { "reportingController" } else { key };
            causes.push(Cause::invalid(shown, &in_go(event, key), "field is immutable"));
        }
    }
}

/// What upstream shows of a field.
fn in_go(event: &Value, key: &str) -> Value {
    let own = event.get(key).unwrap_or(&Value::Null);
    match (key, own) {
        ("source", _) => internal::of("io.k8s.api.core.v1.EventSource", own),
        ("involvedObject", _) | ("related", Value::Object(_)) => {
            internal::of("io.k8s.api.core.v1.ObjectReference", own)
        }
        ("count", Value::Null) => json!(0),
        ("reason" | "message" | "type" | "action" | "reportingComponent" | "reportingInstance", Value::Null) => {
            json!("")
        }
        _ => own.clone(),
    }
}

/// Checks the namespace of what an event is about against that of the event.
pub fn check_namespace(event: &Value, causes: &mut Vec<Cause>) {
    let involved = object::text(event, &["involvedObject", "namespace"]);
    let own = object::namespace(event);
    let old = object::text(event, &["eventTime"]).is_empty();
    let fits = match (old, involved.is_empty()) {
        (true, true) => matches!(own, "" | "default"),
        (true, false) => own == involved,
        (false, true) => matches!(own, "default" | "kube-system"),
        (false, false) => true,
    };
    if !fits {
        causes.push(Cause::invalid("involvedObject.namespace", &json!(involved), "does not match event.namespace"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_must_agree() {
        let fits = |time: Option<&str>, own: &str, involved: &str| {
            let event = json!({
                "metadata": {"namespace": own},
                "involvedObject": {"namespace": involved},
                "eventTime": time,
            });
            let mut causes = Vec::new();
            check_namespace(&event, &mut causes);
            causes.is_empty()
        };
        let new = Some("2026-01-01T00:00:00.000001Z");
        assert!(fits(None, "default", "") && fits(None, "a", "a"));
        assert!(!fits(None, "a", "") && !fits(None, "kube-system", "") && !fits(None, "a", "b"));
        assert!(fits(new, "kube-system", "") && fits(new, "a", "b") && !fits(new, "a", ""));
    }

    #[test]
    fn a_series_alone_says_when_it_was_seen_and_how_often() {
        let shown = |event: Value| {
            let row = row(&event);
            (row[0].clone(), row[8].clone())
        };
        let time = "2026-01-01T00:00:00Z";
        assert_eq!(shown(json!({"series": {}, "lastTimestamp": time, "count": 3})), ("<unknown>".into(), 0.into()));
        assert_eq!(shown(json!({"firstTimestamp": time, "count": 3})), (Cell::since(time), 3.into()));
        assert_eq!(shown(json!({"eventTime": time})), (Cell::since(time), 1.into()));
    }

    #[test]
    fn what_changed_is_shown_as_upstream_shows_it() {
        let event = |name: &str| json!({"involvedObject": {"kind": "Pod", "name": name}, "reason": name});
        let mut causes = Vec::new();
        check_kept(&event("a"), &event("b"), &mut causes);
        let said: Vec<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
        let reference =
            r#"{"Kind":"Pod","Namespace":"","Name":"a","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}"#;
        assert_eq!(
            said,
            [
                format!("Invalid value: {reference}: field is immutable").as_str(),
                r#"Invalid value: "a": field is immutable"#,
                r#"Invalid value: "a": field is immutable"#,
            ]
        );
    }
}
