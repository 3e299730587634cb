//! What may change in a pod once it is there.

use std::collections::{HashMap, HashSet};

use martello_api::status::Cause;
use serde_json::{Map, Value, json};

use crate::registry::{
    object,
    validation::{
        difference,
        field::{Field, NOWHERE},
        internal, pod as rules,
    },
};

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

const SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const EPHEMERAL: &str = "io.k8s.api.core.v1.EphemeralContainer";

/// Checks a changed pod against what it was.
pub fn check(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    rules::annotations_update(new, old, causes);
    for list in ["containers", "initContainers"] {
        let (now, before) = (object::list(new, &["spec", list]), object::list(old, &["spec", list]));
        if now.len() != before.len() {
            causes.push(Cause::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
            return;
        }
        // They were checked before; upstream does it again.
        for container in Field::new(new, "").at("spec").items(list) {
            container.at("image").needs_text(causes);
            rules::container::image_as_is(&container, causes);
        }
    }
    if !deadline(new, old, causes) {
        return;
    }
    tolerations(new, old, causes);
    gates(new, old, causes);
    if object::same_of(SPEC, new.get("spec"), old.get("spec")) {
        return;
    }
    let gated = !object::list(old, &["spec", "schedulingGates"]).is_empty();
    if gated {
        placing(new, old, causes);
    }
    let mut settled = new.clone();
    settle(&mut settled, old, gated);
    if !object::same_of(SPEC, settled.get("spec"), old.get("spec")) {
        let shown = |pod: &Value| internal::of(SPEC, pod.get("spec").unwrap_or(&Value::Null));
        let diff = difference::unified(&shown(old), &shown(&settled));
        causes.push(Cause::forbidden("spec", &format!("{WHY}\n{diff}")));
    }
}

/// The rest is not looked at where the answer is no.
fn deadline(new: &Value, old: &Value, causes: &mut Vec<Cause>) -> bool {
    const PATH: &str = "spec.activeDeadlineSeconds";
    let of = |pod: &Value| object::int(pod, &["spec", "activeDeadlineSeconds"]);
    let why = match (of(new), of(old)) {
        (None, Some(_)) => {
            causes.push(Cause::invalid(PATH, &Value::Null, "must not update from a positive integer to nil value"));
            return true;
        }
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => "must be between 0 and 2147483647, inclusive",
        (Some(now), Some(before)) if now > before => "must be less than or equal to previous value",
        _ => return true,
    };
    causes.push(Cause::invalid(PATH, &json!(of(new)), why));
    false
}

/// Tolerations come, and only how long they hold changes.
fn tolerations(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let of = |pod: &'_ Value| -> HashSet<[String; 4]> {
        let parts =
            |one: &Value| ["key", "operator", "value", "effect"].map(|key| object::text(one, &[key]).to_owned());
        object::list(pod, &["spec", "tolerations"]).iter().map(parts).collect()
    };
    if of(old).is_subset(&of(new)) {
        rules::tolerations(&Field::new(new, "").at("spec"), causes);
    } else {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", why));
    }
}

fn gates(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let known: HashSet<&str> =
        object::list(old, &["spec", "schedulingGates"]).iter().map(|gate| object::text(gate, &["name"])).collect();
    // Of several new ones of one name the last is told of.
    let mut told: HashSet<&str> = HashSet::new();
    let mut found: Vec<Field<'_>> = Vec::new();
    for gate in Field::new(new, "").at("spec").items("schedulingGates").into_iter().rev() {
        let name = gate.at("name");
        if !known.contains(name.text()) && told.insert(name.text()) {
            found.push(name);
        }
    }
    for name in found.iter().rev() {
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
        name.forbidden(&why, causes);
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
    let shown = |term: &Value| internal::of("io.k8s.api.core.v1.NodeSelectorTerm", term);
    if now.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let all: Option<Vec<Value>> = Some(now.iter().map(shown).collect()).filter(|all: &Vec<_>| !all.is_empty());
        return causes.push(Cause::invalid(path, &json!(all), why));
    }
    for (index, (own, other)) in now.iter().zip(before).enumerate() {
        let lists = |term: &Value| ["matchExpressions", "matchFields"].map(|key| object::list(term, &[key]).to_vec());
        let was_empty = lists(other).iter().all(Vec::is_empty);
        let only_more = lists(own).iter().zip(lists(other)).all(|(own, other)| own.starts_with(&other));
        if !only_more || was_empty && !lists(own).iter().all(Vec::is_empty) {
            let why = "only additions are allowed (no mutations or deletions)";
            causes.push(Cause::invalid(format!("{path}[{index}]"), &shown(own), why));
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
    let mut keys = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if gated {
        keys.push("nodeSelector");
        settle_affinity(new, old);
    }
    let grace = |pod: &Value| object::int(pod, &["spec", "terminationGracePeriodSeconds"]);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(new) == Some(1) {
        keys.push("terminationGracePeriodSeconds");
    }
    if let (Some(new), Some(old)) = (new.get_mut("spec"), old.get("spec")) {
        for key in keys {
            object::copy_key(new, old, key);
        }
    }
}

/// The nodes of a gated pod may change; where they don't, nothing of its affinity may.
fn settle_affinity(new: &mut Value, old: &Value) {
    let nodes = |pod: &Value| object::at(pod, &["spec", "affinity", "nodeAffinity"]).cloned().unwrap_or_default();
    let before = nodes(old);
    if nodes(new) == before {
        return;
    }
    if before.is_null() {
        object::remove(new, &["spec", "affinity"], "nodeAffinity");
    } else {
        object::set(new, &["spec", "affinity"], "nodeAffinity", before);
    }
    let affinity = |pod: &Value| object::at(pod, &["spec", "affinity"]).and_then(Value::as_object).map(Map::len);
    if affinity(old).is_none() && affinity(new) == Some(0) {
        object::remove(new, &["spec"], "affinity");
    }
}

/// Checks changed ephemeral containers: they come, and stay as they are.
pub fn check_ephemeral(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    rules::annotations_update(new, old, causes);
    const PATH: &str = "spec.ephemeralContainers";
    if object::at(old, &["metadata", "annotations", rules::MIRROR]).is_some() {
        causes.clear();
        return causes.push(Cause::forbidden(NOWHERE, "static pods do not support ephemeral containers"));
    }
    let now = object::list(new, &["spec", "ephemeralContainers"]);
    // Of two of one name the last counts.
    let by_name: HashMap<&str, &Value> = now.iter().map(|own| (object::text(own, &["name"]), own)).collect();
    for before in object::list(old, &["spec", "ephemeralContainers"]) {
        let name = object::text(before, &["name"]);
        match by_name.get(name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                causes.push(Cause::forbidden(PATH, &why));
            }
            Some(own) if !object::same_of(EPHEMERAL, Some(own), Some(before)) => {
                let shown = |container: &Value| internal::of(EPHEMERAL, container);
                let diff = difference::unified(&shown(before), &shown(own));
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                causes.push(Cause::forbidden(PATH, &why));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(check: fn(&Value, &Value, &mut Vec<Cause>), new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(new, old, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn gates_go_and_do_not_come() {
        let with = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"spec": {"schedulingGates": all}})
        };
        assert_eq!(faults(gates, &with(&["a"]), &with(&["a", "b"])), Vec::<String>::new());
        let told = |index: usize, name: &str| {
            format!(
                "spec.schedulingGates[{index}].name: Forbidden: only deletion is allowed, but found new scheduling gate '{name}'"
            )
        };
        assert_eq!(faults(gates, &with(&["b", "c", "b"]), &with(&["a"])), [told(1, "c"), told(2, "b")]);
    }

    #[test]
    fn of_a_gated_pods_affinity_only_the_nodes_may_change() {
        let pod = |affinity: Value| json!({"spec": {"affinity": affinity}});
        let settled = |new: Value, old: Value| {
            let mut new = pod(new);
            settle_affinity(&mut new, &pod(old));
            new["spec"].as_object().and_then(|spec| spec.get("affinity").cloned())
        };
        let nodes = json!({"nodeAffinity": {}});
        assert_eq!(settled(nodes.clone(), Value::Null), None);
        assert_eq!(settled(json!({}), Value::Null), Some(json!({})));
        assert_eq!(settled(Value::Null, nodes.clone()), Some(nodes.clone()));
        let pods = json!({"nodeAffinity": {"x": 1}, "podAffinity": {}});
        assert_eq!(settled(pods, nodes), Some(json!({"nodeAffinity": {}, "podAffinity": {}})));
    }

    #[test]
    fn a_toleration_may_hold_longer_and_nothing_else() {
        let with = |value: &str, seconds: i64| {
            json!({"spec": {"tolerations": [
                {"key": "a", "value": value, "effect": "NoExecute", "tolerationSeconds": seconds},
            ]}})
        };
        assert_eq!(faults(tolerations, &with("b", 2), &with("b", 1)), Vec::<String>::new());
        assert_eq!(
            faults(tolerations, &with("c", 1), &with("b", 1)),
            ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
        );
    }

    #[test]
    fn what_may_not_change_is_shown_as_a_difference() {
        let on = |node: &str| json!({"spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        let hunk = "@@ -42,7 +42,7 @@\n  \"NodeSelector\": null,\n  \"ServiceAccountName\": \"\",\n  \"AutomountServiceAccountToken\": null,\n- \"NodeName\": \"\",\n+ \"NodeName\": \"x\",\n  \"SecurityContext\": {\n   \"HostNetwork\": false,\n   \"HostPID\": false,\n";
        assert_eq!(faults(check, &on("x"), &on("")), [format!("spec: Forbidden: {WHY}\n{hunk}")]);
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
