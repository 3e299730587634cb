//! Deployments.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::workload;
use crate::registry::{
    kind::{Column, Generation, Strategy, resource},
    object, table,
};

/// Deployments.
pub struct Deployments;

impl Strategy for Deployments {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "Deployment", "deployments")
            .short(&["deploy"])
            .categories(&["all"])
            .status()
            .scale()
            .build()
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        object::set_default(object, &["spec"], "replicas", 1);
        object::set_default(object, &["spec"], "revisionHistoryLimit", 10);
        object::set_default(object, &["spec"], "progressDeadlineSeconds", 600);
        if object::text(object, &["spec", "strategy", "type"]).is_empty() {
            object::set(object, &["spec", "strategy"], "type", "RollingUpdate");
        }
        if object::text(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
            object::set_default(object, &["spec", "strategy", "rollingUpdate"], "maxUnavailable", "25%");
            object::set_default(object, &["spec", "strategy", "rollingUpdate"], "maxSurge", "25%");
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        crate::registry::meta::restore(object, old, "labels");
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        workload::check(object, causes);
        check_strategy(object, causes);
        let deadline = object::int(object, &["spec", "progressDeadlineSeconds"]);
        if let Some(seconds) = deadline
            && seconds <= object::int(object, &["spec", "minReadySeconds"]).unwrap_or(0)
        {
            causes.push(Cause::invalid(
                "spec.progressDeadlineSeconds",
                &json!(seconds),
                "must be greater than minReadySeconds",
            ));
        }
        if let Some(limit) = object::int(object, &["spec", "revisionHistoryLimit"])
            && limit < 0
        {
            causes.push(Cause::invalid(
                "spec.revisionHistoryLimit",
                &json!(limit),
                "must be greater than or equal to 0",
            ));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        workload::check_selector(object, old, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let keys = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ];
        workload::check_counts(object, &keys, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let path = ["spec", "template", "spec"];
        crate::registry::validation::pod::warnings(object, old, &path, "spec.template.spec")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 8] = [
            Column::name(),
            Column::text("Ready", "Number of the pod with ready state"),
            Column::text("Up-to-date", "status.updatedReplicas"),
            Column::text("Available", "status.availableReplicas"),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "spec.selector").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |key: &str| object::int(object, &["status", key]).unwrap_or(0);
        let wanted = object::int(object, &["spec", "replicas"]).unwrap_or(0);
        let [names, images] = workload::containers(object);
        vec![
            object::name(object).into(),
            format!("{}/{wanted}", count("readyReplicas")).into(),
            count("updatedReplicas").into(),
            count("availableReplicas").into(),
            table::age(object, now),
            names,
            images,
            table::selector_text(object::at(object, &["spec", "selector"])).into(),
        ]
    }
}

fn check_strategy(object: &Value, causes: &mut Vec<Cause>) {
    let rolling = object::at(object, &["spec", "strategy", "rollingUpdate"]).filter(|rolling| !rolling.is_null());
    match object::text(object, &["spec", "strategy", "type"]) {
        "Recreate" => {
            if rolling.is_some() {
                causes.push(Cause::forbidden(
                    "spec.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        "RollingUpdate" => {
            let is_zero = |key: &str| {
                rolling.and_then(|rolling| rolling.get(key)).is_some_and(|value| match value {
                    Value::Number(number) => number.as_i64() == Some(0),
                    Value::String(text) => text == "0%",
                    _ => false,
                })
            };
            if is_zero("maxUnavailable") && is_zero("maxSurge") {
                let value = object::at(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"])
                    .cloned()
                    .unwrap_or(Value::Null);
                causes.push(Cause::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    &value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
        }
        other => causes.push(Cause::not_supported("spec.strategy.type", &json!(other), &["Recreate", "RollingUpdate"])),
    }
}
