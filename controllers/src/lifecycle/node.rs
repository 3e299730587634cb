//! Node lifecycle: a node that fell silent is marked, tainted, and its pods are evicted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, Pod, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch},
};
use martello_api::{clock, taints::tolerates};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches, Config,
    runtime::{Attempt, Key, Queue, RequestError, patch, revision, work},
    workloads::pods,
};

/// Namespace of the leases by which nodes show that they live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How often silent nodes are looked for.
const TICK: Duration = Duration::from_secs(5);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions and, where they hold, the taint that keeps new pods away.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// The taints that `node` should have: its own, and those that its conditions ask for.
#[must_use]
pub fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    for (kind, taint) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let managed = |key: &str| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key) || PRESSURES.iter().any(|(_, taint)| *taint == key)
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> =
        present.iter().filter(|taint| !managed(&taint.key) || is_wanted(taint)).cloned().collect();
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

/// When `pod` has to leave a node with these taints: `None` if it may stay for good.
#[must_use]
pub fn eviction_time(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut leaves: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let matching: Vec<&Toleration> = tolerations.iter().filter(|one| tolerates(one, taint)).collect();
        let until = if matching.is_empty() {
            Some(now)
        } else {
            let shortest = matching.iter().filter_map(|one| one.toleration_seconds).min();
            shortest.map(|seconds| since.saturating_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(since))
        };
        leaves = match (leaves, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    leaves
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
        condition.last_transition_time = Some(Time(now));
        match position.and_then(|at| all.get_mut(at)) {
            Some(slot) => *slot = condition,
            None => all.push(condition),
        }
    }
    all
}

/// When each node was last heard of, by the controller's own clock: that of the node may be wrong.
#[derive(Clone, Default)]
struct Heartbeats(Arc<Mutex<HashMap<String, Heartbeat>>>);

/// What a lease said, and when it was first seen to say so.
type Heartbeat = (Option<Timestamp>, Timestamp);

impl Heartbeats {
    /// How long the node has been silent.
    fn silence(&self, node: &str, lease: Option<&Lease>, now: Timestamp) -> SignedDuration {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(node.to_owned()).or_insert((renewed, now));
        if entry.0 != renewed {
            *entry = (renewed, now);
        }
        now.duration_since(entry.1)
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

pub(crate) fn spawn(
    client: &Client,
    caches: &Arc<Caches>,
    config: &Config,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue: Queue<String> = Queue::new();
    let on_node = queue.clone();
    let heartbeats = Heartbeats::default();
    let forget = heartbeats.clone();
    caches.nodes.on_change(move |before, after| match (before, after) {
        (Some(gone), None) => forget.forget(&gone.name_any()),
        (_, Some(node)) => on_node.add(node.name_any()),
        (None, None) => {}
    });
    let on_pod = queue.clone();
    caches.pods.on_change(move |before, after| {
        let node = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        if let Some(name) = node(after).filter(|_| node(before) != node(after)) {
            on_pod.add(name);
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: Arc::clone(caches),
        queue: queue.clone(),
        heartbeats,
        grace: SignedDuration::try_from(config.node_monitor_grace).unwrap_or(SignedDuration::from_secs(50)),
    };
    work(tasks, "node-lifecycle", &queue, 2, shutdown, controller, |controller, name| async move {
        controller.reconcile(&name).await
    });
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<String>,
    heartbeats: Heartbeats,
    grace: SignedDuration,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), RequestError> {
        self.caches.nodes.synced().await;
        self.caches.leases.synced().await;
        self.caches.pods.synced().await;
        let Some(node) = self.caches.nodes.get(&Key::new("", name)) else { return Ok(()) };
        let mut node = node.as_ref().clone();
        let now = clock::now();
        let lease = self.caches.leases.get(&Key::new(LEASE_NAMESPACE, name));
        let silent = self.heartbeats.silence(name, lease.as_deref(), now) > self.grace;
        let known = condition(&node, "Ready").is_none_or(|ready| ready.status != "Unknown");
        let api: Api<Node> = Api::all(self.client.clone());
        if silent && known {
            let body = json!({"status": {"conditions": unknown_conditions(&node, now)}});
            let written = api.patch_status(name, &patch(), &Patch::Strategic(body)).await;
            node = written.attempt(|| format!("mark node {name} as unknown"))?;
            tracing::warn!(node = name, "node fell silent");
        }
        let wanted = taints(&node, now);
        if node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default() != wanted {
            let body = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": wanted}});
            let written = api.patch(name, &patch(), &Patch::Merge(body)).await;
            node = written.attempt(|| format!("taint node {name}"))?;
        }
        self.caches.nodes.caught_up(revision(&node)).await;
        self.evict(&node, &wanted, silent, now).await?;
        self.queue.add_after(name.to_owned(), TICK);
        Ok(())
    }

    async fn evict(&self, node: &Node, taints: &[Taint], silent: bool, now: Timestamp) -> Result<(), RequestError> {
        let name = node.name_any();
        let all = self.caches.pods.all();
        let here = all.iter().filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name));
        for pod in here.filter(|pod| pods::is_active(pod)) {
            let (namespace, pod_name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            if silent && pods::ready_since(pod).is_some() {
                let ready = json!({"type": "Ready", "status": "False", "reason": "NodeNotReady",
                    "message": "Node is not ready", "lastTransitionTime": clock::rfc3339_seconds(now)});
                let body = json!({"status": {"conditions": [ready]}});
                let written = api.patch_status(&pod_name, &patch(), &Patch::Strategic(body)).await;
                written.attempt_unless_gone(|| format!("mark pod {namespace}/{pod_name} as not ready"))?;
            }
            if eviction_time(pod, taints, now).is_some_and(|leaves| leaves <= now) {
                let deleted = api.delete(&pod_name, &DeleteParams::default()).await;
                deleted.attempt_unless_gone(|| format!("evict pod {namespace}/{pod_name} from node {name}"))?;
                tracing::info!(namespace, name = pod_name, node = name, "pod evicted from a tainted node");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

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
    fn a_pod_stays_as_long_as_it_tolerates() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let taint = vec![Taint {
            key: UNREACHABLE.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(at(100))),
            value: None,
        }];
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}))
                .unwrap()
        };
        assert_eq!(eviction_time(&pod(json!([])), &taint, at(150)), Some(at(150)));
        let timed =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(eviction_time(&pod(timed), &taint, at(150)), Some(at(400)));
        assert_eq!(eviction_time(&pod(json!([{"operator": "Exists"}])), &taint, at(150)), None);
    }

    #[test]
    fn silence_is_measured_by_the_own_clock() {
        let heartbeats = Heartbeats::default();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let lease = |time: &str| -> Lease {
            serde_json::from_value(json!({"metadata": {}, "spec": {"renewTime": time}})).unwrap()
        };
        let (old, new) = (lease("2001-01-01T00:00:00.000000Z"), lease("2001-01-01T00:00:10.000000Z"));
        assert_eq!(heartbeats.silence("n", Some(&old), at(1000)).as_secs(), 0);
        assert_eq!(heartbeats.silence("n", Some(&old), at(1030)).as_secs(), 30);
        assert_eq!(heartbeats.silence("n", Some(&new), at(1031)).as_secs(), 0);
    }
}
