//! Garbage collection: dependents go after their owners, or with them, or are let go, as the deleter asked.

pub mod graph;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::ObjectReference, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, Preconditions, PropagationPolicy},
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        events::EventType,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::graph::{Action, Graph, ORPHAN, Object, Uid};
use super::{Deletable, deletable};
use crate::runtime::{Attempt, Chain, EventSink, Queue, RequestError, patch, work};

const WORKERS: usize = 4;
/// Delay before resources are discovered again after a failure.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);
/// How long changes of what is served are waited for that come one after the other.
const SETTLING: Duration = Duration::from_millis(300);
/// How long everything waits for the first list of a resource, as upstream's collector. Then it goes on without: owners that
/// are not known are asked for one by one, and are never taken for gone unasked.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A first list that takes longer than this is worth a line in the log, and another one each time it has passed again.
const LIST_PATIENCE: Duration = Duration::from_secs(15);
/// Stands among the resources that have not been listed for discovery, which tells which ones there are.
const DISCOVERY: usize = usize::MAX;

type Meta = PartialObjectMeta<DynamicObject>;

pub(crate) fn spawn(client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let (client, shutdown) = (client.clone(), shutdown.clone());
    tasks.spawn(async move {
        let collecting = shutdown.clone();
        shutdown.run_until_cancelled(collect(client, collecting)).await;
    });
}

/// Follows every resource, those that come later too, and works on what is to go, until `shutdown`.
async fn collect(client: Client, shutdown: CancellationToken) {
    let collector = Collector {
        client: client.clone(),
        events: EventSink::new(&client, "garbage-collector-controller"),
        resources: Arc::default(),
        graph: Arc::default(),
        queue: Queue::new(),
        awaited: watch::Sender::new(BTreeSet::from([DISCOVERY])),
        unlisted: watch::Sender::new(BTreeSet::from([DISCOVERY])),
        deferred: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    let worker = collector.clone();
    work(&mut tasks, "garbage-collector", &collector.queue, WORKERS, &shutdown, worker, |collector, uid| async move {
        collector.reconcile(&uid).await
    });
    let (waiting, until) = (collector.clone(), shutdown.clone());
    tasks.spawn(async move {
        until.run_until_cancelled(waiting.tell_what_is_awaited()).await;
    });
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let mut changes = watcher(definitions, watcher::Config::default()).default_backoff().boxed();
    // What is missing may stay away for long, where it was switched off: it is told once.
    let mut told = String::new();
    loop {
        match deletable(&collector.client).await {
            Ok(resources) => {
                collector.follow_only(resources, &shutdown, &mut tasks);
                collector.listed(DISCOVERY);
            }
            Err(error) => {
                let why = Chain(&error).to_string();
                if why != told {
                    tracing::warn!(error = why.as_str(), "garbage collection waits for discovery");
                    told = why;
                }
                tokio::time::sleep(DISCOVERY_RETRY).await;
                continue;
            }
        }
        // What is served changes with the definitions of custom resources; a few changes at once are met together.
        if changes.next().await.is_none() {
            break;
        }
        while let Ok(Some(_)) = tokio::time::timeout(SETTLING, changes.next()).await {}
    }
    while tasks.join_next().await.is_some() {}
}

/// A resource that is followed.
struct Followed {
    kind: Deletable,
    /// Its group and kind, as objects bear them.
    names: [Arc<str>; 2],
    /// Cancelled when the resource is no longer served.
    end: CancellationToken,
}

#[derive(Clone)]
struct Collector {
    client: Client,
    events: EventSink,
    /// Those that are followed, and those that were: objects know theirs by its place.
    resources: Arc<RwLock<Vec<Arc<Followed>>>>,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<Uid>,
    /// The resources whose first list is waited for: nothing is deleted as long as there are any.
    awaited: watch::Sender<BTreeSet<usize>>,
    /// The resources whose first list is not there yet, however long that has taken: there may be dependents among their
    /// objects that nobody knows, so that no owner is told as long as there are any that its dependents are gone.
    unlisted: watch::Sender<BTreeSet<usize>>,
    /// Owners that wait for these lists.
    deferred: Arc<Mutex<HashSet<Uid>>>,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> Vec<Arc<Followed>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn resource(&self, index: usize) -> Option<Arc<Followed>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    /// Begins to follow what is new, and lets go of what is not served any more.
    fn follow_only(&self, served: Vec<Deletable>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let served: Vec<Deletable> = served.into_iter().filter(|resource| resource.watchable).collect();
        let live: Vec<Arc<Followed>> = self.followed().into_iter().filter(|one| !one.end.is_cancelled()).collect();
        for gone in live.iter().filter(|one| !served.iter().any(|kind| kind.resource == one.kind.resource)) {
            gone.end.cancel();
        }
        for kind in served {
            if live.iter().any(|one| one.kind.resource == kind.resource) {
                continue;
            }
            let names = [kind.resource.group.as_str().into(), kind.resource.kind.as_str().into()];
            let followed = Arc::new(Followed { kind, names, end: shutdown.child_token() });
            let index = {
                let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
                resources.push(followed);
                resources.len() - 1
            };
            self.unlisted.send_if_modified(|unlisted| unlisted.insert(index));
            self.awaited.send_if_modified(|awaited| awaited.insert(index));
            let (following, waiting) = (self.clone(), self.clone());
            tasks.spawn(async move { following.follow(index).await });
            tasks.spawn(async move { waiting.wait_at_most(index).await });
        }
    }

    async fn follow(&self, index: usize) {
        let Some(followed) = self.resource(index) else { return };
        let kind = &followed.kind;
        let api: Api<Meta> = Api::all_with(self.client.clone(), &kind.resource);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let (mut seen, mut first) = (HashSet::new(), true);
        while let Some(Some(event)) = followed.end.run_until_cancelled(events.next()).await {
            match event {
                Ok(Event::Init) => seen.clear(),
                Ok(Event::InitApply(object)) => {
                    seen.extend(object.metadata.uid.clone());
                    self.observe(index, object);
                }
                Ok(Event::InitDone) => {
                    let gone: Vec<Uid> =
                        self.graph().of_resource(index).into_iter().filter(|uid| !seen.contains(uid)).collect();
                    gone.iter().for_each(|uid| self.forget(uid));
                    // An owner may have come and gone before its resource was followed: nobody will tell of it.
                    let look = self.graph().with_unknown_owners();
                    look.into_iter().for_each(|uid| self.queue.add(uid));
                    if std::mem::take(&mut first) {
                        self.listed(index);
                    }
                }
                Ok(Event::Apply(object)) => self.observe(index, object),
                Ok(Event::Delete(object)) => {
                    if let Some(uid) = &object.metadata.uid {
                        self.forget(uid);
                    }
                }
                Err(error) => tracing::warn!(resource = kind.resource.plural, %error, "watch broke off, will go on"),
            }
        }
        let left = self.graph().of_resource(index);
        left.iter().for_each(|uid| self.forget(uid));
        if first {
            self.listed(index);
        }
    }

    /// A resource has been listed, or is served no longer.
    fn listed(&self, index: usize) {
        self.unlisted.send_if_modified(|unlisted| unlisted.remove(&index));
        self.awaited.send_if_modified(|awaited| awaited.remove(&index));
        let ready = {
            let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
            if self.knows_all() { std::mem::take(&mut *deferred) } else { HashSet::new() }
        };
        ready.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// Whether every resource has been listed.
    fn knows_all(&self) -> bool {
        self.unlisted.borrow().is_empty()
    }

    /// Looks at an object again when every resource has been listed.
    fn defer(&self, uid: &str) {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        if self.knows_all() {
            self.queue.add(uid.to_owned());
        } else {
            deferred.insert(uid.to_owned());
        }
    }

    /// Lets everything wait for a resource's first list for a while, and no longer: one conversion webhook that is gone does
    /// not keep all that belongs to nobody.
    async fn wait_at_most(&self, index: usize) {
        let Some(followed) = self.resource(index) else { return };
        let mut awaited = self.awaited.subscribe();
        let listed = async { awaited.wait_for(|awaited| !awaited.contains(&index)).await.is_ok() };
        let waited = followed.end.run_until_cancelled(tokio::time::timeout(LONGEST_WAIT, listed)).await;
        if let Some(Err(_)) = waited {
            self.awaited.send_if_modified(|awaited| awaited.remove(&index));
        }
    }

    /// Says again and again which lists are missing, until none is.
    async fn tell_what_is_awaited(&self) {
        let mut unlisted = self.unlisted.subscribe();
        while tokio::time::timeout(LIST_PATIENCE, unlisted.wait_for(BTreeSet::is_empty)).await.is_err() {
            let waiting = self.unlisted.borrow().clone();
            let names = waiting.iter().filter_map(|index| self.resource(*index));
            let names: Vec<String> =
                names.map(|one| format!("{}.{}", one.kind.resource.plural, one.kind.resource.group)).collect();
            tracing::warn!(
                ?names,
                "garbage collection lacks the first list of these resources; owners that wait for their dependents wait for it"
            );
        }
    }

    fn observe(&self, resource: usize, object: Meta) {
        let Some(uid) = object.metadata.uid.clone() else { return };
        let mut metadata = object.metadata;
        metadata.managed_fields = None;
        metadata.annotations = None;
        metadata.labels = None;
        let Some(followed) = self.resource(resource) else { return };
        let look = self.graph().observe(&uid, Object { resource, kind: followed.names.clone(), metadata });
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn forget(&self, uid: &str) {
        let look = self.graph().forget(uid);
        look.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn reconcile(&self, uid: &str) -> Result<(), RequestError> {
        let mut awaited = self.awaited.subscribe();
        if awaited.wait_for(BTreeSet::is_empty).await.is_err() {
            return Ok(());
        }
        let Some(object) = self.graph().get(uid).cloned() else { return Ok(()) };
        let (unknown, out_of_reach) = {
            let graph = self.graph();
            (graph.unknown_owners(uid), graph.out_of_reach(uid))
        };
        for owner in out_of_reach {
            self.tell_out_of_reach(&object, &owner).await;
        }
        let existing = if object.metadata.deletion_timestamp.is_none() {
            self.existing(&object, unknown).await?
        } else {
            HashSet::new()
        };
        // Before the plan, which knows no more than there is by then.
        let knows_all = self.knows_all();
        let action = self.graph().plan(uid, &existing);
        match action {
            Action::Keep => Ok(()),
            // What is not let go would be taken for owned by nobody, and deleted.
            Action::Orphan(_) if !knows_all => {
                self.defer(uid);
                Ok(())
            }
            Action::Delete(policy) => self.delete(&object, policy).await,
            Action::Drop(owners) => self.drop_owners(&object, &owners).await,
            Action::Unblock => self.unblock(&object).await,
            Action::Finalize(finalizer) => self.finalize(&object, finalizer).await,
            Action::Await(dependents) => {
                dependents.into_iter().for_each(|dependent| self.queue.add(dependent));
                Ok(())
            }
            Action::Orphan(dependents) => {
                for dependent in dependents {
                    let Some(object) = self.graph().get(&dependent).cloned() else { continue };
                    self.drop_owners(&object, &[uid.to_owned()]).await?;
                }
                self.finalize(&object, ORPHAN).await
            }
        }
    }

    async fn tell_out_of_reach(&self, object: &Object, owner: &OwnerReference) {
        let Some(followed) = self.resource(object.resource) else { return };
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let note = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        let dependent = ObjectReference {
            api_version: Some(followed.kind.resource.api_version.clone()),
            kind: Some(followed.kind.resource.kind.clone()),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone(),
            uid: object.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.events.publish(&dependent, EventType::Warning, "OwnerRefInvalidNamespace", note).await;
    }

    /// Which of the owners that the graph does not hold exist all the same. An owner of a kind that is not served
    /// counts as existing: nothing is deleted on a guess.
    async fn existing(&self, object: &Object, owners: Vec<OwnerReference>) -> Result<HashSet<Uid>, RequestError> {
        let mut existing = HashSet::new();
        for owner in owners {
            let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
            let is_served = |one: &Arc<Followed>| {
                let resource = &one.kind.resource;
                !one.end.is_cancelled() && resource.group == group && resource.kind == owner.kind
            };
            let served = self.followed().into_iter().find(is_served);
            let Some(kind) = served.as_ref().map(|served| &served.kind) else {
                tracing::debug!(owner = owner.kind, version, "owner is of a kind that is not served");
                existing.insert(owner.uid);
                continue;
            };
            let namespace = object.metadata.namespace.as_deref().filter(|_| kind.namespaced);
            if kind.namespaced && namespace.is_none() {
                existing.insert(owner.uid);
                continue;
            }
            let api = self.api::<Meta>(kind, namespace);
            let found = api.get(&owner.name).await;
            let found = found.attempt_unless_gone(|| format!("look for owner {} {}", owner.kind, owner.name))?;
            if found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&owner.uid)) {
                existing.insert(owner.uid);
            }
        }
        Ok(existing)
    }

    fn api<K>(&self, kind: &Deletable, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<DynamicType = kube::core::ApiResource, Scope = kube::core::DynamicResourceScope>,
    {
        match namespace {
            Some(namespace) if kind.namespaced => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            _ => Api::all_with(self.client.clone(), &kind.resource),
        }
    }

    fn target(&self, object: &Object) -> Option<(Api<DynamicObject>, String, String)> {
        let followed = self.resource(object.resource)?;
        let kind = &followed.kind;
        let name = object.metadata.name.clone()?;
        let namespace = object.metadata.namespace.as_deref();
        let called = format!("{} {}/{name}", kind.resource.plural, namespace.unwrap_or_default());
        Some((self.api(kind, namespace), name, called))
    }

    async fn delete(&self, object: &Object, policy: &str) -> Result<(), RequestError> {
        let Some((api, name, called)) = self.target(object) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(match policy {
                "Foreground" => PropagationPolicy::Foreground,
                "Orphan" => PropagationPolicy::Orphan,
                _ => PropagationPolicy::Background,
            }),
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: object.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        api.delete(&name, &params).await.attempt_unless_gone(|| format!("delete {called}, whose owner is gone"))?;
        Ok(())
    }

    async fn drop_owners(&self, object: &Object, owners: &[Uid]) -> Result<(), RequestError> {
        let kept: Vec<&OwnerReference> =
            object.metadata.owner_references.iter().flatten().filter(|owner| !owners.contains(&owner.uid)).collect();
        let kept = if kept.is_empty() { serde_json::Value::Null } else { json!(kept) };
        self.set_owners(object, &kept).await
    }

    async fn unblock(&self, object: &Object) -> Result<(), RequestError> {
        let mut owners = object.metadata.owner_references.clone().unwrap_or_default();
        owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
        self.set_owners(object, &json!(owners)).await
    }

    async fn set_owners(&self, object: &Object, owners: &serde_json::Value) -> Result<(), RequestError> {
        let Some((api, name, called)) = self.target(object) else { return Ok(()) };
        let version = &object.metadata.resource_version;
        let body = json!({"metadata": {"resourceVersion": version, "ownerReferences": owners}});
        let patched = api.patch(&name, &patch(), &Patch::Merge(body)).await;
        patched.attempt_unless_gone(|| format!("change the owner references of {called}"))?;
        Ok(())
    }

    async fn finalize(&self, object: &Object, finalizer: &str) -> Result<(), RequestError> {
        let Some((api, name, called)) = self.target(object) else { return Ok(()) };
        let kept: Vec<&String> = object.metadata.finalizers.iter().flatten().filter(|own| *own != finalizer).collect();
        let kept = if kept.is_empty() { serde_json::Value::Null } else { json!(kept) };
        let body = json!({"metadata": {"resourceVersion": object.metadata.resource_version, "finalizers": kept}});
        let patched = api.patch(&name, &patch(), &Patch::Merge(body)).await;
        patched.attempt_unless_gone(|| format!("take finalizer {finalizer} from {called}"))?;
        Ok(())
    }
}
