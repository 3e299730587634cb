//! A cache of all objects of one kind that follows the API server's watch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Key, controller_of, queue::Chain, revision};

/// How long a controller waits for its own write to come back by watch before it looks at the cache as it is.
const CATCH_UP_MOST: Duration = Duration::from_secs(5);

type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// A cache of one kind. Clones share it.
pub struct Informer<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<K> {
    objects: RwLock<Objects<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
    seen: watch::Sender<u64>,
}

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    by_owner: HashMap<String, HashSet<Key>>,
}

/// Which objects of a kind to follow.
pub struct Watch(watcher::Config);

impl Watch {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(watcher::Config::default())
    }

    /// Those that a field selector selects.
    #[must_use]
    pub fn fields(selector: &str) -> Self {
        Self(watcher::Config::default().fields(selector))
    }
}

impl<K> Default for Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// An empty cache that follows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                objects: RwLock::new(Objects { by_key: BTreeMap::new(), by_owner: HashMap::new() }),
                handlers: RwLock::new(Vec::new()),
                synced: watch::Sender::new(false),
                seen: watch::Sender::new(0),
            }),
        }
    }

    /// Calls `handler` with the object before and after each change. To be called before [`Informer::run`].
    pub fn on_change(&self, handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static) {
        self.inner.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Follows the API server until `shutdown`.
    pub async fn run(self, api: Api<K>, which: Watch, shutdown: CancellationToken) {
        let mut events = watcher(api, which.0).default_backoff().boxed();
        let mut listed: Option<HashSet<Key>> = None;
        while let Some(Some(event)) = shutdown.run_until_cancelled(events.next()).await {
            match event {
                Ok(Event::Init) => listed = Some(HashSet::new()),
                Ok(Event::InitApply(object)) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(Key::of(&object));
                    }
                    self.apply(object);
                }
                Ok(Event::InitDone) => {
                    if let Some(listed) = listed.take() {
                        self.keep_only(&listed);
                    }
                    self.inner.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.apply(object),
                Ok(Event::Delete(object)) => self.delete(&object),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), error = %Chain(&error), "watch broke off, will go on")
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.inner.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.inner.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, object: K) {
        let (key, revision, object) = (Key::of(&object), revision(&object), Arc::new(object));
        let before = self.write().insert(key, Arc::clone(&object));
        let same =
            before.as_ref().is_some_and(|before| before.meta().resource_version == object.meta().resource_version);
        self.advance(revision);
        if !same {
            self.tell(before.as_ref(), Some(&object));
        }
    }

    fn delete(&self, object: &K) {
        let before = self.write().remove(&Key::of(object));
        self.advance(revision(object));
        if let Some(before) = before {
            self.tell(Some(&before), None);
        }
    }

    fn keep_only(&self, listed: &HashSet<Key>) {
        let gone: Vec<Key> = self.read().by_key.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            let before = self.write().remove(&key);
            if let Some(before) = before {
                self.tell(Some(&before), None);
            }
        }
    }

    fn advance(&self, revision: u64) {
        self.inner.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            if newer {
                *seen = revision;
            }
            newer
        });
    }

    fn tell(&self, before: Option<&Arc<K>>, after: Option<&Arc<K>>) {
        for handler in self.inner.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(before, after);
        }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        if synced.wait_for(|synced| *synced).await.is_err() {
            tracing::debug!(kind = %K::kind(&()), "cache was dropped before it was filled");
        }
    }

    /// Waits until the cache holds what was written at `revision`, so that no decision rests on a cache that
    /// lacks the decider's own writes. Gives up after a few seconds: the object may be gone again already.
    pub async fn caught_up(&self, revision: u64) {
        let mut seen = self.inner.seen.subscribe();
        let wait = seen.wait_for(|seen| *seen >= revision);
        if tokio::time::timeout(CATCH_UP_MOST, wait).await.is_err() {
            tracing::debug!(kind = %K::kind(&()), revision, "own write was not seen in time");
        }
    }

    /// The object of this key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().by_key.get(key).cloned()
    }

    /// All objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().by_key.values().cloned().collect()
    }

    /// The objects of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let from = Key::new(namespace, "");
        objects
            .by_key
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.read().by_key.len()
    }

    /// The objects whose controlling owner has this uid.
    #[must_use]
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let Some(keys) = objects.by_owner.get(uid) else { return Vec::new() };
        keys.iter().filter_map(|key| objects.by_key.get(key).cloned()).collect()
    }
}

impl<K: Resource> Objects<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let before = self.remove(&key);
        if let Some(owner) = controller_of(object.as_ref()) {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        self.by_key.insert(key, object);
        before
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let before = self.by_key.remove(key)?;
        if let Some(owner) = controller_of(before.as_ref())
            && let Some(keys) = self.by_owner.get_mut(&owner.uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(&owner.uid);
            }
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: &str, revision: u64) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": revision.to_string(),
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner, "controller": true}]}}),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn an_object_moves_with_its_owner() {
        let cache = Informer::new();
        cache.apply(pod("a", "one", 1));
        cache.apply(pod("a", "two", 2));
        assert!(cache.controlled_by("one").is_empty());
        assert_eq!(cache.controlled_by("two").len(), 1);
        cache.delete(&pod("a", "two", 3));
        assert!(cache.controlled_by("two").is_empty() && cache.all().is_empty());
        cache.caught_up(3).await;
    }

    #[test]
    fn what_a_new_list_lacks_is_told_as_deleted() {
        let cache = Informer::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        cache.on_change(move |before, after| heard.lock().unwrap().push((before.is_some(), after.is_some())));
        cache.apply(pod("a", "x", 1));
        cache.keep_only(&HashSet::new());
        assert_eq!(*told.lock().unwrap(), [(false, true), (true, false)]);
    }
}
