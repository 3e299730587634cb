//! VolumeAttributesClasses.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::storage_class::{driver, parameters, unchanged};
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// VolumeAttributesClasses.
pub struct VolumeAttributesClasses;

impl Strategy for VolumeAttributesClasses {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses")
            .cluster_scoped()
            .short(&["vac"])
            .build()
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let class = Field::new(object, "");
        driver(&class.at("driverName"), causes);
        parameters(&class.at("parameters"), false, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let [new, old] = [object, old].map(|class| Field::new(class, ""));
        unchanged(&new, &old, "driverName", causes);
        unchanged(&new, &old, "parameters", causes);
        // Upstream looks at all of it once more.
        self.validate(object, causes);
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [Column::name(), Column::text("DriverName", "driverName"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), object::text(object, &["driverName"]).into(), table::age(object)]
    }
}
