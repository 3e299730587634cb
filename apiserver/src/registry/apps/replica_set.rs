//! ReplicaSets.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::workload;
use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
};

/// ReplicaSets.
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "ReplicaSet", "replicasets").short(&["rs"]).categories(&["all"]).status().scale().build()
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        object::set_default(object, &["spec"], "replicas", 1);
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"replicas": 0}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        workload::not_negative(object, "replicas", causes);
        workload::not_negative(object, "minReadySeconds", causes);
        workload::check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream checks the spec of an update twice, and lists what it finds twice.
        self.validate(object, causes);
        workload::check_selector(object, old, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let keys = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ];
        workload::check_counts(object, &keys, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(object, old)
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        workload::count_field(object, path)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 8] = [
            Column::name(),
            Column::text("Desired", "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset").integer(),
            Column::text("Current", "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset").integer(),
            Column::text("Ready", "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.").integer(),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "Selector is a label query over pods that should match the replica count. Label keys and values that must match in order to be controlled by this replica set. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        workload::replicas_row(object, table::selector_text(object::at(object, &["spec", "selector"])))
    }
}
