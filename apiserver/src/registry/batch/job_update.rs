//! What may change in a Job once it is there.

use martello_api::{
    schema::{self, Schema, Schemas},
    status::Cause,
};
use serde_json::{Value, json};

use super::job_status;
use crate::registry::{
    object,
    validation::{field::Field, internal},
};

/// What is wrong with a changed Job.
pub(super) fn check(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let spec = Field::new(object, "").at("spec");
    let before = old.get("spec").unwrap_or(&Value::Null);
    check_completions(&spec, before, causes);
    immutable(&spec, before, "selector", causes);
    check_template(object, old, causes);
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(&spec, before, key, causes);
    }
}

fn immutable(spec: &Field<'_>, before: &Value, key: &str, causes: &mut Vec<Cause>) {
    let field = spec.at(key);
    let same = |of: &Schema| schema::same_member(of, key, Some(field.value), before.get(key));
    if !Schemas::builtin().named("io.k8s.api.batch.v1.JobSpec").is_some_and(same) {
        let schema = match key {
            "podFailurePolicy" => "io.k8s.api.batch.v1.PodFailurePolicy",
            "successPolicy" => "io.k8s.api.batch.v1.SuccessPolicy",
            _ => return field.invalid("field is immutable", causes),
        };
        unchangeable(&field, schema, causes);
    }
}

/// Tells of a changed value as upstream's internal type shows it.
fn unchangeable(field: &Field<'_>, schema: &str, causes: &mut Vec<Cause>) {
    let shown = if field.value.is_null() { Value::Null } else { internal::of(schema, field.value) };
    causes.push(Cause::invalid(field.path.as_str(), &shown, "field is immutable"));
}

/// An elastic Job changes both numbers at once.
fn check_completions(spec: &Field<'_>, before: &Value, causes: &mut Vec<Cause>) {
    if spec.str("completionMode") != "Indexed" {
        return immutable(spec, before, "completions", causes);
    }
    let completions = spec.at("completions");
    let changed = completions.value != before.get("completions").unwrap_or(&Value::Null);
    if changed && !completions.value.is_null() && completions.value != spec.at("parallelism").value {
        completions.invalid("can only be modified in tandem with spec.parallelism", causes);
    }
}

const TEMPLATE: &str = "io.k8s.api.core.v1.PodTemplateSpec";
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";

/// The template is for ever. Only while a Job is suspended and has no pods, because it never started or its controller has
/// halted it, may change where they will run and what resources they get.
fn check_template(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let template = Field::new(object, "").at("spec").at("template");
    let mut before = object::at(old, &["spec", "template"]).cloned().unwrap_or_default();
    let suspended = object::flag(old, &["spec", "suspend"]);
    let active = object::int(old, &["status", "active"]).unwrap_or(0);
    let idle = object::text(old, &["status", "startTime"]).is_empty() || job_status::is(old, "Suspended");
    if !suspended || active != 0 || !idle {
        if !object::same_of(TEMPLATE, Some(template.value), Some(&before)) {
            unchangeable(&template, TEMPLATE, causes);
        }
        return;
    }
    forget_placing(&mut before, template.value);
    for list in ["containers", "initContainers"] {
        let now = template.at("spec").items(list);
        let Some(before) = object::list_mut(&mut before, &["spec", list]).filter(|list| list.len() == now.len()) else {
            continue;
        };
        for (container, own) in before.iter_mut().zip(&now) {
            if own.at("name").value == container.get("name").unwrap_or(&Value::Null) {
                object::copy_key(container, own.value, "resources");
            }
        }
    }
    let spec = template.at("spec");
    if !object::same_of(POD_SPEC, Some(spec.value), before.get("spec")) {
        unchangeable(&spec, POD_SPEC, causes);
    }
}

fn forget_placing(before: &mut Value, now: &Value) {
    let affinity = object::at(now, &["spec", "affinity"]).cloned().unwrap_or_default();
    let mut own = object::at(before, &["spec", "affinity"]).cloned().unwrap_or_default();
    if own.is_null() && !affinity.is_null() {
        own = json!({});
    }
    object::copy_key(&mut own, &affinity, "nodeAffinity");
    // What is left of nothing may go as a whole.
    let gone = affinity.is_null() && object::is_zero(&own);
    object::set(before, &["spec"], "affinity", if gone { Value::Null } else { own });
    if let (Some(before), Some(now)) = (before.get_mut("spec"), now.get("spec")) {
        for key in ["nodeSelector", "tolerations", "schedulingGates"] {
            object::copy_key(before, now, key);
        }
    }
    for key in ["labels", "annotations"] {
        let own = object::at(now, &["metadata", key]).cloned().unwrap_or_default();
        object::set(before, &["metadata"], key, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::batch::job::tests::{made, template};

    fn changed(new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(new, old, &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn a_template_stays_the_same_however_its_amounts_are_written() {
        let with = |cpu: &str, memory: &str| {
            let mut template = template();
            template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu, "memory": memory}});
            made(json!({"template": template}))
        };
        assert!(changed(&with("1000m", "1073741824"), &with("1", "1Gi")).is_empty());
        assert_eq!(changed(&with("1", "1G"), &with("1", "1Gi")), ["spec.template"]);
        // A pointer to nothing is something, and an empty list is none.
        let mut new = with("1", "1Gi");
        new["spec"]["template"]["spec"]["affinity"] = json!({});
        assert_eq!(changed(&new, &with("1", "1Gi")), ["spec.template"]);
        new["spec"]["template"]["spec"]["affinity"] = Value::Null;
        new["spec"]["template"]["spec"]["volumes"] = json!([]);
        assert!(changed(&new, &with("1", "1Gi")).is_empty());
    }

    #[test]
    fn a_suspended_job_changes_no_affinity_but_that_of_nodes() {
        let with = |affinity: Value| {
            let mut template = template();
            template["spec"]["affinity"] = affinity;
            made(json!({"template": template, "suspend": true}))
        };
        let (none, node, pod) = (Value::Null, json!({"nodeAffinity": {}}), json!({"podAffinity": {}}));
        let both = json!({"nodeAffinity": {}, "podAffinity": {}});
        for (new, old) in [(&node, &none), (&none, &node), (&both, &pod), (&pod, &both), (&none, &none)] {
            assert!(changed(&with(new.clone()), &with(old.clone())).is_empty(), "{new} {old}");
        }
        for (new, old) in [(&pod, &none), (&none, &pod), (&none, &both), (&node, &both)] {
            assert_eq!(changed(&with(new.clone()), &with(old.clone())), ["spec.template.spec"], "{new} {old}");
        }
    }

    #[test]
    fn a_suspended_job_may_still_be_placed_elsewhere() {
        let old = made(json!({"template": template(), "suspend": true}));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "fast"});
        new["spec"]["template"]["metadata"]["annotations"] = json!({"a": "b"});
        assert_eq!(changed(&new, &old), Vec::<String>::new());
        let mut running = old.clone();
        running["spec"]["suspend"] = json!(false);
        assert_eq!(changed(&new, &running), ["spec.template"]);
        let mut started = old.clone();
        started["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(changed(&new, &started), ["spec.template"]);
    }

    #[test]
    fn the_pods_of_a_halted_job_may_get_other_resources() {
        let mut old = made(json!({"template": template(), "suspend": true}));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        assert_eq!(changed(&new, &old), Vec::<String>::new());
        old["status"] = json!({"startTime": "2026-01-01T00:00:00Z"});
        assert_eq!(changed(&new, &old), ["spec.template"]);
        old["status"]["conditions"] = json!([{"type": "Suspended", "status": "True"}]);
        assert_eq!(changed(&new, &old), Vec::<String>::new());
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("i:2");
        assert_eq!(changed(&new, &old), ["spec.template.spec"]);
        old["status"]["active"] = json!(1);
        assert_eq!(changed(&new, &old), ["spec.template"]);
    }

    #[test]
    fn an_elastic_job_changes_both_numbers() {
        let old =
            made(json!({"template": template(), "completionMode": "Indexed", "completions": 2, "parallelism": 2}));
        let mut new = old.clone();
        new["spec"]["completions"] = json!(3);
        let mut causes = Vec::new();
        check(&new, &old, &mut causes);
        assert_eq!(causes[0].message, "Invalid value: 3: can only be modified in tandem with spec.parallelism");
        new["spec"]["parallelism"] = json!(3);
        let mut causes = Vec::new();
        check(&new, &old, &mut causes);
        assert!(causes.is_empty());
    }
}
