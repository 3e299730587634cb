//! ResourceSlices: the devices that a driver offers.

use jiff::Timestamp;
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
        for device in object::list_mut(object, &["spec", "devices"]).into_iter().flatten() {
            defaults::taints(device, clock::now());
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        drop_lists(object);
        drop_mappings(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if !attributes(old).any(|attribute| LISTS.iter().any(|key| attribute.get(key).is_some())) {
            drop_lists(object);
        }
        let maps = |device: &Value| device.get(MAPPINGS).is_some_and(|mappings| !object::is_zero(mappings));
        if !object::list(old, &["spec", "devices"]).iter().any(maps) {
            drop_mappings(object);
        }
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        slice_rules::check(object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        slice_rules::check(object, Some(old), causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let driver = object::text(object, &["spec", "driver"]);
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        let said = format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters");
        vec![said]
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

/// Values of attributes that upstream, as it comes, does not take (`DRAListTypeAttributes` is off in 1.36).
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// A field of devices that upstream, as it comes, does not take (`DRANodeAllocatableResources` is off in 1.36).
const MAPPINGS: &str = "nodeAllocatableResourceMappings";

fn drop_mappings(slice: &mut Value) {
    for device in object::list_mut(slice, &["spec", "devices"]).into_iter().flatten() {
        object::remove(device, &[], MAPPINGS);
    }
}

fn attributes(slice: &Value) -> impl Iterator<Item = &Value> {
    let devices = object::list(slice, &["spec", "devices"]).iter();
    devices.filter_map(|device| device.get("attributes")?.as_object()).flat_map(|attributes| attributes.values())
}

fn drop_lists(slice: &mut Value) {
    let devices = object::list_mut(slice, &["spec", "devices"]).into_iter().flatten();
    let attributes = devices.filter_map(|device| device.get_mut("attributes")?.as_object_mut());
    for attribute in attributes.flat_map(|attributes| attributes.values_mut()) {
        for key in LISTS {
            object::remove(attribute, &[], key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_taken_yet_is_dropped_unless_it_was_there() {
        let slice = |device: Value| json!({"spec": {"driver": "d.example.com", "devices": [device]}});
        let with = slice(json!({"name": "d", "nodeAllocatableResourceMappings": {"cpu": {}}}));
        let without = slice(json!({"name": "d"}));
        let mut new = with.clone();
        Slices.prepare_create(&mut new, Timestamp::UNIX_EPOCH);
        assert_eq!(new, without);
        let mut kept = with.clone();
        Slices.prepare_update(&mut kept, &with, Timestamp::UNIX_EPOCH);
        assert_eq!(kept, with);
        Slices.prepare_update(&mut kept, &without, Timestamp::UNIX_EPOCH);
        assert_eq!(kept, without);
    }

    #[test]
    fn a_driver_in_capitals_is_told_of() {
        let said = |driver: &str| Slices.warnings(&json!({"spec": {"driver": driver}}), None);
        assert!(said("d.example.com").is_empty());
        assert_eq!(
            said("D.example.com"),
            ["spec.driver: driver names should be lowercase; \"D.example.com\" contains uppercase characters"]
        );
    }
}
