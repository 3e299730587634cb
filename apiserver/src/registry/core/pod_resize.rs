//! What may change in a pod that is resized.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{
        field::NOWHERE,
        pod::{MIRROR, qos_class},
    },
};

/// Checks a resized pod: cpu and memory may change, and its class of service may not.
pub fn check(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let alone = |why: &str, causes: &mut Vec<Cause>| {
        causes.clear();
        causes.push(Cause::forbidden(NOWHERE, why));
    };
    if object::at(old, &["metadata", "annotations", MIRROR]).is_some() {
        return alone("static pods cannot be resized", causes);
    }
    if object::text(old, &["spec", "os", "name"]) == "windows" {
        return alone("windows pods cannot be resized", causes);
    }
    let class = match object::text(old, &["status", "qosClass"]) {
        "" => qos_class(old),
        told => told,
    };
    if qos_class(new) != class {
        let shown = object::text(new, &["status", "qosClass"]);
        causes.push(Cause::invalid("spec", &json!(shown), "Pod QOS Class may not change as a result of resizing"));
    }
    if !is_supported(old) {
        causes.push(Cause::forbidden("spec", "Pod running on node without support for resize"));
    }
    whole(new, old, causes);
    if !same_containers(new, old, causes) {
        return;
    }
    for (index, (own, other)) in pairs(new, old, "initContainers").enumerate() {
        removed(own, other, &format!("spec.initContainers[{index}].resources"), "resource", causes);
    }
    for (index, (own, other)) in pairs(new, old, "containers").enumerate() {
        removed(own, other, &format!("spec.containers[{index}].resources"), "resource", causes);
    }
    for (own, other) in pairs(new, old, "containers") {
        if !object::same_of(CONTAINER, Some(&settled(own, other)), Some(other)) {
            causes.push(Cause::forbidden("spec", "only cpu and memory resources are mutable"));
        }
    }
    for (index, (own, other)) in pairs(new, old, "initContainers").enumerate() {
        init_container(own, other, &format!("spec.initContainers[{index}]"), causes);
    }
}

const CONTAINER: &str = "io.k8s.api.core.v1.Container";

/// A container that does its work once can't be started anew with more.
fn init_container(own: &Value, other: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !object::same_of(CONTAINER, Some(&settled(own, other)), Some(other)) {
        let why = "only cpu and memory resources for init or sidecar containers are mutable";
        causes.push(Cause::forbidden(path, why));
    }
    if is_sidecar(own) || object::same_of(CONTAINER, Some(own), Some(other)) {
        return;
    }
    let restarts = |policy: &&Value| object::text(policy, &["restartPolicy"]) == "RestartContainer";
    for _ in object::list(own, &["resizePolicy"]).iter().filter(restarts) {
        let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        causes.push(Cause::forbidden(path, why));
    }
}

/// A node that can't resize reports no resources of what runs.
fn is_supported(pod: &Value) -> bool {
    let running = object::list(pod, &["status", "containerStatuses"])
        .iter()
        .find(|status| object::at(status, &["state", "running"]).is_some_and(Value::is_object));
    running.is_none_or(|status| object::at(status, &["resources"]).is_some_and(Value::is_object))
}

/// Checks what the pod has as a whole.
fn whole(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (now, before) = (object::at(new, &["spec", "resources"]), object::at(old, &["spec", "resources"]));
    if [now, before].into_iter().flatten().all(object::is_zero) {
        return;
    }
    let empty = json!({});
    let holder = |resources: Option<&Value>| json!({"resources": resources.unwrap_or(&empty)});
    if before.is_some() && now.is_none() {
        return causes.push(Cause::forbidden("spec.resources", "pod-level resources cannot be removed"));
    }
    let (now, before) = (holder(now), holder(before));
    removed(&now, &before, "spec.resources", "pod-level resource", causes);
    if !object::same_of(CONTAINER, Some(&settled_amounts(&now, &before)), Some(&before)) {
        causes.push(Cause::forbidden("spec", "only cpu and memory resources are mutable at pod-level"));
    }
}

fn same_containers(new: &Value, old: &Value, causes: &mut Vec<Cause>) -> bool {
    let found = causes.len();
    for list in ["containers", "initContainers"] {
        let count = |pod: &Value| object::list(pod, &["spec", list]).len();
        if count(new) != count(old) {
            let why = format!("{list} may not be added or removed on resize");
            causes.push(Cause::forbidden(format!("spec.{list}"), &why));
            continue;
        }
        for (index, (own, other)) in pairs(new, old, list).enumerate() {
            if own.get("name") != other.get("name") {
                let why = format!("{list} may not be renamed or reordered on resize");
                causes.push(Cause::forbidden(format!("spec.{list}[{index}].name"), &why));
            }
        }
    }
    causes.len() == found
}

fn pairs<'a>(new: &'a Value, old: &'a Value, list: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    object::list(new, &["spec", list]).iter().zip(object::list(old, &["spec", list]))
}

fn is_sidecar(container: &Value) -> bool {
    object::text(container, &["restartPolicy"]) == "Always"
}

/// What was asked for once stays asked for.
fn removed(own: &Value, other: &Value, path: &str, what: &str, causes: &mut Vec<Cause>) {
    for part in ["requests", "limits"] {
        let before = object::at(other, &["resources", part]).and_then(Value::as_object);
        if before.into_iter().flatten().any(|(name, _)| object::at(own, &["resources", part, name]).is_none()) {
            causes.push(Cause::forbidden(format!("{path}.{part}"), &format!("{what} {part} cannot be removed")));
        }
    }
}

/// A container with the cpu and memory of `other`, so that the rest can be compared. Claims on devices can't be kept.
fn settled(own: &Value, other: &Value) -> Value {
    let mut settled = settled_amounts(own, other);
    object::remove(&mut settled, &["resources"], "claims");
    settled
}

/// `own` with the cpu and memory of `other`.
fn settled_amounts(own: &Value, other: &Value) -> Value {
    let mut settled = own.clone();
    for part in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            match object::at(other, &["resources", part, resource]).cloned() {
                Some(value) => object::set(&mut settled, &["resources", part], resource, value),
                None => drop(object::remove(&mut settled, &["resources", part], resource)),
            }
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({
            "spec": {"containers": [{"name": "c", "resources": resources}]},
            "status": {"qosClass": "Burstable"},
        })
    }

    fn faults(new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(new, old, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_resize_changes_cpu_and_memory_only() {
        let old = pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}}));
        assert_eq!(faults(&pod(json!({"requests": {"cpu": "2", "memory": "1Gi"}})), &old), Vec::<String>::new());
        assert_eq!(
            faults(&pod(json!({"requests": {"cpu": "1"}})), &old),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
        );
        assert_eq!(
            faults(
                &pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}})),
                &old
            ),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        assert_eq!(
            faults(
                &pod(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}})),
                &old
            ),
            [r#"spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing"#]
        );
    }
    #[test]
    fn an_init_container_is_resized_if_it_need_not_start_anew() {
        let with = |cpu: &str, restart: &str| {
            let init = json!({
                "name": "i",
                "resources": {"requests": {"cpu": cpu}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": restart}],
            });
            json!({"spec": {"initContainers": [init]}, "status": {"qosClass": "Burstable"}})
        };
        assert_eq!(faults(&with("2", "NotRequired"), &with("1", "NotRequired")), Vec::<String>::new());
        assert_eq!(
            faults(&with("2", "RestartContainer"), &with("1", "RestartContainer")),
            [
                "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            ]
        );
    }
}
