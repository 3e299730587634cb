//! What is used stays: a claim while pods use it, a volume while it is bound, a class while somebody names it.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttributesClass,
};
use kube::{Api, Client, Resource, ResourceExt, api::Patch};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Volumes;
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, patch, work},
};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";
const WORKERS: usize = 2;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Claim(Key),
    Volume(String),
    Class(String),
}

/// The claims that a pod uses, those that it brings included.
pub(super) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", pod.name_any(), volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// Whether a pod holds on to its claims: from when it has a node until it is gone.
fn is_placed(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

pub(super) fn spawn(
    client: &Client,
    caches: &Arc<Caches>,
    cache: &Arc<Volumes>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue: Queue<Item> = Queue::new();
    watch(&queue, caches, cache);
    let state = (client.clone(), Arc::clone(caches), Arc::clone(cache));
    work(tasks, "volume-protection", &queue, WORKERS, shutdown, state, |(client, caches, cache), item| async move {
        look(&client, &caches, &cache, &item).await
    });
}

fn watch(queue: &Queue<Item>, caches: &Arc<Caches>, cache: &Arc<Volumes>) {
    let on_claim = queue.clone();
    cache.claims.on_change(move |before, after| {
        for claim in before.into_iter().chain(after) {
            let spec = claim.spec.as_ref();
            if let Some(class) = spec.and_then(|spec| spec.volume_attributes_class_name.clone()) {
                on_claim.add(Item::Class(class));
            }
        }
        if let Some(claim) = after.filter(|claim| claim.metadata.deletion_timestamp.is_some()) {
            on_claim.add(Item::Claim(Key::of(claim.as_ref())));
        }
    });
    let on_volume = queue.clone();
    cache.volumes.on_change(move |before, after| {
        for volume in before.into_iter().chain(after) {
            on_volume.add(Item::Volume(volume.name_any()));
            let spec = volume.spec.as_ref();
            if let Some(class) = spec.and_then(|spec| spec.volume_attributes_class_name.clone()) {
                on_volume.add(Item::Class(class));
            }
        }
    });
    let on_class = queue.clone();
    cache.attributes.on_change(move |_, after| {
        if let Some(class) = after {
            on_class.add(Item::Class(class.name_any()));
        }
    });
    let on_pod = queue.clone();
    caches.pods.on_change(move |before, after| {
        if let (Some(pod), None) = (before, after) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).into_iter().for_each(|name| on_pod.add(Item::Claim(Key::new(&*namespace, name))));
        }
    });
}

async fn look(client: &Client, caches: &Caches, cache: &Volumes, item: &Item) -> Result<(), RequestError> {
    caches.pods.synced().await;
    cache.claims.synced().await;
    cache.volumes.synced().await;
    cache.attributes.synced().await;
    match item {
        Item::Claim(key) => {
            let Some(claim) = cache.claims.get(key) else { return Ok(()) };
            let used = |pod: &Arc<Pod>| is_placed(pod) && claims_of(pod).contains(&key.name);
            if caches.pods.in_namespace(&key.namespace).iter().any(used) {
                return Ok(());
            }
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
            let_go(&api, claim.as_ref(), OF_CLAIMS).await
        }
        Item::Volume(name) => {
            let Some(volume) = cache.volumes.get(&Key::new("", name)) else { return Ok(()) };
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Bound") {
                return Ok(());
            }
            let_go::<PersistentVolume>(&Api::all(client.clone()), volume.as_ref(), OF_VOLUMES).await
        }
        Item::Class(name) => {
            let Some(class) = cache.attributes.get(&Key::new("", name)) else { return Ok(()) };
            if is_named(cache, name) {
                return Ok(());
            }
            let_go::<VolumeAttributesClass>(&Api::all(client.clone()), class.as_ref(), OF_CLASSES).await
        }
    }
}

fn is_named(cache: &Volumes, class: &str) -> bool {
    let by_claims = cache.claims.all().iter().any(|claim| {
        let asked = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        let current = claim.status.as_ref().and_then(|own| own.current_volume_attributes_class_name.as_deref());
        asked == Some(class) || current == Some(class)
    });
    let of_volume =
        |volume: &PersistentVolume| volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    by_claims || cache.volumes.all().iter().any(|volume| of_volume(volume).as_deref() == Some(class))
}

/// Takes the finalizer off an object that is being deleted.
async fn let_go<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let held = object.finalizers().iter().any(|own| own == finalizer);
    if object.meta().deletion_timestamp.is_none() || !held {
        return Ok(());
    }
    let rest: Vec<&String> = object.finalizers().iter().filter(|own| *own != finalizer).collect();
    let body = json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": rest,
    }});
    let name = object.name_any();
    let done = api.patch(&name, &patch(), &Patch::Merge(body)).await;
    done.attempt_unless_gone(|| format!("take {finalizer} off {} {name}", K::kind(&()))).map(drop)
}
