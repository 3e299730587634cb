//! Which objects a quota with scopes is about.

use serde_json::Value;

use super::evaluate::Evaluator;
use crate::registry::{object, validation::pod};

/// Whether the object is in every scope of the quota.
pub(super) fn holds(quota: &Value, evaluator: &Evaluator<'_>, object: &Value) -> bool {
    let plain = object::list(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str);
    let named = object::list(quota, &["spec", "scopeSelector", "matchExpressions"]);
    plain.map(|scope| (scope, "Exists", &[][..])).chain(named.iter().map(read)).all(|(scope, operator, values)| {
        if evaluator.is_of_pods() {
            pod_is_in(object, scope, operator, values)
        } else if evaluator.is_of_claims() && scope == "VolumeAttributesClass" {
            let classes = attributes_classes(object);
            if classes.is_empty() {
                selects("", operator, values)
            } else {
                classes.iter().any(|class| selects(class, operator, values))
            }
        } else {
            false
        }
    })
}

/// The classes of attributes that a claim asks for, has, or is on its way to.
fn attributes_classes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.into_iter().map(|path| object::text(claim, path)).filter(|name| !name.is_empty()).collect()
}

fn read(requirement: &Value) -> (&str, &str, &[Value]) {
    let text = |key: &str| object::text(requirement, &[key]);
    (text("scopeName"), text("operator"), object::list(requirement, &["values"]))
}

fn pod_is_in(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let ends = object::int(pod, &["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0);
    let best_effort = || pod::qos_class(pod) == "BestEffort";
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => selects(object::text(pod, &["spec", "priorityClassName"]), operator, values),
        "CrossNamespacePodAffinity" => reaches_out(pod),
        _ => false,
    }
}

fn selects(own: &str, operator: &str, values: &[Value]) -> bool {
    let listed = values.iter().any(|value| value.as_str() == Some(own));
    match operator {
        "Exists" => !own.is_empty(),
        "DoesNotExist" => own.is_empty(),
        "In" => !own.is_empty() && listed,
        "NotIn" => own.is_empty() || !listed,
        _ => false,
    }
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn reaches_out(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let of = |key: &str| object::list(pod, &["spec", "affinity", kind, key]).iter();
        let required = of("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred =
            of("preferredDuringSchedulingIgnoredDuringExecution").filter_map(|term| term.get("podAffinityTerm"));
        required.chain(preferred).any(|term| {
            !object::list(term, &["namespaces"]).is_empty()
                || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
        })
    })
}
