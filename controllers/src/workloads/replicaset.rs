//! ReplicaSet: so many pods of one template.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    claim::claim,
    pod_control::{Owner, PodControl},
    pods, selector,
};
use crate::{
    Caches,
    runtime::{Key, Queue, RequestError, work, write_status},
};

/// How many pods are made or deleted in one pass: a mistake in a template must not flood the server.
const BURST: usize = 500;
const WORKERS: usize = 4;

/// What one pass does.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// How many pods to make.
    pub create: usize,
    /// Names and uids of the pods to delete.
    pub delete: Vec<(String, String)>,
    /// In how many seconds a pod will have been ready for long enough.
    pub look_again_after_seconds: Option<u64>,
}

/// What to do for `set`, given the pods that are its own.
#[must_use]
pub fn plan(set: &ReplicaSet, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let spec = set.spec.as_ref();
    let wanted = usize::try_from(spec.and_then(|spec| spec.replicas).unwrap_or(1)).unwrap_or(0);
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let mut active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let look_again_after_seconds = active
        .iter()
        .filter(|pod| !pods::is_available(pod, min_ready, now))
        .filter_map(|pod| pods::ready_since(pod))
        .filter_map(|since| u64::try_from(since.as_second() + i64::from(min_ready) - now.as_second()).ok())
        .map(|seconds| seconds.max(1))
        .min();
    let mut plan = Plan { create: 0, delete: Vec::new(), look_again_after_seconds };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    plan.create = wanted.saturating_sub(active.len()).min(BURST);
    let excess = active.len().saturating_sub(wanted).min(BURST);
    active.sort_by(|a, b| pods::by_deletion_preference(a, b));
    plan.delete = active.iter().take(excess).map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect();
    plan
}

/// The status of `set`, given its pods and the failure of the last pass, if it failed.
#[must_use]
pub fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template_labels =
        spec.and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let fully_labeled = |pod: &Pod| template_labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let unless_zero = |count: i32| (count != 0).then_some(count);
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod)).count();
    let old = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: unless_zero(count(&fully_labeled)),
        ready_replicas: unless_zero(count(&|pod| pods::ready_since(pod).is_some())),
        available_replicas: unless_zero(count(&|pod| pods::is_available(pod, min_ready, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old, failure, now),
    }
}

/// What a pass failed at, and why.
fn failure(plan: &Plan, done: &Result<(), RequestError>) -> Option<(&'static str, String)> {
    let error = done.as_ref().err()?;
    Some((if plan.create > 0 { "FailedCreate" } else { "FailedDelete" }, error.said()))
}

/// A failure stays as it was first told, until nothing fails any more: telling each anew would bring the next.
fn conditions(
    old: Vec<ReplicaSetCondition>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let failing = old.iter().any(|condition| condition.type_ == "ReplicaFailure");
    let mut all = old;
    match failure {
        Some((reason, message)) if !failing => all.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => all.retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    (!all.is_empty()).then_some(all)
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.replica_sets);
    queue.add_controllers_of(&caches.pods, &caches.replica_sets);
    let controller = Controller {
        client: client.clone(),
        caches: Arc::clone(caches),
        queue: queue.clone(),
        pods: PodControl::new(client, "replicaset-controller"),
    };
    work(tasks, "replicaset", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    pods: PodControl,
}

/// Carries out a plan; `last` becomes the revision of the last write.
async fn execute(
    control: &PodControl,
    owner: &Owner,
    template: &PodTemplateSpec,
    plan: &Plan,
    last: &mut u64,
) -> Result<(), RequestError> {
    for _ in 0..plan.create {
        *last = (*last).max(control.create(owner, &owner.pod(template)).await?);
    }
    for (name, uid) in &plan.delete {
        *last = (*last).max(control.delete(owner, name, uid).await?);
    }
    Ok(())
}

/// What came of one pass over the pods of a set.
pub(super) struct Pass {
    /// What the set says of itself from now on.
    pub(super) status: ReplicaSetStatus,
    /// The revision of the last write.
    pub(super) last: u64,
    /// In how long a pod will have been ready for long enough.
    pub(super) look_again: Option<Duration>,
    /// Whether all was done that was to be.
    pub(super) done: Result<(), RequestError>,
}

/// Claims the pods of a set for its owner, and makes and deletes what is to be; nothing where the set selects nothing.
pub(super) async fn pass(
    control: &PodControl,
    caches: &Caches,
    namespace: &str,
    set: &ReplicaSet,
    owner: &Owner,
) -> Result<Option<Pass>, RequestError> {
    let Some(selects) = set.spec.as_ref().and_then(|spec| selector(&spec.selector)) else { return Ok(None) };
    let deleted = set.metadata.deletion_timestamp.is_some();
    let candidates = pods::claimable(caches.pods.in_namespace(namespace));
    let api = control.api(namespace);
    let (owned, mut last) = claim(&api, candidates, &owner.reference, deleted, &selects).await?;
    let now = clock::now();
    let plan = plan(set, &owned, now);
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let done = execute(control, owner, &template, &plan, &mut last).await;
    let status = status(set, &owned, failure(&plan, &done), now);
    let look_again = plan.look_again_after_seconds.map(Duration::from_secs);
    Ok(Some(Pass { status, last, look_again, done }))
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.replica_sets.synced().await;
        self.caches.pods.synced().await;
        let Some(set) = self.caches.replica_sets.get(&key) else { return Ok(()) };
        let owner = Owner::of(set.as_ref());
        let Some(pass) = pass(&self.pods, &self.caches, &key.namespace, &set, &owner).await? else { return Ok(()) };
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = ReplicaSet { status: Some(pass.status), ..ReplicaSet::clone(&set) };
        write_status(&all, &self.caches.replica_sets, &set, updated).await?;
        self.caches.pods.caught_up(pass.last).await;
        if let Some(delay) = pass.look_again {
            self.queue.add_after(key, delay);
        }
        pass.done
    }
}
