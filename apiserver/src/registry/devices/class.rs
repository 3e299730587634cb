//! DeviceClasses.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{GROUP, claim_rules, lists};
use crate::registry::{
    kind::{Cell, Column, Deleted, Generation, Strategy, resource},
    object, table,
    validation::{
        field::Field,
        text::{self, Faults},
    },
};

/// DeviceClasses.
pub struct DeviceClasses;

impl Strategy for DeviceClasses {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "DeviceClass", "deviceclasses").cluster_scoped().build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "spec", json!({}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        let spec = whole.at("spec");
        claim_rules::selectors(&spec, causes);
        lists::each(&spec, "config", claim_rules::MAX_ITEMS, causes, claim_rules::configuration);
        if let Some(name) = spec.get("extendedResourceName") {
            name.check(extended_resource, causes);
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }
}

/// The name of a resource that is not Kubernetes' own.
fn extended_resource(name: &str) -> Faults {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let fits =
        !native && !name.starts_with("requests.") && text::qualified_name(&format!("requests.{name}")).is_empty();
    if fits { Vec::new() } else { vec!["must be a valid extended resource name".to_owned()] }
}
