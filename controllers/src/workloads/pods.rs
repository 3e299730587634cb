//! What a controller asks of a pod: is it active, ready, available, and which of several should go first.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// By how much a user wishes one pod to be deleted before others; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod ran to its end, well or not.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Of these, the pods that an owner may claim: what ran to its end without one stays without.
#[must_use]
pub fn claimable(pods: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    pods.into_iter().filter(|pod| !is_finished(pod) || super::controller_of(pod.as_ref()).is_some()).collect()
}

/// Whether the pod counts towards its owner's replicas.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod is on its way out but still there.
#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// A condition of the pod.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Since when the pod has been ready, if it is; a ready pod without a time counts from the epoch.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Whether the pod has been ready for at least `min_ready_seconds`.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    ready_since(pod).is_some_and(|since| {
        min_ready_seconds <= 0 || now.as_second() - since.as_second() >= i64::from(min_ready_seconds)
    })
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DELETION_COST)).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// Orders pods by which should be deleted first: unplaced, then not running, then not ready, then those of lower
/// deletion cost, then those that became ready last, restarted most, and are youngest.
#[must_use]
pub fn by_deletion_preference(a: &Pod, b: &Pod) -> Ordering {
    let placed = |pod: &Pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|name| !name.is_empty()))
    };
    let running = |pod: &Pod| match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (placed(a).cmp(&placed(b)))
        .then_with(|| running(a).cmp(&running(b)))
        .then_with(|| ready_since(a).is_some().cmp(&ready_since(b).is_some()))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| ready_since(b).cmp(&ready_since(a)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| created(b).cmp(&created(a)))
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_is_available_after_its_time() {
        let pod = pod(json!({"metadata": {}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_available(&pod, 0, at("2026-01-01T00:00:00Z")));
        assert!(!is_available(&pod, 10, at("2026-01-01T00:00:09Z")));
        assert!(is_available(&pod, 10, at("2026-01-01T00:00:10Z")));
    }

    #[test]
    fn what_is_of_least_use_goes_first() {
        let unplaced = pod(json!({"metadata": {"name": "unplaced"}}));
        let pending = pod(json!({"metadata": {"name": "pending"}, "spec": {"nodeName": "n", "containers": []}}));
        let ready = pod(json!({"metadata": {"name": "ready"}, "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
        let cheap = pod(json!({"metadata": {"name": "cheap", "annotations": {DELETION_COST: "-1"}},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
        let mut all = [&ready, &cheap, &pending, &unplaced];
        all.sort_by(|a, b| by_deletion_preference(a, b));
        let names: Vec<_> = all.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["unplaced", "pending", "cheap", "ready"]);
    }
}
