//! RuntimeClasses.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    core::pod_defaults,
    kind::{Cell, Column, Strategy, resource},
    object, table,
    validation::{field::Field, internal, metadata, node_labels, pod, text},
};

/// RuntimeClasses.
pub struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    fn resource(&self) -> Resource {
        resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses").cluster_scoped().build()
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        pod_defaults::whole_millis_of(object::at_mut(object, &["overhead", "podFixed"]));
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let class = Field::new(object, "");
        class.at("handler").check_required(text::dns1123_label, causes);
        if let Some(overhead) = class.get("overhead") {
            let limits = json!({"limits": overhead.at("podFixed").value});
            pod::container_resources(&Field::new(&limits, "overhead"), causes);
        }
        let Some(scheduling) = class.get("scheduling") else { return };
        let labels = scheduling.at("nodeSelector");
        metadata::labels(Some(labels.value), &labels.path, causes);
        pod::tolerations(&scheduling, causes);
        let all = scheduling.items("tolerations");
        for (place, one) in all.iter().enumerate() {
            if all.iter().take(place).any(|other| same_toleration(one.value, other.value)) {
                let shown = internal::of("io.k8s.api.core.v1.Toleration", one.value);
                causes.push(Cause::duplicate(one.path.as_str(), &shown));
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if object.get("handler") != old.get("handler") {
            Field::new(object, "").at("handler").invalid("field is immutable", causes);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let scheduling = Field::new(object, "").at("scheduling");
        let labels = scheduling.entries("nodeSelector");
        labels.iter().filter_map(|(key, field)| node_labels::warning(key, &field.path)).collect()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [Column::name(), Column::text("Handler", ""), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), object::text(object, &["handler"]).into(), table::age(object)]
    }
}

/// Whether two tolerations tolerate the same, whatever the time.
#[must_use]
pub fn same_toleration(one: &Value, other: &Value) -> bool {
    ["key", "effect", "operator", "value"].iter().all(|key| object::text(one, &[key]) == object::text(other, &[key]))
}
