//! HorizontalPodAutoscalers of version 1: of all metrics only the share of CPU is a field, the rest are annotations.

use jiff::Timestamp;
use martello_api::{
    resource::{Resource, Text},
    status::Cause,
};
use serde_json::{Value, json};

use super::{convert, shown, v2};
use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object,
};

/// HorizontalPodAutoscalers.
pub struct Autoscalers;

impl Strategy for Autoscalers {
    fn resource(&self) -> Resource {
        resource("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .categories(&["all"])
            .status()
            .build()
    }

    fn storage(&self) -> Option<Text> {
        Some(v2::STORAGE.into())
    }

    fn converts(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["spec"], "minReplicas", 1);
        if !convert::has_metrics(object) {
            object::set_default(object, &["spec"], "targetCPUUtilizationPercentage", v2::CPU_PERCENT);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        convert::drop_seen(object);
        object::set(object, &[], "status", json!({"currentReplicas": 0, "desiredReplicas": 0}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        convert::keep_seen(object, old);
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        convert::keep_wanted(object, old);
    }

    fn to_stored(&self, object: &mut Value) {
        convert::to_v2(object);
        v2::Autoscalers.default(object);
    }

    fn show_stored(&self, object: &mut Value) {
        convert::to_v1(object);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        v2::Autoscalers.validate_create(&stored(object), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        v2::Autoscalers.validate_update(&stored(object), &stored(old), causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        v2::Autoscalers.validate_status(&stored(object), &stored(old), causes);
    }

    fn columns(&self) -> &'static [Column] {
        &shown::COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        shown::row(&stored(object))
    }
}

fn stored(object: &Value) -> Value {
    let mut stored = object.clone();
    convert::to_v2(&mut stored);
    stored
}
