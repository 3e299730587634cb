//! ResourceSlices: the devices that a driver offers.

use martello_api::{clock, resource::Resource, status::Cause};
use serde_json::Value;

use super::{GROUP, defaults, slice_rules};
use crate::registry::{
    kind::{Cell, Column, Deleted, Generation, Strategy, resource},
    object, table,
};

/// ResourceSlices.
pub struct Slices;

impl Strategy for Slices {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "ResourceSlice", "resourceslices").cluster_scoped().build()
    }

    fn default(&self, object: &mut Value) {
        defaults::taints(object, clock::now());
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        slice_rules::check(object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        slice_rules::check(object, Some(old), causes);
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.driver", "spec.nodeName"]
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("Node", "spec.nodeName"),
            Column::text("Driver", "spec.driver"),
            Column::text("Pool", "spec.pool.name"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "nodeName"]).into(),
            object::text(object, &["spec", "driver"]).into(),
            object::text(object, &["spec", "pool", "name"]).into(),
            table::age(object),
        ]
    }
}
