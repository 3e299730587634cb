//! PodTemplates.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::pod_defaults;
use crate::registry::{
    apps::workload,
    kind::{Cell, Column, Deleted, Generation, Strategy, resource},
    object, table,
    validation::pod,
};

/// PodTemplates.
pub struct PodTemplates;

impl Strategy for PodTemplates {
    fn resource(&self) -> Resource {
        resource("", "v1", "PodTemplate", "podtemplates").build()
    }

    fn default(&self, object: &mut Value) {
        pod_defaults::spec(object, &["template", "spec"], false);
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        pod::template(object, &["template"], "template", causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some_and(|old| object::same_generation(object, old)) {
            return Vec::new();
        }
        pod::template_warnings(object, &["template"], "template")
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Containers", "Names of each container in the template."),
            Column::text("Images", "Images referenced by each container in the template."),
            Column::text("Pod Labels", "The labels for the pod template."),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let [names, images] = workload::containers_at(object, &["template", "spec", "containers"]);
        let labels = table::labels_text(object::at(object, &["template", "metadata", "labels"]));
        vec![object::name(object).into(), names, images, labels.into()]
    }
}
