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

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        check(object, Some(old), causes);
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

fn check(class: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let whole = Field::new(class, "");
    let spec = whole.at("spec");
    let stored = |key: &str| {
        old.is_some_and(|old| object::same_at("io.k8s.api.resource.v1.DeviceClass", &["spec", key], class, old))
    };
    claim_rules::selectors(&spec, stored("selectors"), causes);
    let stored = stored("config");
    lists::each(&spec, "config", claim_rules::MAX_ITEMS, causes, |config, causes| {
        claim_rules::configuration(config, stored, causes);
    });
    if let Some(name) = spec.get("extendedResourceName") {
        name.check(extended_resource, causes);
    }
}

/// The name of a resource that is not Kubernetes' own.
fn extended_resource(name: &str) -> Faults {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let fits =
        !native && !name.starts_with("requests.") && text::qualified_name(&format!("requests.{name}")).is_empty();
    if fits { Vec::new() } else { vec!["must be a valid extended resource name".to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_not_judged_again() {
        let class = |expression: &str, label: &str| {
            let selector = json!({"cel": {"expression": expression}});
            json!({"metadata": {"labels": {"l": label}}, "spec": {"selectors": [selector]}})
        };
        let faults = |new: &Value, old: &Value| {
            let mut causes = Vec::new();
            DeviceClasses.validate_update(new, old, &mut causes);
            causes.len()
        };
        let old = class("device.nothing", "a");
        assert_eq!(faults(&class("device.nothing", "b"), &old), 0);
        assert_eq!(faults(&class("device.none", "b"), &old), 1);
        let mut causes = Vec::new();
        DeviceClasses.validate_create(&old, &mut causes);
        assert_eq!(causes.len(), 1);
    }
}
