//! Events as `events.k8s.io` shows them.

use martello_api::{
    resource::{GroupVersionKind, Resource, Text},
    status::Cause,
};
use serde_json::{Value, json};

use super::{core, rules};
use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object,
};

/// Events.
pub struct Events;

/// Field of this view, field of the stored form.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
const SELECTABLE: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

impl Strategy for Events {
    fn resource(&self) -> Resource {
        resource("events.k8s.io", "v1", "Event", "events").short(&["ev"]).build()
    }

    fn described_as(&self) -> Option<GroupVersionKind> {
        Some(GroupVersionKind::new("", "v1", "Event"))
    }

    fn collects_garbage(&self) -> bool {
        false
    }

    fn storage(&self) -> Option<Text> {
        Some("events".into())
    }

    fn group_in_messages(&self) -> Option<&'static str> {
        Some("")
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn converts(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        for key in ["deprecatedSource", "regarding"] {
            object::set_default(object, &[], key, json!({}));
        }
        for key in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"] {
            object::map_mut(object, &[]).map(|map| map.entry(key).or_insert(Value::Null));
        }
    }

    fn to_stored(&self, object: &mut Value) {
        rename(object, |(view, stored)| (view, stored));
        object::set(object, &[], "apiVersion", "v1");
        core::Events.default(object);
    }

    fn show_stored(&self, object: &mut Value) {
        rename(object, |(view, stored)| (stored, view));
        object::set(object, &[], "apiVersion", "events.k8s.io/v1");
        for key in ["reportingController", "reportingInstance"] {
            if object::text(object, &[key]).is_empty() {
                object::remove(object, &[], key);
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut stored = object.clone();
        self.to_stored(&mut stored);
        rules::check_namespace(&stored, causes);
        rules::check_new(&stored, "reportingController", causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut stored = object.clone();
        self.to_stored(&mut stored);
        rules::check_series(&stored, causes);
        if object::text(object, &["eventTime"]).is_empty() {
            causes.push(Cause::required("eventTime", ""));
        }
        let kind = object::text(object, &["type"]);
        if !matches!(kind, "Normal" | "Warning") {
            causes.push(Cause::invalid("type", &json!(""), &format!("has invalid value: {kind}")));
        }
        rules::check_unset(&stored, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let stored = [object, old].map(|event| {
            let mut stored = event.clone();
            self.to_stored(&mut stored);
            stored
        });
        let [new, old] = &stored;
        if !object::same(new.get("series"), old.get("series")) {
            rules::check_series(new, causes);
        }
        rules::check_kept(new, old, causes);
    }

    fn selectable(&self) -> &'static [&'static str] {
        SELECTABLE
    }

    fn indexed(&self) -> &'static [&'static str] {
        rules::INDEXED
    }

    fn index(&self, stored: &Value) -> Vec<(String, String)> {
        rules::index(self, stored)
    }

    fn stored_field(&self, path: &str) -> Option<&'static str> {
        if path == "reportingController" {
            return Some("reportingComponent");
        }
        let rest = path.strip_prefix("regarding")?;
        rules::INDEXED.iter().find(|indexed| indexed.strip_prefix("involvedObject") == Some(rest)).copied()
    }

    fn field(&self, object: &Value, path: &str) -> String {
        core::Events.field(object, path)
    }

    fn columns(&self) -> &'static [Column] {
        &rules::COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let mut stored = object.clone();
        self.to_stored(&mut stored);
        rules::row(&stored)
    }
}

fn rename(object: &mut Value, order: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    for pair in RENAMED {
        let (from, to) = order(pair);
        if let Some(value) = object::remove(object, &[], from) {
            object::set(object, &[], to, value);
        }
    }
}
