//! DaemonSet: a pod on every node that it is for.

mod node;
mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use kube::{Api, Client, ResourceExt, runtime::events::EventType};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use plan::{Plan, Scene};

use super::{
    claim::claim,
    history::{self, REVISION_LABEL, Revisions},
    pod_control::{Owner, PodControl},
    pods, selector,
};
use crate::{
    Caches,
    runtime::{Key, Queue, RequestError, work, write_status},
};

const WORKERS: usize = 2;
/// How long a pod that failed is left before the next is tried, doubling with each one that fails; as upstream.
const FAILED_WAIT: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(15 * 60);
/// The label that clients of old look at.
const TEMPLATE_GENERATION: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.daemon_sets);
    queue.add_controllers_of(&caches.pods, &caches.daemon_sets);
    let (on_node, sets) = (queue.clone(), caches.daemon_sets.clone());
    caches.nodes.on_change(move |before, after| {
        if matters(before.map(AsRef::as_ref), after.map(AsRef::as_ref)) {
            sets.all().iter().for_each(|set| on_node.add(Key::of(set.as_ref())));
        }
    });
    let pods = PodControl::new(client, "daemonset-controller");
    let controller = Controller {
        client: client.clone(),
        caches: Arc::clone(caches),
        queue: queue.clone(),
        pods,
        failures: Failures::default(),
    };
    work(tasks, "daemonset", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

/// Whether a change of a node may change what runs there: heartbeats don't.
fn matters(before: Option<&Node>, after: Option<&Node>) -> bool {
    let seen = |node: &Node| {
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.clone());
        (node.metadata.labels.clone(), taints, spec.and_then(|spec| spec.unschedulable))
    };
    before.map(seen) != after.map(seen)
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    pods: PodControl,
    failures: Failures,
}

/// Sets (by uid) and nodes whose pods fail.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<HashMap<(String, String), Failed>>>);

/// How long the next pod that fails is left, and since when.
type Failed = (SignedDuration, Timestamp);

impl Failures {
    /// How long a pod that failed is to be left yet; none where it may go now.
    fn wait(&self, set: &str, node: &str, now: Timestamp) -> Option<SignedDuration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, since)| now.duration_since(*since) <= LONGEST_WAIT * 2);
        let known = all.entry((set.to_owned(), node.to_owned()));
        let mut wait = None;
        known
            .and_modify(|(delay, since)| {
                let passed = now.duration_since(*since);
                if passed < *delay {
                    wait = Some(*delay - passed);
                } else {
                    *delay = (*delay * 2).min(LONGEST_WAIT);
                    *since = now;
                }
            })
            .or_insert((FAILED_WAIT, now));
        wait
    }
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.daemon_sets.synced().await;
        self.caches.pods.synced().await;
        self.caches.nodes.synced().await;
        self.caches.revisions.synced().await;
        let Some(set) = self.caches.daemon_sets.get(&key) else { return Ok(()) };
        let Some(spec) = &set.spec else { return Ok(()) };
        let Some(selects) = selector(&spec.selector) else { return Ok(()) };
        let owner = Owner::of(set.as_ref());
        let deleted = set.metadata.deletion_timestamp.is_some();
        let candidates = self.caches.pods.in_namespace(&key.namespace);
        let (owned, mut last) =
            claim(&self.pods.api(&key.namespace), candidates, &owner.reference, deleted, &selects).await?;
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        let all = history::claim(&api, &self.caches.revisions, &owner, deleted, &selects).await?;
        let annotations = set.metadata.annotations.clone().unwrap_or_default();
        let revisions = Revisions { api: &api, owner: &owner, label: REVISION_LABEL, annotations };
        let before = set.status.as_ref().and_then(|status| status.collision_count);
        let settled = revisions.settle(&all, &spec.template, before.unwrap_or(0)).await?;
        self.caches.revisions.caught_up(settled.written).await;
        let hash = settled.update.labels().get(REVISION_LABEL).cloned().unwrap_or_default();
        let nodes = self.caches.nodes.all();
        let scene = Scene::new(&set, &nodes, &owned, &hash, clock::now());
        let mut plan = scene.plan();
        self.look_at_ended(&set, &owner, &nodes, &owned, &mut plan).await;
        let done = self.execute(&set, &owner, &plan, &hash, &mut last).await;
        let collisions = before.or((settled.collisions > 0).then_some(0)).map(|_| settled.collisions);
        let all_sets = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = DaemonSet { status: Some(scene.status(collisions)), ..DaemonSet::clone(&set) };
        write_status(&all_sets, &self.caches.daemon_sets, &set, updated).await?;
        self.caches.pods.caught_up(last).await;
        let used: Vec<String> = owned.iter().filter_map(|pod| pod.labels().get(REVISION_LABEL).cloned()).collect();
        let mut in_use: Vec<String> = all
            .iter()
            .filter(|revision| revision.labels().get(REVISION_LABEL).is_some_and(|hash| used.contains(hash)))
            .map(|revision| revision.name_any())
            .collect();
        in_use.push(settled.update.name_any());
        let in_use: Vec<&str> = in_use.iter().map(String::as_str).collect();
        revisions.delete(&history::beyond(&all, &in_use, spec.revision_history_limit)).await?;
        if let Some(seconds) = plan.look_again_after_seconds {
            self.queue.add_after(key, Duration::from_secs(seconds));
        }
        done
    }

    /// Tells of pods that ended, which are to go; those that failed only after a while.
    async fn look_at_ended(
        &self,
        set: &DaemonSet,
        owner: &Owner,
        nodes: &[Arc<Node>],
        owned: &[Arc<Pod>],
        plan: &mut Plan,
    ) {
        let now = clock::now();
        let (set_uid, mut kept) = (set.uid().unwrap_or_default(), Vec::new());
        for pod in owned.iter().filter(|pod| pods::is_finished(pod)) {
            let uid = pod.uid().unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            let is_doomed = plan.delete.iter().any(|(_, doomed)| *doomed == uid);
            if !is_doomed || !nodes.iter().any(|present| present.name_any() == node) {
                continue;
            }
            let whom = format!("daemon pod {}/{} on node {node}, will try to", owner.namespace, pod.name_any());
            if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded") {
                let note = format!("Found succeeded {whom} delete it");
                self.pods.tell(owner, EventType::Normal, "SucceededDaemonPod", note).await;
            } else if let Some(wait) = self.failures.wait(&set_uid, node, now) {
                self.queue.add_after(Key::of(set), Duration::try_from(wait).unwrap_or_default());
                kept.push(uid);
            } else {
                let note = format!("Found failed {whom} kill it");
                self.pods.tell(owner, EventType::Warning, "FailedDaemonPod", note).await;
            }
        }
        plan.delete.retain(|(_, uid)| !kept.contains(uid));
    }

    async fn execute(
        &self,
        set: &DaemonSet,
        owner: &Owner,
        plan: &Plan,
        hash: &str,
        last: &mut u64,
    ) -> Result<(), RequestError> {
        for name in &plan.create {
            *last = (*last).max(self.pods.create(owner, &make(set, owner, hash, name)).await?);
        }
        for (name, uid) in &plan.delete {
            *last = (*last).max(self.pods.delete(owner, name, uid).await?);
        }
        Ok(())
    }
}

/// The pod for a node.
fn make(set: &DaemonSet, owner: &Owner, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = owner.pod(&template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = set.annotations().get(GENERATION_ANNOTATION) {
        labels.insert(TEMPLATE_GENERATION.to_owned(), generation.clone());
    }
    if let Some(spec) = pod.spec.take() {
        let mut spec = self::node::with_tolerations(&spec);
        spec.affinity = Some(self::node::only_on(spec.affinity.take(), node));
        pod.spec = Some(spec);
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_fail_again_and_again_are_left_longer_each_time() {
        let failures = Failures::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let left = |wait: Option<SignedDuration>| wait.map(|wait| wait.as_secs());
        assert_eq!(left(failures.wait("d", "n", at(0))), None);
        assert_eq!(left(failures.wait("d", "n", at(0))), Some(1));
        assert_eq!(left(failures.wait("d", "n", at(1))), None);
        assert_eq!(left(failures.wait("d", "n", at(2))), Some(1));
        assert_eq!(left(failures.wait("d", "m", at(2))), None);
        assert_eq!(left(failures.wait("d", "n", at(4000))), None);
        assert_eq!(left(failures.wait("d", "n", at(4001))), None);
    }
}
