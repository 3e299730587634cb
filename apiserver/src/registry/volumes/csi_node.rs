//! CSINodes.

use std::collections::{HashMap, HashSet};

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::csi_driver::driver_name;
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{field::Field, internal, text},
};

/// Longest name that a driver may have for a node.
const MAX_NODE_ID: usize = 256;

/// CSINodes.
pub struct CsiNodes;

impl Strategy for CsiNodes {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "CSINode", "csinodes").cluster_scoped().build()
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut seen: HashSet<&str> = HashSet::new();
        for driver in Field::new(object, "").at("spec").items("drivers") {
            let (name, id) = (driver.at("name"), driver.at("nodeID"));
            driver_name(&name, causes);
            if id.needs_text(causes) && id.text().len() > MAX_NODE_ID {
                id.invalid(&format!("must be {MAX_NODE_ID} characters or less"), causes);
            }
            driver.at("allocatable").at("count").not_negative(causes);
            if seen.contains(&name.text()) {
                name.duplicate(causes);
            }
            seen.insert(name.text());
            topology_keys(&driver, causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let same = |one: &Value, other: &Value| {
            ["nodeID", "topologyKeys"].iter().all(|key| object::same(one.get(key), other.get(key)))
        };
        // Upstream looks at all of it once more.
        self.validate(object, causes);
        let mut named: HashMap<&str, Vec<&Value>> = HashMap::new();
        for driver in object::list(object, &["spec", "drivers"]) {
            named.entry(object::text(driver, &["name"])).or_default().push(driver);
        }
        for before in object::list(old, &["spec", "drivers"]) {
            let drivers = named.get(object::text(before, &["name"]));
            for driver in drivers.into_iter().flatten().filter(|driver| !same(driver, before)) {
                // How many volumes fit may change, and is not shown.
                let mut shown = (*driver).clone();
                object::remove(&mut shown, &[], "allocatable");
                let shown = internal::of("io.k8s.api.storage.v1.CSINodeDriver", &shown);
                causes.push(Cause::invalid("spec.drivers", &shown, "field is immutable"));
            }
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text("Drivers", "Drivers indicates the number of CSI drivers registered on the node").integer(),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = object::list(object, &["spec", "drivers"]).len();
        vec![object::name(object).into(), count.into(), table::age(object)]
    }
}

fn topology_keys(driver: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for key in driver.items("topologyKeys") {
        if key.text().is_empty() {
            driver.required("", causes);
        }
        if seen.contains(&key.text()) {
            causes.push(Cause::duplicate(driver.path.as_str(), &json!(key.text())));
        }
        seen.insert(key.text());
        for fault in text::qualified_name(key.text()) {
            causes.push(Cause::invalid(driver.path.as_str(), &json!(key.text()), &fault));
        }
    }
}
