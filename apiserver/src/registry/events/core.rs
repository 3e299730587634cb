//! Events as the core group shows them: the stored form.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::rules;
use crate::registry::{
    kind::{Cell, Column, NameRule, Strategy, plain_field, resource},
    object,
};

/// Events.
pub struct Events;

impl Strategy for Events {
    fn resource(&self) -> Resource {
        resource("", "v1", "Event", "events").short(&["ev"]).build()
    }

    // As upstream's, whose rules for events of old do not look at names.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn collects_garbage(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "metadata", json!({}));
        for key in ["source", "involvedObject"] {
            object::set_default(object, &[], key, json!({}));
        }
        for key in ["reportingComponent", "reportingInstance"] {
            object::set_default(object, &[], key, "");
        }
        for key in ["firstTimestamp", "lastTimestamp", "eventTime"] {
            object::map_mut(object, &[]).map(|map| map.entry(key).or_insert(Value::Null));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::check_namespace(object, causes);
        rules::check_new(object, "reportingComponent", causes);
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [&'static str] {
        rules::INDEXED
    }

    fn index(&self, stored: &Value) -> Vec<(String, String)> {
        rules::index(self, stored)
    }

    fn field(&self, object: &Value, path: &str) -> String {
        if path == "source" {
            let component = object::text(object, &["source", "component"]);
            let reporter = object::text(object, &["reportingComponent"]);
            return if component.is_empty() { reporter } else { component }.to_owned();
        }
        plain_field(object, path)
    }

    fn columns(&self) -> &'static [Column] {
        &rules::COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        rules::row(object)
    }
}
