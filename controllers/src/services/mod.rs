//! Services: which pods stand behind each of them, as EndpointSlices and as Endpoints.

pub mod backends;
pub mod endpoints;
pub mod slices;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::DeleteParams,
    core::{Selector, SelectorExt},
};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, post, revision, work},
};

const WORKERS: usize = 4;

/// Labels of pods that a Service selects; `None` for a Service without selector, whose endpoints are made by hand.
fn selected(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    Some(labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<Key> = Queue::new();
    queue.add_changed(&caches.services);
    let (on_pod, services) = (queue.clone(), caches.services.clone());
    caches.pods.on_change(move |before, after| {
        if let (Some(before), Some(after)) = (before, after)
            && backends::same(before, after)
        {
            return;
        }
        for pod in [before, after].into_iter().flatten() {
            for service in services.in_namespace(&pod.namespace().unwrap_or_default()) {
                if selected(&service).is_some_and(|selector| selector.matches(pod.labels())) {
                    on_pod.add(Key::of(service.as_ref()));
                }
            }
        }
    });
    let on_slice = queue.clone();
    caches.slices.on_change(move |before, after| {
        if let Some(slice) = after.or(before)
            && let Some(service) = slice.labels().get(slices::SERVICE_NAME)
        {
            on_slice.add(Key::new(slice.namespace().unwrap_or_default(), service));
        }
    });
    queue.add_changed(&caches.endpoints);
    let gone: Arc<Mutex<HashSet<Key>>> = Arc::default();
    let on_service = Arc::clone(&gone);
    caches.services.on_change(move |before, after| {
        let mut gone = on_service.lock().unwrap_or_else(PoisonError::into_inner);
        match (before, after) {
            (Some(before), None) => {
                gone.insert(Key::of(before.as_ref()));
            }
            (_, Some(after)) => {
                gone.remove(&Key::of(after.as_ref()));
            }
            (None, None) => {}
        }
    });
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), gone };
    work(tasks, "endpoints", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    /// Services that were deleted and whose Endpoints may be left.
    gone: Arc<Mutex<HashSet<Key>>>,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.services.synced().await;
        self.caches.pods.synced().await;
        self.caches.slices.synced().await;
        self.caches.endpoints.synced().await;
        self.caches.nodes.synced().await;
        let service = self.caches.services.get(&key);
        let present: Vec<Arc<EndpointSlice>> = self
            .caches
            .slices
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|slice| slice.labels().get(slices::SERVICE_NAME) == Some(&key.name))
            .collect();
        let by_hand = self.caches.endpoints.get(&key);
        let Some(service) = service.filter(|service| service.metadata.deletion_timestamp.is_none()) else {
            return self.remove(&key, by_hand.as_deref()).await;
        };
        let Some(selector) = selected(&service) else {
            let wanted = by_hand.as_deref().map(|endpoints| slices::mirror(&service, endpoints)).unwrap_or_default();
            return self.write_slices(&key, slices::MIRRORING, &present, wanted).await;
        };
        let pods: Vec<Arc<Pod>> = self
            .caches
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|pod| selector.matches(pod.labels()))
            .collect();
        let now = clock::rfc3339_seconds(clock::now());
        let mut wanted = slices::of_service(&service, &pods, &now);
        slices::locate(&mut wanted, |node| self.caches.nodes.get(&Key::new("", node)));
        slices::prefer(&service, &mut wanted);
        self.write_slices(&key, slices::CONTROLLER, &present, wanted).await?;
        self.write_endpoints(&key, by_hand.as_deref(), &endpoints::of_service(&service, &pods, &now)).await
    }

    /// The slices of a Service go with it as its dependents; its Endpoints have no owner and are taken away here, also
    /// where they were made by hand. Those that were there before any Service are left.
    async fn remove(&self, key: &Key, endpoints: Option<&Endpoints>) -> Result<(), RequestError> {
        let was_there = self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let Some(endpoints) = endpoints else { return Ok(()) };
        if !was_there && !endpoints.labels().contains_key(endpoints::MANAGED_BY) {
            return Ok(());
        }
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let deleted = api.delete(&key.name, &DeleteParams::default()).await;
        deleted.attempt_unless_gone(|| format!("delete Endpoints {}/{}", key.namespace, key.name))?;
        Ok(())
    }

    async fn write_slices(
        &self,
        key: &Key,
        controller: &str,
        present: &[Arc<EndpointSlice>],
        wanted: Vec<EndpointSlice>,
    ) -> Result<(), RequestError> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let attempted = |what: &str| format!("{what} an EndpointSlice of Service {}/{}", key.namespace, key.name);
        let plan = slices::plan(controller, present, wanted);
        let mut last = 0;
        for slice in plan.create {
            let created = api.create(&post(), &slice).await.attempt(|| attempted("create"))?;
            last = last.max(revision(&created));
        }
        for slice in plan.update {
            let updated = api.replace(&slice.name_any(), &post(), &slice).await.attempt(|| attempted("update"))?;
            last = last.max(revision(&updated));
        }
        for name in plan.delete {
            api.delete(&name, &DeleteParams::default()).await.attempt_unless_gone(|| attempted("delete"))?;
        }
        self.caches.slices.caught_up(last).await;
        Ok(())
    }

    async fn write_endpoints(
        &self,
        key: &Key,
        present: Option<&Endpoints>,
        wanted: &Endpoints,
    ) -> Result<(), RequestError> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let attempted = |what: &str| format!("{what} Endpoints {}/{}", key.namespace, key.name);
        let written = match present {
            None => api.create(&post(), wanted).await.attempt(|| attempted("create"))?,
            Some(present) if endpoints::same(present, wanted) => return Ok(()),
            Some(present) => {
                let mut next = wanted.clone();
                next.metadata.resource_version.clone_from(&present.metadata.resource_version);
                api.replace(&key.name, &post(), &next).await.attempt(|| attempted("update"))?
            }
        };
        self.caches.endpoints.caught_up(revision(&written)).await;
        Ok(())
    }
}
