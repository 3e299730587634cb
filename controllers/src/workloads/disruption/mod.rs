//! PodDisruptionBudget: how many of its pods may be disrupted just now.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::events::EventType,
};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::{
    scales::{Scale, Scaled},
    scene::{Scene, Seen},
};
use super::stale_disruption;
use crate::{
    Caches,
    runtime::{EventSink, Key, Queue, RequestError, work, write_status},
};

mod scales;
mod scene;

const WORKERS: usize = 2;

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.budgets);
    let (on_pod, budgets) = (queue.clone(), caches.budgets.clone());
    caches.pods.on_change(move |before, after| {
        let Some(pod) = after.or(before) else { return };
        let namespace = pod.namespace().unwrap_or_default();
        for budget in budgets.in_namespace(&namespace) {
            let seen = |pod: &Arc<Pod>| selector_of(&budget).is_some_and(|selector| selector.matches(pod.labels()));
            if before.is_some_and(seen) || after.is_some_and(seen) {
                on_pod.add(Key::of(budget.as_ref()));
            }
        }
    });
    stale_disruption::spawn(client, caches, shutdown, tasks);
    let events = EventSink::new(client, "controllermanager");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), events };
    work(tasks, "disruption", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

/// An empty selector selects every pod of the namespace, none selects nothing.
fn selector_of(budget: &PodDisruptionBudget) -> Option<Selector> {
    let own: &LabelSelector = budget.spec.as_ref()?.selector.as_ref()?;
    Selector::try_from(own.clone()).ok()
}

/// Whether the budget counts from what its pods are scaled to.
fn is_relative(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
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
        self.caches.budgets.synced().await;
        self.caches.pods.synced().await;
        self.caches.replica_sets.synced().await;
        self.caches.deployments.synced().await;
        self.caches.stateful_sets.synced().await;
        self.caches.replication_controllers.synced().await;
        let Some(budget) = self.caches.budgets.get(&key) else { return Ok(()) };
        let selector = selector_of(&budget);
        let pods: Vec<Arc<Pod>> = self
            .caches
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|pod| selector.as_ref().is_some_and(|selector| selector.matches(pod.labels())))
            .collect();
        let scales = if is_relative(&budget) {
            let server = scales::Server { client: &self.client, caches: &self.caches };
            scales::look(&server, &pods).await
        } else {
            BTreeMap::new()
        };
        let scene = Scene { budget: &budget, pods: &pods, scales: &scales, now: clock::now() };
        let Seen { status, again, told, late } = scene.look();
        for pod in pods.iter().filter(|pod| late.contains(&pod.name_any())) {
            // Upstream names the namespace twice.
            let of = &key.namespace;
            let note = format!("Pod was expected by PDB {of}/{of} to be deleted but it wasn't");
            self.events.publish(&pod.object_ref(&()), EventType::Warning, "NotDeleted", note).await;
        }
        for (warns, reason, note) in told {
            let kind = if warns { EventType::Warning } else { EventType::Normal };
            self.events.publish(&budget.object_ref(&()), kind, reason, note).await;
        }
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = PodDisruptionBudget { status: Some(status), ..PodDisruptionBudget::clone(&budget) };
        write_status(&all, &self.caches.budgets, &budget, updated).await?;
        if let Some(seconds) = again.and_then(|left| u64::try_from(left).ok()) {
            self.queue.add_after(key, Duration::from_secs(seconds.max(1)));
        }
        Ok(())
    }
}
