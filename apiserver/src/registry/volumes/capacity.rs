//! CSIStorageCapacities.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object,
    validation::{field::Field, node_labels, selector, text},
};

/// CSIStorageCapacities.
pub struct CsiStorageCapacities;

impl Strategy for CsiStorageCapacities {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities").build()
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let capacity = Field::new(object, "");
        if let Some(topology) = capacity.get("nodeTopology") {
            selector::check(Some(topology.value), &topology.path, causes);
        }
        capacity.at("storageClassName").check(text::dns1123_subdomain, causes);
        let amount = capacity.at("capacity");
        if amount.text().starts_with('-') {
            amount.invalid("must be greater than or equal to 0", causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        for key in ["nodeTopology", "storageClassName"] {
            if !object::same(object.get(key), old.get(key)) {
                Field::new(object, "").at(key).invalid("field is immutable", causes);
            }
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        node_labels::selector_warnings(&Field::new(object, "").at("nodeTopology"))
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text("StorageClassName", "storageClassName"),
            Column::text("Capacity", "capacity"),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let capacity = object::text(object, &["capacity"]);
        vec![
            object::name(object).into(),
            object::text(object, &["storageClassName"]).into(),
            if capacity.is_empty() { "<unset>" } else { capacity }.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_topology_of_everything_is_not_one_that_is_left_out() {
        let faults = |new: Value, old: Value| {
            let mut causes = Vec::new();
            CsiStorageCapacities.validate_update(&new, &old, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        let (whole, bare) = (json!({"storageClassName": "a", "nodeTopology": {}}), json!({"storageClassName": "a"}));
        assert!(faults(whole.clone(), whole.clone()).is_empty());
        assert!(faults(json!({"storageClassName": "a", "capacity": "1Gi"}), bare.clone()).is_empty());
        assert_eq!(faults(whole, bare), ["nodeTopology: Invalid value: {}: field is immutable"]);
    }
}
