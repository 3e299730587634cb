//! ReplicationControllers.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    apps::workload,
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// ReplicationControllers.
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn resource(&self) -> Resource {
        resource("", "v1", "ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .categories(&["all"])
            .status()
            .scale()
            .build()
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let labels = object::at(object, &["spec", "template", "metadata", "labels"]).cloned();
        if let Some(labels) = labels.filter(|labels| !object::is_zero(labels)) {
            for (part, key) in [("spec", "selector"), ("metadata", "labels")] {
                if object::at(object, &[part, key]).is_none_or(object::is_zero) {
                    object::set(object, &[part], key, labels.clone());
                }
            }
        }
        object::set_default(object, &["spec"], "replicas", 1);
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"replicas": 0}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        spec.at("minReadySeconds").not_negative(causes);
        let selector = spec.at("selector");
        if selector.is_empty() {
            selector.required("", causes);
        }
        spec.at("replicas").not_negative(causes);
        let Some(template) = spec.get("template") else {
            return spec.at("template").required("", causes);
        };
        let labels = template.at("metadata").at("labels");
        let matches = spec.entries("selector").iter().all(|(key, value)| labels.at(key).value == value.value);
        if !selector.is_empty() && !matches {
            labels.invalid("`selector` does not match template `labels`", causes);
        }
        workload::template(object, "ReplicationController", causes);
    }

    fn validate_update(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        // Upstream checks the spec of an update twice, and lists what it finds twice.
        self.validate(object, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let keys = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
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
            Column::text("Desired", "spec.replicas").integer(),
            Column::text("Current", "status.replicas").integer(),
            Column::text("Ready", "status.readyReplicas").integer(),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "spec.selector").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        workload::replicas_row(object, table::labels_text(object::at(object, &["spec", "selector"])))
    }
}
