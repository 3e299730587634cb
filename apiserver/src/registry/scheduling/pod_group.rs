//! PodGroups: pods that are scheduled together.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::group_rules::{Rule, changed, check, list, names, one_of};
use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object, table,
    validation::{condition, field::Field, text},
};

/// PodGroups.
pub struct PodGroups;

/// Most claims that a status tells of: as many as a group has.
const MAX_CLAIMS: usize = 4;

impl Strategy for PodGroups {
    fn resource(&self) -> Resource {
        resource("scheduling.k8s.io", "v1alpha2", "PodGroup", "podgroups").status().build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check_spec(&Field::new(object, "").at("spec"), None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let before = old.get("spec").unwrap_or(&Value::Null);
        check_spec(&Field::new(object, "").at("spec"), Some(before), causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        condition::check(&status, causes);
        list(&status, "resourceClaimStatuses", MAX_CLAIMS, Some("name"), causes, |claim, causes| {
            if let Some(name) = claim.get("resourceClaimName") {
                name.check(text::dns1123_subdomain, causes);
            }
        });
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }
}

fn check_spec(spec: &Field<'_>, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(made_of) = changed(spec, "podGroupTemplateRef", old, causes).filter(|one| !one.value.is_null())
        && let Some(workload) = one_of(&made_of, &["workload"], causes)
    {
        let rules: [(&str, Rule); 2] =
            [("workloadName", text::dns1123_subdomain), ("podGroupTemplateName", text::dns1123_label)];
        names(&workload, &rules, causes);
    }
    check(spec, old, causes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_say_what_it_was_made_of() {
        let faults = |made_of: Value| {
            let spec = json!({"schedulingPolicy": {"basic": {}}, "podGroupTemplateRef": made_of});
            let mut causes = Vec::new();
            check_spec(&Field::new(&spec, "spec"), None, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert!(faults(json!({"workload": {"workloadName": "w", "podGroupTemplateName": "t"}})).is_empty());
        assert_eq!(
            faults(json!({})),
            ["spec.podGroupTemplateRef: Invalid value: \"\": must specify one of: `workload`"]
        );
        assert_eq!(
            faults(json!({"workload": {"workloadName": "w"}})),
            ["spec.podGroupTemplateRef.workload.podGroupTemplateName: Required value"]
        );
    }
}
