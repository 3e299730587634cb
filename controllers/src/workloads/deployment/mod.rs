//! Deployment: a template rolled out through ReplicaSets, one per version of the template.

mod plan;
mod progress;
mod replica_set;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, Preconditions},
    runtime::events::EventType,
};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use plan::{Plan, Scale, plan};
use progress::Step;

use super::{claim::claim, controller_reference, rollout::REVISION, selector};
use crate::{
    Caches,
    runtime::{
        Attempt, EventSink, Key, Queue, RequestError, is_namespace_terminating, patch, post, revision, said, work,
        write_status,
    },
};

const WORKERS: usize = 4;

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.deployments);
    queue.add_controllers_of(&caches.replica_sets, &caches.deployments);
    let events = EventSink::new(client, "deployment-controller");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), events };
    work(tasks, "deployment", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    events: EventSink,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.deployments.synced().await;
        self.caches.replica_sets.synced().await;
        let Some(deployment) = self.caches.deployments.get(&key) else { return Ok(()) };
        let Some(selects) = deployment.spec.as_ref().and_then(|spec| selector(&spec.selector)) else { return Ok(()) };
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let deleted = deployment.metadata.deletion_timestamp.is_some();
        let candidates = self.caches.replica_sets.in_namespace(&key.namespace);
        let owner = controller_reference(deployment.as_ref());
        let (owned, claimed) = claim(&sets, candidates, &owner, deleted, &selects).await?;
        let now = clock::now();
        let plan = plan(&deployment, &owned, now);
        let mut step = Step { resized: plan.resized, ..Step::default() };
        let executed = self.execute(&deployment, &sets, &plan, &mut step).await;
        if let Ok(written) = &executed {
            self.caches.replica_sets.caught_up((*written).max(claimed)).await;
        }
        if executed.is_ok() || step.failed.is_some() {
            self.write_deployment(&deployment, &plan, &step, now).await?;
        }
        executed?;
        if let Some(seconds) = plan.look_again_after_seconds {
            self.queue.add_after(key, Duration::from_secs(seconds));
        }
        Ok(())
    }

    async fn execute(
        &self,
        deployment: &Deployment,
        api: &Api<ReplicaSet>,
        plan: &Plan,
        step: &mut Step,
    ) -> Result<u64, RequestError> {
        let mut last = 0;
        if let Some(set) = &plan.create {
            last = last.max(self.create(deployment, api, set, step).await?);
        }
        for scale in &plan.scale {
            last = last.max(self.scale(deployment, api, scale).await?);
        }
        for (name, uid) in &plan.delete {
            let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::background() };
            api.delete(name, &params).await.attempt_unless_gone(|| format!("delete ReplicaSet {name}"))?;
        }
        Ok(last)
    }

    async fn create(
        &self,
        deployment: &Deployment,
        api: &Api<ReplicaSet>,
        set: &ReplicaSet,
        step: &mut Step,
    ) -> Result<u64, RequestError> {
        let name = set.name_any();
        let what = format!("create ReplicaSet {name} of Deployment {}", deployment.name_any());
        let attempted = || what.clone();
        match api.create(&post(), set).await {
            Ok(created) => {
                let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                if replicas > 0 {
                    self.tell_scaled(deployment, &name, 0, replicas).await;
                }
                step.made = Some(name);
                Ok(revision(&created))
            }
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let present = api.get(&name).await.attempt(attempted)?;
                let ours = super::controller_of(&present)
                    .is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
                if ours && replica_set::same_template(deployment, &present) {
                    return Ok(revision(&present));
                }
                self.count_collision(deployment).await?;
                Ok(0)
            }
            Err(error) if is_namespace_terminating(&error) => Err(error).attempt(attempted),
            Err(error) => {
                let note = format!("Failed to create new replica set {name:?}: {}", said(&error));
                let object = deployment.object_ref(&());
                self.events.publish(&object, EventType::Warning, "ReplicaSetCreateError", note.clone()).await;
                step.failed = Some(note);
                Err(error).attempt(attempted)
            }
        }
    }

    /// Another object has the name that the template's hash gives: the next hash counts the collision in.
    async fn count_collision(&self, deployment: &Deployment) -> Result<(), RequestError> {
        let mut updated = deployment.clone();
        let count = &mut updated.status.get_or_insert_default().collision_count;
        *count = Some(count.unwrap_or(0) + 1);
        self.write_status(deployment, updated).await
    }

    async fn scale(&self, deployment: &Deployment, api: &Api<ReplicaSet>, scale: &Scale) -> Result<u64, RequestError> {
        let body = json!({
            "metadata": {"resourceVersion": scale.resource_version, "annotations": scale.annotations},
            "spec": {"replicas": scale.to, "minReadySeconds": scale.min_ready_seconds},
        });
        let scaled = api.patch(&scale.name, &patch(), &Patch::Merge(body)).await;
        let scaled = scaled.attempt(|| format!("scale ReplicaSet {} to {}", scale.name, scale.to))?;
        if scale.from != scale.to {
            self.tell_scaled(deployment, &scale.name, scale.from, scale.to).await;
        }
        Ok(revision(&scaled))
    }

    async fn tell_scaled(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        let note = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.events.publish(&deployment.object_ref(&()), EventType::Normal, "ScalingReplicaSet", note).await;
    }

    async fn write_deployment(
        &self,
        deployment: &Deployment,
        plan: &Plan,
        step: &Step,
        now: Timestamp,
    ) -> Result<(), RequestError> {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let mut current = deployment.clone();
        let number = plan.revision.as_ref().filter(|_| step.failed.is_none());
        if let Some(number) = number.filter(|number| deployment.annotations().get(REVISION) != Some(number)) {
            let body = json!({"metadata": {"annotations": {REVISION: number}}});
            // Through the status, as upstream's controller does: so the annotation is told of as the controller's.
            let annotated = api.patch_status(&name, &patch(), &Patch::Merge(body)).await;
            match annotated.attempt_unless_gone(|| format!("annotate Deployment {namespace}/{name}"))? {
                Some(annotated) => current = annotated,
                None => return Ok(()),
            }
        }
        // The sets are read anew: the status is to tell what the plan has led to, not what it started from.
        let owned = self.caches.replica_sets.controlled_by(deployment.metadata.uid.as_deref().unwrap_or_default());
        let status = Some(progress::status(&current, &owned, step, now));
        let updated = Deployment { status, ..current.clone() };
        self.write_status(&current, updated).await
    }

    async fn write_status(&self, before: &Deployment, updated: Deployment) -> Result<(), RequestError> {
        let all = Api::namespaced(self.client.clone(), before.metadata.namespace.as_deref().unwrap_or_default());
        write_status(&all, &self.caches.deployments, before, updated).await.map(drop)
    }
}
