//! Binds claims to volumes, and takes volumes back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{Api, Client, Resource, ResourceExt, api::Patch, runtime::events::EventType};
use martello_api::clock;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Volumes,
    bind::{self, BY_CONTROLLER, COMPLETED, ClaimStep, Note, VolumeStep},
    protection::claims_of,
};
use crate::{
    Caches,
    runtime::{Attempt, EventSink, Informer, Key, Queue, RequestError, patch, post, revision, work, write_status},
    workloads::pods,
};

/// How often what waits is looked at again, and told of again if it is few, as upstream's default: its events count up,
/// and outlive others.
const RESYNC: Duration = Duration::from_secs(15);
/// So many claims are told of again at about every look; the more there are, the less often.
const FEW: usize = 100;
/// Most notes that wait to be written; what is too much is told at a later look.
const MAX_UNWRITTEN: usize = 1024;
/// One at a time: two claims must not get one volume.
const WORKERS: usize = 1;
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
/// Of the class that claims without a class get.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Claim(Key),
    Volume(String),
}

#[derive(Clone)]
struct Binder {
    client: Client,
    cache: Arc<Volumes>,
    pods: Informer<Pod>,
    events: EventSink,
    /// What is to be told of claims: written elsewhere, so that no binding waits for it.
    notes: mpsc::Sender<(ObjectReference, Note)>,
    told: Arc<Mutex<Told>>,
}

/// What was last told of each claim that isn't bound, by uid, and when.
#[derive(Default)]
struct Told(HashMap<String, (String, Timestamp)>);

impl Told {
    /// Whether this is to be told: the same is told again only after a while, which is longer the more claims wait.
    fn is_due(&mut self, uid: &str, message: &str, now: Timestamp) -> bool {
        let looks = u32::try_from(self.0.len() / FEW).unwrap_or(u32::MAX).saturating_add(1);
        let period = SignedDuration::try_from(RESYNC.saturating_mul(looks)).unwrap_or(SignedDuration::MAX);
        let is_due = self.0.get(uid).is_none_or(|(told, at)| told != message || now.duration_since(*at) >= period);
        if is_due {
            self.0.insert(uid.to_owned(), (message.to_owned(), now));
        }
        is_due
    }
}

pub(super) fn spawn(
    client: &Client,
    caches: &Caches,
    cache: &Arc<Volumes>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue: Queue<Item> = Queue::new();
    let told: Arc<Mutex<Told>> = Arc::default();
    watch(&queue, cache, &told);
    let (again, claims, stop) = (queue.clone(), Arc::clone(cache), shutdown.clone());
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(RESYNC)).await.is_some() {
            add_waiting(&again, &claims);
        }
    });
    let on_pod = queue.clone();
    caches.pods.on_change(move |before, after| {
        if let (None, Some(pod)) = (before, after) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).into_iter().for_each(|claim| on_pod.add(Item::Claim(Key::new(&*namespace, claim))));
        }
    });
    let (notes, unwritten) = mpsc::channel(MAX_UNWRITTEN);
    let events = EventSink::new(client, "persistentvolume-controller");
    tasks.spawn(write(unwritten, events.clone(), shutdown.clone()));
    let binder =
        Binder { client: client.clone(), cache: Arc::clone(cache), pods: caches.pods.clone(), events, notes, told };
    work(tasks, "persistentvolume-binder", &queue, WORKERS, shutdown, binder, |binder, item| async move {
        binder.look(&item).await
    });
}

/// Writes what is told.
async fn write(mut unwritten: mpsc::Receiver<(ObjectReference, Note)>, events: EventSink, stop: CancellationToken) {
    while let Some(Some((about, note))) = stop.run_until_cancelled(unwritten.recv()).await {
        let type_ = if note.warning { EventType::Warning } else { EventType::Normal };
        events.publish(&about, type_, note.reason, note.message).await;
    }
}

/// What changes when, and is to be looked at then.
fn watch(queue: &Queue<Item>, cache: &Arc<Volumes>, told: &Arc<Mutex<Told>>) {
    let (on_claim, told) = (queue.clone(), Arc::clone(told));
    cache.claims.on_change(move |before, after| {
        for claim in before.into_iter().chain(after) {
            on_claim.add(Item::Claim(Key::of(claim.as_ref())));
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
            if let Some(volume) = volume.filter(|volume| !volume.is_empty()) {
                on_claim.add(Item::Volume(volume));
            }
        }
        let done = after.is_none_or(|claim| phase(claim) == "Bound");
        if let Some(claim) = before.filter(|_| done) {
            told.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&claim.uid().unwrap_or_default());
        }
    });
    let (on_volume, claims) = (queue.clone(), Arc::clone(cache));
    cache.volumes.on_change(move |_, after| {
        if let Some(volume) = after {
            on_volume.add(Item::Volume(volume.name_any()));
        }
        add_waiting(&on_volume, &claims);
    });
    let (on_class, claims) = (queue.clone(), Arc::clone(cache));
    cache.classes.on_change(move |_, _| add_waiting(&on_class, &claims));
}

/// Claims that are not bound look again.
fn add_waiting(queue: &Queue<Item>, cache: &Volumes) {
    let waiting = |claim: &&Arc<PersistentVolumeClaim>| phase(claim) != "Bound" || claim.spec.is_none();
    for claim in cache.claims.all().iter().filter(waiting) {
        queue.add(Item::Claim(Key::of(claim.as_ref())));
    }
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

impl Binder {
    async fn look(&self, item: &Item) -> Result<(), RequestError> {
        self.cache.claims.synced().await;
        self.cache.volumes.synced().await;
        self.cache.classes.synced().await;
        self.pods.synced().await;
        match item {
            Item::Claim(key) => self.look_at_claim(key).await,
            Item::Volume(name) => self.look_at_volume(name).await,
        }
    }

    async fn look_at_claim(&self, key: &Key) -> Result<(), RequestError> {
        let Some(claim) = self.cache.claims.get(key) else { return Ok(()) };
        if claim.metadata.deletion_timestamp.is_some() && phase(&claim) != "Bound" {
            return Ok(());
        }
        if self.give_default_class(&claim).await? {
            return Ok(());
        }
        let volumes = self.cache.volumes.all();
        let class = self.cache.classes.get(&Key::new("", bind::class_of_claim(&claim)));
        match bind::claim_step(&claim, &volumes, class.as_deref()) {
            ClaimStep::Bind(volume) => self.bind(&claim, &volume).await,
            ClaimStep::Wait(note) => {
                let note = match note {
                    Some(note) if note.reason == bind::FIRST_CONSUMER => Some(self.waiting_for(key).unwrap_or(note)),
                    other => other,
                };
                self.tell(&claim, note);
                self.set_phase(&claim, "Pending").await
            }
            ClaimStep::Provision(provisioner, note) => {
                self.ask_provisioner(&claim, &provisioner).await?;
                self.tell(&claim, note);
                self.set_phase(&claim, "Pending").await
            }
            ClaimStep::Lose(note) => {
                self.tell(&claim, note);
                self.set_phase(&claim, "Lost").await
            }
        }
    }

    /// Which pods have to find a node before a claim is bound; none if no pod uses it.
    fn waiting_for(&self, claim: &Key) -> Option<Note> {
        let pods = self.pods.in_namespace(&claim.namespace);
        let waits = |pod: &&Arc<Pod>| {
            let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            placed.is_empty() && pods::is_active(pod) && claims_of(pod).contains(&claim.name)
        };
        let names: Vec<String> = pods.iter().filter(waits).map(|pod| pod.name_any()).collect();
        let message = match names.as_slice() {
            [] => return None,
            [name] => format!("waiting for pod {name} to be scheduled"),
            names => format!("waiting for pods {} to be scheduled", names.join(",")),
        };
        Some(Note { warning: false, reason: "WaitForPodScheduled", message })
    }

    /// A claim that was made before there was a default class gets it now. Answers whether it did.
    async fn give_default_class(&self, claim: &PersistentVolumeClaim) -> Result<bool, RequestError> {
        let spec = claim.spec.clone().unwrap_or_default();
        let old = claim.annotations().keys().any(|key| key == "volume.beta.kubernetes.io/storage-class");
        if spec.storage_class_name.is_some() || spec.volume_name.is_some_and(|name| !name.is_empty()) || old {
            return Ok(false);
        }
        let is_default = |class: &&Arc<StorageClass>| {
            DEFAULT_CLASS.iter().any(|key| class.annotations().get(*key).is_some_and(|on| on == "true"))
        };
        let classes = self.cache.classes.all();
        let newest = classes.iter().filter(is_default).max_by_key(|class| {
            (class.metadata.creation_timestamp.as_ref().map(|time| time.0), std::cmp::Reverse(class.name_any()))
        });
        let Some(class) = newest else { return Ok(false) };
        let body = json!({"metadata": {"uid": claim.uid()}, "spec": {"storageClassName": class.name_any()}});
        self.patch_claim(claim, &body).await?;
        Ok(true)
    }

    async fn ask_provisioner(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), RequestError> {
        if PROVISIONER.iter().all(|key| claim.annotations().get(*key).is_some_and(|own| own == provisioner)) {
            return Ok(());
        }
        let annotations: HashMap<&str, &str> = PROVISIONER.iter().map(|key| (*key, provisioner)).collect();
        self.patch_claim(claim, &json!({"metadata": {"uid": claim.uid(), "annotations": annotations}})).await
    }

    async fn patch_claim(&self, claim: &PersistentVolumeClaim, body: &serde_json::Value) -> Result<(), RequestError> {
        let key = Key::of(claim);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let done = api.patch(&key.name, &patch(), &Patch::Merge(body)).await;
        let done = done.attempt(|| format!("change PersistentVolumeClaim {}/{}", key.namespace, key.name))?;
        self.cache.claims.caught_up(revision(&done)).await;
        Ok(())
    }

    /// Carries a binding out, side by side; what is done already is left.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), RequestError> {
        let volume = self.bind_volume(claim, volume).await?;
        if !self.set_volume_phase(&volume, "Bound", None).await? {
            return Ok(());
        }
        let claim = self.bind_claim(claim, &volume).await?;
        self.set_bound(&claim, &volume).await
    }

    async fn bind_volume(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<PersistentVolume, RequestError> {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if reference.is_some_and(|reference| reference.uid.is_some() && reference.uid == claim.uid()) {
            return Ok(volume.clone());
        }
        let mut new = volume.clone();
        if reference.is_none() {
            new.annotations_mut().insert(BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        new.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: claim.namespace(),
            name: claim.metadata.name.clone(),
            uid: claim.uid(),
            resource_version: claim.resource_version(),
            field_path: None,
        });
        self.replace_volume(&new).await
    }

    /// Writes a volume that is still as it was read.
    async fn replace_volume(&self, new: &PersistentVolume) -> Result<PersistentVolume, RequestError> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = new.name_any();
        let done = api.replace(&name, &post(), new).await;
        let done = done.attempt(|| format!("change PersistentVolume {name}"))?;
        self.cache.volumes.caught_up(revision(&done)).await;
        Ok(done)
    }

    async fn bind_claim(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<PersistentVolumeClaim, RequestError> {
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        if named == volume.name_any() && claim.annotations().contains_key(COMPLETED) {
            return Ok(claim.clone());
        }
        let mut new = claim.clone();
        if named != volume.name_any() {
            new.spec.get_or_insert_default().volume_name = Some(volume.name_any());
            new.annotations_mut().insert(BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        new.annotations_mut().insert(COMPLETED.to_owned(), "yes".to_owned());
        let key = Key::of(claim);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let done = api.replace(&key.name, &post(), &new).await;
        let done = done.attempt(|| format!("bind PersistentVolumeClaim {}/{}", key.namespace, key.name))?;
        self.cache.claims.caught_up(revision(&done)).await;
        Ok(done)
    }

    async fn set_bound(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), RequestError> {
        let has = volume.spec.clone().unwrap_or_default();
        let mut updated = claim.clone();
        let status = updated.status.get_or_insert_default();
        // What the claim has only grows by whoever resizes the volume.
        let fresh = status.phase.as_deref() != Some("Bound");
        status.phase = Some("Bound".to_owned());
        status.access_modes = has.access_modes;
        if fresh || status.capacity.is_none() {
            status.capacity = has.capacity;
        }
        if let Some(class) = has.volume_attributes_class_name.filter(|class| !class.is_empty() && fresh) {
            status.current_volume_attributes_class_name = Some(class);
        }
        self.write_claim_status(claim, updated).await
    }

    async fn set_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<(), RequestError> {
        let mut updated = claim.clone();
        updated.status.get_or_insert_default().phase = Some(phase.to_owned());
        self.write_claim_status(claim, updated).await
    }

    async fn write_claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        updated: PersistentVolumeClaim,
    ) -> Result<(), RequestError> {
        let all = Api::namespaced(self.client.clone(), claim.metadata.namespace.as_deref().unwrap_or_default());
        write_status(&all, &self.cache.claims, claim, updated).await.map(drop)
    }

    async fn look_at_volume(&self, name: &str) -> Result<(), RequestError> {
        let Some(volume) = self.cache.volumes.get(&Key::new("", name)) else { return Ok(()) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let key = Key::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let claim = self.cache.claims.get(&key);
        match bind::volume_step(&volume, claim.as_deref()) {
            VolumeStep::Phase(phase) => self.set_volume_phase(&volume, phase, None).await.map(drop),
            VolumeStep::Fail(why) => {
                let object = volume.object_ref(&());
                self.events.publish(&object, EventType::Warning, "VolumeFailedDelete", why.clone()).await;
                self.set_volume_phase(&volume, "Failed", Some(why)).await.map(drop)
            }
            VolumeStep::Free => {
                let mut new = volume.as_ref().clone();
                new.annotations_mut().remove(BY_CONTROLLER);
                new.spec.get_or_insert_default().claim_ref = None;
                self.replace_volume(&new).await.map(drop)
            }
            VolumeStep::Stay => Ok(()),
        }
    }

    /// Answers whether the volume is still there.
    async fn set_volume_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<String>,
    ) -> Result<bool, RequestError> {
        let mut updated = volume.clone();
        let status = updated.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = message;
        write_status(&Api::all(self.client.clone()), &self.cache.volumes, volume, updated).await
    }

    fn tell(&self, claim: &PersistentVolumeClaim, note: Option<Note>) {
        let Some(note) = note else { return };
        let uid = claim.uid().unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_due(&uid, &note.message, clock::now());
        if is_due && self.notes.try_send((claim.object_ref(&()), note)).is_err() {
            told.0.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_again_after_a_while() {
        let mut told = Told::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(told.is_due("a", "none fits", at(0)) && told.is_due("b", "none fits", at(1)));
        assert!(!told.is_due("a", "none fits", at(14)));
        assert!(told.is_due("a", "none fits", at(15)) && !told.is_due("a", "none fits", at(29)));
        assert!(told.is_due("a", "no class", at(29)) && told.is_due("a", "none fits", at(29)));
    }

    #[test]
    fn the_more_claims_wait_the_less_often_they_are_told_of() {
        let mut told = Told::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!((0..2 * FEW).all(|claim| told.is_due(&claim.to_string(), "none fits", at(0))));
        assert!(!told.is_due("0", "none fits", at(44)) && told.is_due("0", "none fits", at(45)));
    }
}
