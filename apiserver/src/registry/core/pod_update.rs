//! What may change in a pod once it is there.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{field::Field, pod::qos_class, text},
};

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Marks a pod that a node's own files describe.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Checks a changed pod against what it was.
pub fn check(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    for list in ["containers", "initContainers"] {
        let (now, before) = (object::list(new, &["spec", list]), object::list(old, &["spec", list]));
        if now.len() != before.len() {
            causes.push(Cause::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
            return;
        }
        for (index, container) in now.iter().enumerate() {
            if object::text(container, &["image"]).is_empty() {
                causes.push(Cause::required(format!("spec.{list}[{index}].image"), ""));
            }
        }
    }
    deadline(new, old, causes);
    let gated = !object::list(old, &["spec", "schedulingGates"]).is_empty();
    gates(new, old, causes);
    if gated {
        placing(new, old, causes);
    }
    let mut settled = new.clone();
    settle(&mut settled, old, gated);
    let (now, before) = (settled.get("spec"), old.get("spec"));
    if !object::semantically_equal(now, before) {
        causes.push(Cause::forbidden("spec", WHY));
    }
}

fn deadline(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.activeDeadlineSeconds";
    let (now, before) =
        (object::int(new, &["spec", "activeDeadlineSeconds"]), object::int(old, &["spec", "activeDeadlineSeconds"]));
    match (now, before) {
        (None, Some(_)) => {
            causes.push(Cause::invalid(PATH, &Value::Null, "must not update from a positive integer to nil value"))
        }
        (Some(now), Some(before)) if now > before => {
            causes.push(Cause::invalid(
                PATH,
                &json!(now),
                &format!("must be less than or equal to previous value {before}"),
            ));
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let before = object::list(old, &["spec", "schedulingGates"]);
    let added: Vec<&str> = object::list(new, &["spec", "schedulingGates"])
        .iter()
        .filter(|gate| !before.contains(gate))
        .map(|gate| object::text(gate, &["name"]))
        .collect();
    if !added.is_empty() {
        let why = format!("only deletion is allowed, but found new scheduling gates {:?}", added.join(", "));
        causes.push(Cause::forbidden("spec.schedulingGates", &why));
    }
}

/// A gated pod may be bound to fewer nodes, never to more.
fn placing(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const TERMS: [&str; 5] = ["spec", "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"];
    let selector = |pod: &'_ Value| object::at(pod, &["spec", "nodeSelector"]).cloned().unwrap_or_default();
    let (now, before) = (selector(new), selector(old));
    if before.as_object().into_iter().flatten().any(|(key, value)| now.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        causes.push(Cause::invalid("spec.nodeSelector", &now, why));
    }
    let (now, before) = (object::list(new, &TERMS), object::list(old, &TERMS));
    if before.is_empty() {
        return;
    }
    let path = TERMS.join(".");
    if now.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return causes.push(Cause::invalid(path, &json!(now), why));
    }
    for (index, (own, other)) in now.iter().zip(before).enumerate() {
        let only_more = ["matchExpressions", "matchFields"].iter().all(|key| {
            let (own, other) = (object::list(own, &[key]), object::list(other, &[key]));
            own.len() >= other.len() && own.iter().zip(other).all(|(own, other)| own == other)
        });
        if !only_more {
            let why = "only additions are allowed (no mutations or deletions)";
            causes.push(Cause::invalid(format!("{path}[{index}]"), own, why));
        }
    }
}

/// Checks a changed status against what it was.
pub fn check_status(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(new, "");
    let status = whole.at("status");
    let nominated = status.at("nominatedNodeName");
    if nominated.text() != object::text(old, &["status", "nominatedNodeName"]) {
        nominated.check_if_set(text::dns1123_subdomain, causes);
    }
    for list in ["containerStatuses", "initContainerStatuses"] {
        ended_stays_ended(new, old, list, causes);
    }
    for condition in status.items("conditions") {
        let kind = condition.at("type");
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            let field = Field::new(kind.value, format!("{}.Type", condition.path));
            field.check(text::qualified_name, causes);
        }
        condition.at("observedGeneration").not_negative(causes);
    }
    let class = status.at("qosClass");
    let before = object::text(old, &["status", "qosClass"]);
    if !before.is_empty() && class.text() != before {
        class.invalid("field is immutable", causes);
    }
}

/// What ended and is not started again stays ended.
fn ended_stays_ended(new: &Value, old: &Value, list: &str, causes: &mut Vec<Cause>) {
    let policy = object::text(old, &["spec", "restartPolicy"]);
    if policy == "Always" {
        return;
    }
    let specs = object::list(old, &["spec", if list == "containerStatuses" { "containers" } else { "initContainers" }]);
    let now = object::list(new, &["status", list]);
    for before in object::list(old, &["status", list]) {
        let name = object::text(before, &["name"]);
        let Some(ended) = object::at(before, &["state", "terminated"]).filter(|ended| !ended.is_null()) else {
            continue;
        };
        let spec = specs.iter().find(|spec| object::text(spec, &["name"]) == name);
        let own = spec.map_or("", |spec| object::text(spec, &["restartPolicy"]));
        let failed = object::int(ended, &["exitCode"]).unwrap_or(0) != 0;
        if !own.is_empty() || failed && policy == "OnFailure" {
            continue;
        }
        for (index, after) in now.iter().enumerate().filter(|(_, after)| object::text(after, &["name"]) == name) {
            if object::at(after, &["state", "terminated"]).is_none_or(Value::is_null) {
                let path = format!("status.{list}[{index}].state");
                causes.push(Cause::forbidden(path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

/// Makes what may change what it was, so that the rest can be compared.
fn settle(new: &mut Value, old: &Value, gated: bool) {
    for list in ["containers", "initContainers"] {
        let before = object::list(old, &["spec", list]);
        for (container, before) in object::list_mut(new, &["spec", list]).into_iter().flatten().zip(before) {
            object::copy_key(container, before, "image");
        }
    }
    let mut keys = vec!["activeDeadlineSeconds", "schedulingGates"];
    if gated {
        keys.push("nodeSelector");
        keys.push("affinity");
    }
    let grace = |pod: &Value| object::int(pod, &["spec", "terminationGracePeriodSeconds"]);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(new) == Some(1) {
        keys.push("terminationGracePeriodSeconds");
    }
    let kept = object::list(new, &["spec", "tolerations"]).to_vec();
    if object::list(old, &["spec", "tolerations"]).iter().all(|toleration| kept.contains(toleration)) {
        keys.push("tolerations");
    }
    if let (Some(new), Some(old)) = (new.get_mut("spec"), old.get("spec")) {
        for key in keys {
            object::copy_key(new, old, key);
        }
    }
}

/// Checks changed ephemeral containers: they come, and stay as they are.
pub fn check_ephemeral(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.ephemeralContainers";
    if object::at(old, &["metadata", "annotations", MIRROR]).is_some() {
        return causes.push(Cause::forbidden("", "static pods do not support ephemeral containers"));
    }
    let now = object::list(new, &["spec", "ephemeralContainers"]);
    for before in object::list(old, &["spec", "ephemeralContainers"]) {
        let name = object::text(before, &["name"]);
        match now.iter().find(|own| object::text(own, &["name"]) == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                causes.push(Cause::forbidden(PATH, &why));
            }
            Some(own) if !object::semantically_equal(Some(own), Some(before)) => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                causes.push(Cause::forbidden(PATH, &why));
            }
            Some(_) => {}
        }
    }
}

/// Checks resized containers: cpu and memory may change, and the pod's class of service may not.
pub fn check_resize(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if object::at(old, &["metadata", "annotations", MIRROR]).is_some() {
        return causes.push(Cause::forbidden("", "static pods cannot be resized"));
    }
    if object::text(old, &["spec", "os", "name"]) == "windows" {
        return causes.push(Cause::forbidden("", "windows pods cannot be resized"));
    }
    if [new, old].iter().any(|pod| object::at(pod, &["spec", "resources"]).is_some_and(|own| !object::is_zero(own))) {
        return causes.push(Cause::forbidden("", "pods with pod-level resources cannot be resized"));
    }
    for list in ["containers", "initContainers"] {
        let (now, before) = (object::list(new, &["spec", list]), object::list(old, &["spec", list]));
        let same = |(own, other): (&Value, &Value)| own.get("name") == other.get("name");
        if now.len() != before.len() {
            causes.push(Cause::forbidden(format!("spec.{list}"), "containers may not be added or removed on resize"));
            return;
        }
        if !now.iter().zip(before).all(same) {
            causes
                .push(Cause::forbidden(format!("spec.{list}"), "containers may not be renamed or reordered on resize"));
            return;
        }
        for (index, (own, other)) in now.iter().zip(before).enumerate() {
            resized(own, other, &format!("spec.{list}[{index}]"), list == "initContainers", causes);
        }
    }
    let class = qos_class(old);
    if qos_class(new) != class {
        let why = "Pod QOS Class may not change as a result of resizing";
        causes.push(Cause::invalid("metadata", &json!(class), why));
    }
}

fn resized(own: &Value, other: &Value, path: &str, init: bool, causes: &mut Vec<Cause>) {
    let sidecar = object::text(other, &["restartPolicy"]) == "Always";
    if init && !sidecar {
        if !object::semantically_equal(own.get("resources"), other.get("resources")) {
            causes.push(Cause::forbidden("spec", "resources for non-sidecar init containers are immutable"));
        }
        return;
    }
    let mut settled = own.clone();
    for part in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            let at = ["resources", part, resource];
            let before = object::at(other, &at).cloned();
            if before.is_some() && object::at(own, &at).is_none() {
                let why = format!("resource {part} cannot be removed");
                causes.push(Cause::forbidden(format!("{path}.resources.{part}"), &why));
            }
            match before {
                Some(value) => object::set(&mut settled, &["resources", part], resource, value),
                None => {
                    object::remove(&mut settled, &["resources", part], resource);
                }
            }
        }
    }
    object::copy_key(&mut settled, other, "resizePolicy");
    if !object::semantically_equal(Some(&settled), Some(other)) {
        let what = if init {
            "only cpu and memory resources for sidecar containers are mutable"
        } else {
            "only cpu and memory resources are mutable"
        };
        causes.push(Cause::forbidden("spec", what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    fn faults(check: fn(&Value, &Value, &mut Vec<Cause>), new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(new, old, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_resize_changes_cpu_and_memory_only() {
        let old = pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}}));
        assert_eq!(
            faults(check_resize, &pod(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), &old),
            Vec::<String>::new()
        );
        assert_eq!(
            faults(check_resize, &pod(json!({"requests": {"cpu": "1"}})), &old),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
        );
        assert_eq!(
            faults(
                check_resize,
                &pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}})),
                &old
            ),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        assert_eq!(
            faults(
                check_resize,
                &pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}})),
                &old
            ),
            [r#"metadata: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing"#]
        );
    }

    #[test]
    fn an_ephemeral_container_stays() {
        let with = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
            json!({"spec": {"ephemeralContainers": all}})
        };
        assert_eq!(faults(check_ephemeral, &with(&["a", "b"]), &with(&["a"])), Vec::<String>::new());
        assert_eq!(
            faults(check_ephemeral, &with(&["b"]), &with(&["a"])),
            ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"a\" may not be removed\n"]
        );
    }
}
