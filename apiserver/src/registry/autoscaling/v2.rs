//! HorizontalPodAutoscalers of version 2: the stored form.

use jiff::Timestamp;
use martello_api::{
    resource::{Resource, Text},
    status::Cause,
};
use serde_json::{Value, json};

use super::{convert, rules, shown};
use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object,
    validation::field::Field,
};

/// HorizontalPodAutoscalers.
pub struct Autoscalers;

/// Under what both versions are stored.
pub(super) const STORAGE: &str = "horizontalpodautoscalers.autoscaling";
/// Share of the requested CPU that one aims at who does not say.
pub(super) const CPU_PERCENT: i64 = 80;

impl Strategy for Autoscalers {
    fn resource(&self) -> Resource {
        resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .categories(&["all"])
            .status()
            .build()
    }

    fn storage(&self) -> Option<Text> {
        Some(STORAGE.into())
    }

    fn default(&self, object: &mut Value) {
        convert::drop_annotations(object);
        object::set_default(object, &["spec"], "minReplicas", 1);
        if object::list(object, &["spec", "metrics"]).is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
            let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
            object::set(object, &["spec"], "metrics", vec![metric]);
        }
        if object::at(object, &["spec", "behavior"]).is_some_and(Value::is_object) {
            default_behavior(object);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::check(object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        rules::check(object, Some(old), causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        status.at("currentReplicas").not_negative(causes);
        status.at("desiredReplicas").not_negative(causes);
    }

    fn columns(&self) -> &'static [Column] {
        &shown::COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        shown::row(object)
    }
}

/// Both directions are filled in where one is given: up at once, down slowly.
fn default_behavior(object: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", vec![pods, percent.clone()]), ("scaleDown", vec![percent])] {
        let path = ["spec", "behavior", direction];
        if direction == "scaleUp" {
            object::set_default(object, &path, "stabilizationWindowSeconds", 0);
        }
        object::set_default(object, &path, "selectPolicy", "Max");
        object::set_default(object, &path, "policies", policies);
    }
}

#[cfg(test)]
mod tests {
    use martello_api::schema::{Schemas, decode_value};

    use super::*;

    #[test]
    fn policies_are_filled_in_where_none_are_given_and_an_empty_list_is_refused() {
        let faults = |up: Value| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
            let spec = json!({"maxReplicas": 1, "scaleTargetRef": target, "behavior": {"scaleUp": up}});
            let schema = Schemas::builtin().named("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler").unwrap();
            let mut object = decode_value(schema, json!({ "spec": spec })).unwrap().value;
            Autoscalers.default(&mut object);
            let mut causes = Vec::new();
            Autoscalers.validate_create(&object, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert!(faults(json!({})).is_empty());
        assert!(faults(json!({"policies": null})).is_empty());
        assert_eq!(
            faults(json!({"policies": []})),
            ["spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"]
        );
    }
}
