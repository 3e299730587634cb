//! What may change in a Job once it is there.

use martello_api::status::Cause;
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
    if !object::same(Some(field.value), before.get(key)) {
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

/// The template is for ever. Only while a Job is suspended and has no pods, because it never started or its controller has
/// halted it, may change where they will run and what resources they get.
fn check_template(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let template = Field::new(object, "").at("spec").at("template");
    let mut before = object::at(old, &["spec", "template"]).cloned().unwrap_or_default();
    let suspended = object::flag(old, &["spec", "suspend"]);
    let active = object::int(old, &["status", "active"]).unwrap_or(0);
    let idle = object::text(old, &["status", "startTime"]).is_empty() || job_status::is(old, "Suspended");
    if !suspended || active != 0 || !idle {
        if !object::same(Some(template.value), Some(&before)) {
            unchangeable(&template, "io.k8s.api.core.v1.PodTemplateSpec", causes);
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
    if !object::same(Some(spec.value), before.get("spec")) {
        unchangeable(&spec, "io.k8s.api.core.v1.PodSpec", causes);
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
