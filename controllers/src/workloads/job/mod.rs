//! Job: pods that run to their end, so many times.

mod indexes;
mod plan;
mod pod;
mod policy;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, Preconditions},
    runtime::events::EventType,
};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use plan::{Plan, is, is_finished, plan};

use super::{
    claim::claim,
    controller_of,
    pod_control::{Owner, PodControl},
    pods, selector,
};
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, patch, revision, work, write_status},
};

const WORKERS: usize = 4;
/// Who manages Jobs that name nobody else.
const OURSELVES: &str = "kubernetes.io/job-controller";

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.jobs);
    queue.add_controllers_of(&caches.pods, &caches.jobs);
    let on_orphan = queue.clone();
    caches.pods.on_change(move |_, after| {
        if let Some(pod) = after.filter(|pod| pod::is_tracked(pod) && controller_of(pod.as_ref()).is_none()) {
            // No Job has this name: what is tracked and nobody's is let go.
            on_orphan.add(Key::new(pod.namespace().unwrap_or_default(), ""));
        }
    });
    let pods = PodControl::new(client, "job-controller");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), pods };
    work(tasks, "job", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    pods: PodControl,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.jobs.synced().await;
        self.caches.pods.synced().await;
        let job = self.caches.jobs.get(&key);
        self.release_orphans(&key, job.as_deref()).await?;
        let Some(job) = job else { return Ok(()) };
        let Some(spec) = &job.spec else { return Ok(()) };
        if spec.managed_by.as_deref().is_some_and(|manager| manager != OURSELVES) {
            return Ok(());
        }
        let now = clock::now();
        if let Some(left) = time_to_live(&job, now) {
            if left <= 0 {
                return self.remove(&job).await;
            }
            self.queue.add_after(key.clone(), Duration::from_secs(u64::try_from(left).unwrap_or(1)));
        }
        let Some(selects) = spec.selector.as_ref().and_then(selector) else { return Ok(()) };
        let owner = Owner::of(job.as_ref());
        let deleted = job.metadata.deletion_timestamp.is_some();
        let candidates = pods::claimable(self.caches.pods.in_namespace(&key.namespace));
        let api = self.pods.api(&key.namespace);
        let (owned, mut last) = claim(&api, candidates, &owner.reference, deleted, &selects).await?;
        let plan = plan(&job, &owned, now);
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = Job { status: Some(plan.status.clone()), ..Job::clone(&job) };
        if !write_status(&all, &self.caches.jobs, &job, updated).await? {
            return Ok(());
        }
        self.tell_turns(&owner, job.status.as_ref(), &plan.status).await;
        let done = self.execute(&job, &owner, &plan, &mut last).await;
        self.caches.pods.caught_up(last).await;
        if let Some(seconds) = plan.look_again_after_seconds {
            self.queue.add_after(key, Duration::from_secs(seconds));
        }
        done
    }

    async fn execute(&self, job: &Job, owner: &Owner, plan: &Plan, last: &mut u64) -> Result<(), RequestError> {
        for name in &plan.release {
            *last = (*last).max(self.release(&owner.namespace, name).await?);
        }
        for (name, uid) in &plan.delete {
            if plan.delete_uncounted {
                self.release(&owner.namespace, name).await?;
            }
            *last = (*last).max(self.pods.delete(owner, name, uid).await?);
        }
        for wanted in &plan.create {
            *last = (*last).max(self.pods.create(owner, &pod::make(job, owner, *wanted)).await?);
        }
        Ok(())
    }

    /// Lets a pod go that was counted.
    async fn release(&self, namespace: &str, name: &str) -> Result<u64, RequestError> {
        let key = Key::new(namespace, name);
        if self.caches.pods.get(&key).is_some_and(|pod| !pod::is_tracked(&pod)) {
            return Ok(0);
        }
        let body = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [pod::FINALIZER]}});
        let released = self.pods.api(namespace).patch(name, &patch(), &Patch::Strategic(body)).await;
        let released = released.attempt_unless_gone(|| format!("let go of pod {namespace}/{name}"))?;
        Ok(released.map_or(0, |pod| revision(&pod)))
    }

    /// Pods whose Job is gone, or that are nobody's any more, are counted by nobody.
    async fn release_orphans(&self, key: &Key, job: Option<&Job>) -> Result<(), RequestError> {
        let lost = |pod: &Pod| match controller_of(pod) {
            Some(owner) if owner.kind == "Job" && owner.name == key.name => {
                job.is_none_or(|job| job.metadata.uid.as_ref() != Some(&owner.uid))
            }
            Some(_) => false,
            None => key.name.is_empty(),
        };
        let all = self.caches.pods.in_namespace(&key.namespace);
        for pod in all.iter().filter(|pod| pod::is_tracked(pod) && lost(pod)) {
            self.release(&key.namespace, &pod.name_any()).await?;
        }
        Ok(())
    }

    /// The Job's time after its end is over.
    async fn remove(&self, job: &Job) -> Result<(), RequestError> {
        let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
        let preconditions = Preconditions { uid: job.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::foreground() };
        let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let removed = api.delete(&name, &params).await;
        removed.attempt_unless_gone(|| format!("delete Job {namespace}/{name} after its time")).map(|_| ())
    }

    async fn tell_turns(&self, owner: &Owner, before: Option<&JobStatus>, after: &JobStatus) {
        let was = |condition: &str| before.is_some_and(|before| is(before, condition));
        let of = |condition: &str| after.conditions.iter().flatten().find(|own| own.type_ == condition);
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let mut told: Vec<(EventType, String, String)> = Vec::new();
        match (was("Suspended"), is(after, "Suspended")) {
            (false, true) => told.push((EventType::Normal, "Suspended".to_owned(), "Job suspended".to_owned())),
            (true, false) => told.push((EventType::Normal, "Resumed".to_owned(), "Job resumed".to_owned())),
            _ => {}
        }
        if !was("Complete") && is(after, "Complete") {
            told.push((EventType::Normal, "Completed".to_owned(), "Job completed".to_owned()));
        }
        if !was("Failed") && is(after, "Failed") {
            let own = of("Failed");
            let reason = text(own.and_then(|own| own.reason.as_ref()));
            told.push((EventType::Warning, reason, text(own.and_then(|own| own.message.as_ref()))));
        }
        for (kind, reason, note) in told {
            self.pods.tell(owner, kind, &reason, note).await;
        }
    }
}

/// Seconds until an ended Job is to go; none where it stays.
fn time_to_live(job: &Job, now: Timestamp) -> Option<i64> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let status = job.status.as_ref()?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ended = status
        .conditions
        .iter()
        .flatten()
        .find(|own| matches!(own.type_.as_str(), "Complete" | "Failed") && own.status == "True")?;
    let since = ended.last_transition_time.as_ref()?.0;
    Some(since.as_second() + i64::from(ttl) - now.as_second())
}
