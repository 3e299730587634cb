//! What may change in a pod once it is there.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::object;

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

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
    if object::int(old, &["spec", "terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0) {
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
