//! What the conditions of a node come to: its taints, and what is said of one that fell silent.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions and, where they hold, the taint that keeps new pods away.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// The taints that `node` should have: its own, and those that its conditions ask for.
#[must_use]
pub fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let ready = condition(node, "Ready").map(|ready| ready.status.as_str());
    let mut wanted: Vec<(&str, &str)> = match ready {
        Some("False") => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        Some("Unknown") => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        _ => Vec::new(),
    };
    for (kind, taint) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let managed = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
                || PRESSURES.iter().any(|(_, key)| *key == taint.key)
        }
        // Nobody is driven off a node, nor let back, before it has told how it is.
        "NoExecute" => ready.is_some() && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = present.iter().filter(|taint| !managed(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    taints
}

/// The conditions of a node that fell silent: nothing is known of it any more.
#[must_use]
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut all = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let position = all.iter().position(|condition| condition.type_ == kind);
        let was_reported = position.is_some();
        let (reason, message) = if was_reported {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
        } else {
            ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        };
        let mut condition = position.and_then(|at| all.get(at).cloned()).unwrap_or_default();
        if condition.status == "Unknown" {
            continue;
        }
        condition.type_ = kind.to_owned();
        condition.status = "Unknown".to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
        if !was_reported {
            condition.last_heartbeat_time = node.creation_timestamp();
        }
        condition.last_transition_time = Some(Time(now));
        match position.and_then(|at| all.get_mut(at)) {
            Some(slot) => *slot = condition,
            None => all.push(condition),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lifecycle::node::tests::node;

    #[test]
    fn taints_follow_the_ready_condition_and_leave_others_alone() {
        let own = json!([{"key": "gpu", "effect": "NoSchedule"}]);
        let keys = |node: &Node| -> Vec<String> {
            taints(node, Timestamp::UNIX_EPOCH)
                .into_iter()
                .map(|taint| format!("{}:{}", taint.key, taint.effect))
                .collect()
        };
        assert_eq!(keys(&node("True", own.clone())), ["gpu:NoSchedule"]);
        assert_eq!(
            keys(&node("Unknown", own)),
            ["gpu:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
        );
        let was = json!([{"key": NOT_READY, "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        assert!(keys(&node("True", was)).is_empty());
    }

    #[test]
    fn nothing_is_told_of_a_node_that_has_not_told_its_state() {
        let was = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute"}]);
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": was}})).unwrap();
        let left = taints(&node, Timestamp::UNIX_EPOCH);
        assert_eq!(left.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(), [UNREACHABLE]);
    }
}
