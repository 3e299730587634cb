//! ReplicaSet: so many pods of one template.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::events::EventType,
};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{claim::claim, controller_reference, pod_metadata, pods, selector};
use crate::{
    Caches,
    runtime::{Attempt, EventSink, Key, Queue, RequestError, post, revision, work},
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

fn conditions(
    old: Vec<ReplicaSetCondition>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let was = old.iter().find(|condition| condition.type_ == "ReplicaFailure").cloned();
    let mut all: Vec<_> = old.into_iter().filter(|condition| condition.type_ != "ReplicaFailure").collect();
    if let Some((reason, message)) = failure {
        let since = was.and_then(|was| was.last_transition_time).unwrap_or(Time(now));
        all.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since),
        });
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
        events: EventSink::new(client, "replicaset-controller"),
    };
    work(tasks, "replicaset", &queue, WORKERS, shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    });
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    events: EventSink,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<(), RequestError> {
        self.caches.replica_sets.synced().await;
        self.caches.pods.synced().await;
        let Some(set) = self.caches.replica_sets.get(&key) else { return Ok(()) };
        let Some(selects) = set.spec.as_ref().and_then(|spec| selector(&spec.selector)) else { return Ok(()) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let owner = controller_reference(set.as_ref());
        let deleted = set.metadata.deletion_timestamp.is_some();
        let candidates = self.caches.pods.in_namespace(&key.namespace);
        let candidates = candidates
            .into_iter()
            .filter(|pod| !pods::is_finished(pod) || super::controller_of(pod.as_ref()).is_some())
            .collect();
        let (owned, mut last) = claim(&api, candidates, &owner, deleted, &selects).await?;
        let now = clock::now();
        let plan = plan(&set, &owned, now);
        let done = self.execute(&set, &api, &plan, &mut last).await;
        let failure = done
            .as_ref()
            .err()
            .filter(|_| plan.create > 0)
            .map(|error| ("FailedCreate", crate::runtime::describe(error)));
        self.write_status(&set, &status(&set, &owned, failure, now)).await?;
        self.caches.pods.caught_up(last).await;
        if let Some(seconds) = plan.look_again_after_seconds {
            self.queue.add_after(key, std::time::Duration::from_secs(seconds));
        }
        done
    }

    async fn execute(&self, set: &ReplicaSet, api: &Api<Pod>, plan: &Plan, last: &mut u64) -> Result<(), RequestError> {
        let namespace = set.namespace().unwrap_or_default();
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        for _ in 0..plan.create {
            let metadata = pod_metadata(&template, &namespace, controller_reference(set));
            let pod = Pod { metadata, spec: template.spec.clone(), status: None };
            match api.create(&post(), &pod).await {
                Ok(pod) => {
                    *last = (*last).max(revision(&pod));
                    let note = format!("Created pod: {}", pod.name_any());
                    self.events.publish(&set.object_ref(&()), EventType::Normal, "SuccessfulCreate", note).await;
                }
                Err(error) => {
                    let note = format!("Error creating: {error}");
                    self.events.publish(&set.object_ref(&()), EventType::Warning, "FailedCreate", note).await;
                    return Err(error).attempt(|| format!("create a pod of ReplicaSet {namespace}/{}", set.name_any()));
                }
            }
        }
        for (name, uid) in &plan.delete {
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            let deleted = api.delete(name, &params).await;
            let deleted = deleted.attempt_unless_gone(|| format!("delete pod {namespace}/{name}"))?;
            if let Some(pod) = deleted.and_then(|deleted| deleted.left()) {
                *last = (*last).max(revision(&pod));
            }
            let note = format!("Deleted pod: {name}");
            self.events.publish(&set.object_ref(&()), EventType::Normal, "SuccessfulDelete", note).await;
        }
        Ok(())
    }

    async fn write_status(&self, set: &ReplicaSet, status: &ReplicaSetStatus) -> Result<(), RequestError> {
        if set.status.as_ref() == Some(status) {
            return Ok(());
        }
        let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let updated = ReplicaSet { status: Some(status.clone()), ..set.clone() };
        let written = api.replace_status(&name, &post(), &updated).await;
        if let Some(written) =
            written.attempt_unless_gone(|| format!("write the status of ReplicaSet {namespace}/{name}"))?
        {
            self.caches.replica_sets.caught_up(revision(&written)).await;
        }
        Ok(())
    }
}
