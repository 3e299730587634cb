//! Node lifecycle: a node that fell silent is marked, tainted, and its pods are evicted.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, ObjectReference, Pod, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch},
    runtime::events::EventType,
};
use martello_api::{clock, taints::tolerates};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches, Config,
    runtime::{Attempt, EventSink, Key, Queue, RequestError, patch, revision, work},
    workloads::pods,
};

/// Namespace of the leases by which nodes show that they live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How often silent nodes are looked for.
const TICK: Duration = Duration::from_secs(5);
/// On a node: for how many seconds it may believe what it was told of Secrets and ConfigMaps.
const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// How long a node that never told its state may take to do so, as upstream.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

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

/// How long what was read may be believed, in a cluster of so many nodes; as upstream.
const fn ttl_seconds(nodes: usize) -> u32 {
    match nodes {
        0..=100 => 0,
        101..=500 => 15,
        501..=1000 => 30,
        1001..=2000 => 60,
        2001..=10_000 => 300,
        _ => 600,
    }
}

/// How long a pod may stay on a tainted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Not at all.
    No,
    /// This many seconds.
    For(i64),
    /// For good.
    Forever,
}

/// How long `pod` may stay on a node with these taints: the first toleration of each taint counts.
#[must_use]
pub fn stay(pod: &Pod, taints: &[Taint]) -> Stay {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let Some(found): Option<&Toleration> = tolerations.iter().find(|one| tolerates(one, taint)) else {
            return Stay::No;
        };
        if let Some(seconds) = found.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |other| other.min(seconds)).max(0));
        }
    }
    shortest.map_or(Stay::Forever, Stay::For)
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

/// When each node was last heard of, by the controller's own clock: that of the node may be wrong.
#[derive(Clone, Default)]
struct Heartbeats(Arc<Mutex<HashMap<String, Heartbeat>>>);

/// What the node told - its lease's renewal, its condition's heartbeat - and when it was first seen to tell so.
type Heartbeat = ([Option<Timestamp>; 2], Timestamp);

impl Heartbeats {
    /// How long the node has been silent.
    fn silence(&self, node: &Node, lease: Option<&Lease>, now: Timestamp) -> SignedDuration {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let ready = condition(node, "Ready");
        let beat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref().map(|time| time.0));
        let born = node.creation_timestamp().map_or(now, |time| time.0);
        let told = [renewed, beat];
        let since = if renewed.is_none() && ready.is_none() { born } else { now };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(node.name_any()).or_insert((told, since));
        if entry.0 != told {
            *entry = (told, now);
        }
        now.duration_since(entry.1)
    }

    fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

/// What is to be done about a pod of a tainted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    /// A planned eviction was called off.
    called_off: bool,
    /// When it has to leave.
    leaves: Option<Timestamp>,
}

/// When each pod (by its uid) has to leave: a time once set holds while the pod is not tolerated for good.
#[derive(Clone, Default)]
struct Evictions(Arc<Mutex<HashMap<String, Timestamp>>>);

impl Evictions {
    fn plan(&self, pod: &str, stay: Stay, now: Timestamp) -> Turn {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = match stay {
            Stay::Forever => return Turn { called_off: all.remove(pod).is_some(), leaves: None },
            Stay::No => return Turn { called_off: all.remove(pod).is_some(), leaves: Some(now) },
            Stay::For(seconds) => now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now),
        };
        let leaves = match all.entry(pod.to_owned()) {
            Entry::Occupied(planned) if *planned.get() <= now => planned.remove(),
            Entry::Occupied(planned) => *planned.get(),
            Entry::Vacant(_) if leaves <= now => leaves,
            Entry::Vacant(free) => *free.insert(leaves),
        };
        Turn { called_off: false, leaves: Some(leaves) }
    }

    fn forget(&self, pod: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod);
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
    caches.nodes.on_change(move |before, after| {
        if let Some(node) = after.or(before) {
            on_node.add(node.name_any());
        }
    });
    let evictions = Evictions::default();
    let (on_pod, forget) = (queue.clone(), evictions.clone());
    caches.pods.on_change(move |before, after| {
        let what = |pod: Option<&Arc<Pod>>| {
            pod.and_then(|pod| pod.spec.as_ref().map(|spec| (spec.node_name.clone(), spec.tolerations.clone())))
        };
        if let (Some(gone), None) = (before, after) {
            forget.forget(&gone.uid().unwrap_or_default());
        } else if let Some((Some(node), _)) = what(after).filter(|_| what(before) != what(after)) {
            on_pod.add(node);
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: Arc::clone(caches),
        queue: queue.clone(),
        heartbeats: Heartbeats::default(),
        evictions,
        known: Arc::default(),
        events: EventSink::new(client, "node-controller"),
        evictor: EventSink::new(client, "taint-eviction-controller"),
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
    evictions: Evictions,
    /// The nodes that were seen, and how events refer to them.
    known: Arc<Mutex<HashMap<String, ObjectReference>>>,
    events: EventSink,
    evictor: EventSink,
    grace: SignedDuration,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), RequestError> {
        self.caches.nodes.synced().await;
        self.caches.leases.synced().await;
        self.caches.pods.synced().await;
        let node = self.caches.nodes.get(&Key::new("", name));
        self.tell_of(name, node.as_deref()).await;
        let Some(node) = node else { return Ok(()) };
        let mut node = node.as_ref().clone();
        let now = clock::now();
        let api: Api<Node> = Api::all(self.client.clone());
        let ttl = ttl_seconds(self.caches.nodes.count()).to_string();
        if node.annotations().get(TTL) != Some(&ttl) {
            let body = json!({"metadata": {"annotations": {TTL: ttl}}});
            let written = api.patch(name, &patch(), &Patch::Merge(body)).await;
            node = written.attempt(|| format!("annotate node {name}"))?;
        }
        let lease = self.caches.leases.get(&Key::new(LEASE_NAMESPACE, name));
        let was = condition(&node, "Ready").map(|ready| ready.status.clone());
        let grace = if was.is_some() { self.grace } else { STARTUP_GRACE };
        let silent = self.heartbeats.silence(&node, lease.as_deref(), now) > grace;
        if silent && was.as_deref() != Some("Unknown") {
            let body = json!({"status": {"conditions": unknown_conditions(&node, now)}});
            let written = api.patch_status(name, &patch(), &Patch::Strategic(body)).await;
            node = written.attempt(|| format!("mark node {name} as unknown"))?;
            tracing::warn!(node = name, "node fell silent");
            if was.as_deref() == Some("True") {
                let note = format!("Node {name} status is now: NodeNotReady");
                self.events.publish(&node.object_ref(&()), EventType::Normal, "NodeNotReady", note).await;
            }
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

    /// Tells of a node that came or went.
    async fn tell_of(&self, name: &str, node: Option<&Node>) {
        let (object, reason, what) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match (known.entry(name.to_owned()), node) {
                (Entry::Vacant(free), Some(node)) => {
                    (free.insert(node.object_ref(&())).clone(), "RegisteredNode", format!("Registered Node {name} in"))
                }
                (Entry::Occupied(gone), None) => (gone.remove(), "RemovingNode", format!("Removing Node {name} from")),
                _ => return,
            }
        };
        if node.is_none() {
            self.heartbeats.forget(name);
        }
        let note = format!("Node {name} event: {what} Controller");
        self.events.publish(&object, EventType::Normal, reason, note).await;
    }

    async fn evict(&self, node: &Node, taints: &[Taint], silent: bool, now: Timestamp) -> Result<(), RequestError> {
        let name = node.name_any();
        let all = self.caches.pods.all();
        let here = all.iter().filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name));
        for pod in here.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            if silent && pods::ready_since(pod).is_some() {
                self.mark(pod, now).await?;
            }
            let turn = self.evictions.plan(&pod.uid().unwrap_or_default(), stay(pod, taints), now);
            if turn.called_off {
                self.tell_eviction(pod, "Cancelling deletion of").await;
            }
            match turn.leaves {
                Some(leaves) if leaves <= now => self.drive_off(pod, now).await?,
                Some(leaves) => {
                    let rest = Duration::try_from(leaves.duration_since(now)).unwrap_or(TICK);
                    self.queue.add_after(name.clone(), rest);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// A pod whose node is silent is not ready any more.
    async fn mark(&self, pod: &Pod, now: Timestamp) -> Result<(), RequestError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": clock::rfc3339_seconds(now)});
        let body = json!({"status": {"conditions": [ready]}});
        let written = api.patch_status(&name, &patch(), &Patch::Strategic(body)).await;
        let written = written.attempt_unless_gone(|| format!("mark pod {namespace}/{name} as not ready"))?;
        if let Some(pod) = written {
            let note = "Node is not ready".to_owned();
            self.events.publish(&pod.object_ref(&()), EventType::Warning, "NodeNotReady", note).await;
        }
        Ok(())
    }

    async fn drive_off(&self, pod: &Pod, now: Timestamp) -> Result<(), RequestError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        self.tell_eviction(pod, "Marking for deletion").await;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        let body = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [disrupted(pod, why, now)]}});
        let written = api.patch_status(&name, &patch(), &Patch::Strategic(body)).await;
        written.attempt_unless_gone(|| format!("mark pod {namespace}/{name} as disrupted"))?;
        let deleted = api.delete(&name, &DeleteParams::default()).await;
        deleted.attempt_unless_gone(|| format!("evict pod {namespace}/{name} from its node"))?;
        tracing::info!(namespace, name, "pod evicted from a tainted node");
        Ok(())
    }

    async fn tell_eviction(&self, pod: &Pod, what: &str) {
        let note = format!("{what} Pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        let object = ObjectReference { uid: None, resource_version: None, ..pod.object_ref(&()) };
        self.evictor.publish(&object, EventType::Normal, "TaintManagerEviction", note).await;
    }
}

/// The condition of a pod that is ended for a reason of the cluster's; reason and message are `why`.
pub(super) fn disrupted(pod: &Pod, why: (&str, &str), now: Timestamp) -> Value {
    let was = pods::condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True");
    let since = was.and_then(|condition| condition.last_transition_time.clone()).map_or(now, |time| time.0);
    json!({"type": "DisruptionTarget", "status": "True", "observedGeneration": pod.metadata.generation,
        "lastProbeTime": null, "lastTransitionTime": clock::rfc3339_seconds(since), "reason": why.0, "message": why.1})
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
    fn nothing_is_told_of_a_node_that_has_not_told_its_state() {
        let was = json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute"}]);
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": was}})).unwrap();
        let left = taints(&node, Timestamp::UNIX_EPOCH);
        assert_eq!(left.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(), [UNREACHABLE]);
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let taint = vec![Taint { key: UNREACHABLE.into(), effect: "NoExecute".into(), ..Taint::default() }];
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}))
                .unwrap()
        };
        assert_eq!(stay(&pod(json!([])), &taint), Stay::No);
        assert_eq!(stay(&pod(json!([])), &[]), Stay::Forever);
        let timed =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(stay(&pod(timed), &taint), Stay::For(300));
        assert_eq!(stay(&pod(json!([{"operator": "Exists"}])), &taint), Stay::Forever);

        let evictions = Evictions::default();
        let turn = |called_off, leaves: Option<i64>| Turn { called_off, leaves: leaves.map(at) };
        assert_eq!(evictions.plan("a", Stay::For(300), at(100)), turn(false, Some(400)));
        assert_eq!(evictions.plan("a", Stay::For(300), at(200)), turn(false, Some(400)));
        assert_eq!(evictions.plan("a", Stay::Forever, at(200)), turn(true, None));
        assert_eq!(evictions.plan("a", Stay::Forever, at(200)), turn(false, None));
        assert_eq!(evictions.plan("a", Stay::For(10), at(200)), turn(false, Some(210)));
        assert_eq!(evictions.plan("a", Stay::For(10), at(211)), turn(false, Some(210)));
    }

    #[test]
    fn silence_is_measured_by_the_own_clock() {
        let heartbeats = Heartbeats::default();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let lease = |time: &str| -> Lease {
            serde_json::from_value(json!({"metadata": {}, "spec": {"renewTime": time}})).unwrap()
        };
        let node = node("True", json!([]));
        let (old, new) = (lease("2001-01-01T00:00:00.000000Z"), lease("2001-01-01T00:00:10.000000Z"));
        assert_eq!(heartbeats.silence(&node, Some(&old), at(1000)).as_secs(), 0);
        assert_eq!(heartbeats.silence(&node, Some(&old), at(1030)).as_secs(), 30);
        assert_eq!(heartbeats.silence(&node, Some(&new), at(1031)).as_secs(), 0);
    }
}
