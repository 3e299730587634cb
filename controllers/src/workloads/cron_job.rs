//! CronJob: a Job made at each time of a schedule.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{CronJob, CronJobStatus, Job},
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

use super::pod_control::Owner;
use crate::{
    Caches,
    runtime::{
        Attempt, EventSink, Key, Queue, RequestError, is_namespace_terminating, post, revision, said, work,
        write_status,
    },
};

mod plan;

pub use plan::{Plan, Told, make, plan};

use plan::reference;

const WORKERS: usize = 2;

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.cron_jobs);
    queue.add_controllers_of(&caches.jobs, &caches.cron_jobs);
    let events = EventSink::new(client, "cronjob-controller");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), events };
    work(tasks, "cronjob", &queue, WORKERS, shutdown, controller, Controller::reconcile);
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
        self.caches.cron_jobs.synced().await;
        self.caches.jobs.synced().await;
        let Some(cron) = self.caches.cron_jobs.get(&key) else { return Ok(()) };
        let jobs = self.caches.jobs.controlled_by(cron.metadata.uid.as_deref().unwrap_or_default());
        let now = clock::now();
        let mut plan = plan(&cron, &jobs, now);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        for (name, uid) in &plan.delete {
            let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::background() };
            api.delete(name, &params).await.attempt_unless_gone(|| format!("delete Job {}/{name}", key.namespace))?;
            self.tell(&cron, EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}")).await;
        }
        for told in std::mem::take(&mut plan.told) {
            let kind = if told.warns { EventType::Warning } else { EventType::Normal };
            self.tell(&cron, kind, told.reason, told.note).await;
        }
        if let Some(due) = plan.make {
            self.make(&cron, &api, due, &mut plan.status).await?;
        }
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let before = CronJob { status: Some(cron.status.clone().unwrap_or_default()), ..CronJob::clone(&cron) };
        let updated = CronJob { status: Some(plan.status), ..before.clone() };
        write_status(&all, &self.caches.cron_jobs, &before, updated).await?;
        if let Some(next) = plan.next {
            let pause = next.as_second().saturating_sub(clock::now().as_second()).max(0);
            // Not before the second begins: a time that is looked at too early is not due yet.
            self.queue.add_after(key, Duration::from_secs(u64::try_from(pause).unwrap_or(0) + 1));
        }
        Ok(())
    }

    async fn make(
        &self,
        cron: &CronJob,
        api: &Api<Job>,
        due: Timestamp,
        status: &mut CronJobStatus,
    ) -> Result<(), RequestError> {
        let job = make(cron, &Owner::of(cron), due);
        let name = job.name_any();
        match api.create(&post(), &job).await {
            Ok(made) => {
                self.tell(cron, EventType::Normal, "SuccessfulCreate", format!("Created job {name}")).await;
                status.active.get_or_insert_default().push(reference(&made));
                self.caches.jobs.caught_up(revision(&made)).await;
            }
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            Err(error) if is_namespace_terminating(&error) => {
                return Err(error).attempt(|| format!("create Job {name} of CronJob {}", cron.name_any()));
            }
            Err(error) => {
                let note = format!("Error creating job: {}", said(&error));
                self.tell(cron, EventType::Warning, "FailedCreate", note).await;
                return Err(error).attempt(|| format!("create Job {name} of CronJob {}", cron.name_any()));
            }
        }
        status.last_schedule_time = Some(Time(due));
        Ok(())
    }

    async fn tell(&self, cron: &CronJob, kind: EventType, reason: &str, note: String) {
        self.events.publish(&cron.object_ref(&()), kind, reason, note).await;
    }
}
