//! Workloads: which groups of pods a controller will make.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::group_rules::{changed, check, list, names};
use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    table,
    validation::{field::Field, text},
};

/// Workloads.
pub struct Workloads;

/// Most templates of a workload.
const MAX_TEMPLATES: usize = 8;

impl Strategy for Workloads {
    fn resource(&self) -> Resource {
        resource("scheduling.k8s.io", "v1alpha2", "Workload", "workloads").build()
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check_spec(&Field::new(object, "").at("spec"), None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let before = old.get("spec").unwrap_or(&Value::Null);
        check_spec(&Field::new(object, "").at("spec"), Some(before), causes);
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }
}

fn check_spec(spec: &Field<'_>, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(controller) = changed(spec, "controllerRef", old, causes).filter(|one| !one.value.is_null()) {
        controller.at("apiGroup").check_if_set(text::dns1123_subdomain, causes);
        names(&controller, &[("kind", text::path_segment), ("name", text::path_segment)], causes);
    }
    let Some(templates) = changed(spec, "podGroupTemplates", old, causes) else { return };
    if spec.count("podGroupTemplates") == 0 {
        return templates.required("", causes);
    }
    list(spec, "podGroupTemplates", MAX_TEMPLATES, Some("name"), causes, |template, causes| {
        template.at("name").check_required(text::dns1123_label, causes);
        check(template, None, causes);
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_has_templates_with_names_of_their_own() {
        let faults = |spec: Value, old: Option<&Value>| {
            let mut causes = Vec::new();
            check_spec(&Field::new(&spec, "spec"), old, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        let template = json!({"name": "t", "schedulingPolicy": {"gang": {"minCount": 1}}});
        let good = json!({"podGroupTemplates": [template]});
        assert!(faults(good.clone(), None).is_empty());
        assert_eq!(faults(json!({}), None), ["spec.podGroupTemplates: Required value"]);
        let found = faults(json!({"podGroupTemplates": [template, template], "controllerRef": {"name": "a/b"}}), None);
        assert_eq!(found[0], "spec.controllerRef.kind: Required value");
        assert!(found[1].starts_with("spec.controllerRef.name: Invalid value: \"a/b\""), "{found:?}");
        assert!(found[2].starts_with("spec.podGroupTemplates[1]: Duplicate value: {\"name\":\"t\""), "{found:?}");
        let many = json!({"podGroupTemplates": vec![template.clone(); MAX_TEMPLATES + 1]});
        assert_eq!(faults(many, None), ["spec.podGroupTemplates: Too many: 9: must have at most 8 items"]);
        let found = faults(json!({"podGroupTemplates": []}), Some(&good));
        assert_eq!(found, ["spec.podGroupTemplates: Invalid value: []: field is immutable"]);
    }
}
