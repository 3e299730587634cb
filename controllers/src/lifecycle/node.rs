//! Node lifecycle: a node that fell silent is marked, tainted, and its pods are evicted.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, ObjectReference, Pod, Taint},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch},
    runtime::events::EventType,
};
use martello_api::clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches, Config,
    runtime::{Attempt, EventSink, Key, Queue, RequestError, patch, revision, work},
    workloads::pods,
};

mod conditions;
mod evictions;

pub use conditions::{taints, unknown_conditions};
pub use evictions::{Stay, stay};

use conditions::condition;
use evictions::Evictions;

/// Namespace of the leases by which nodes show that they live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How often silent nodes are looked for.
const TICK: Duration = Duration::from_secs(5);
/// On a node: for how many seconds it may believe what it was told of Secrets and ConfigMaps.
const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// How long a node that never told its state may take to do so, as upstream.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

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

    pub(super) fn node(ready: &str, taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
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
