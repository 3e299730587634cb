//! What puts keys into a queue: changes of the objects that a controller keeps, and of those that it makes for them.

use std::fmt::Debug;

use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Informer, Key, Queue, controller_of};

impl Queue<Key> {
    /// Adds every object of `cache` whenever it changes.
    pub fn add_changed<K>(&self, cache: &Informer<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let queue = self.clone();
        cache.on_change(move |before, after| {
            if let Some(object) = after.or(before) {
                queue.add(Key::of(object.as_ref()));
            }
        });
    }

    /// Adds the controlling owner of every object of `cache` whenever the object changes; where it has none, every
    /// owner in its namespace, since any of them might adopt it.
    pub fn add_controllers_of<K, O>(&self, cache: &Informer<K>, owners: &Informer<O>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (queue, owners) = (self.clone(), owners.clone());
        cache.on_change(move |before, after| {
            for object in [before, after].into_iter().flatten() {
                let namespace = object.namespace().unwrap_or_default();
                match controller_of(object.as_ref()) {
                    Some(owner) if owner.kind == O::kind(&()) => queue.add(Key::new(namespace, &owner.name)),
                    Some(_) => {}
                    None => {
                        for owner in owners.in_namespace(&namespace) {
                            queue.add(Key::of(owner.as_ref()));
                        }
                    }
                }
            }
        });
    }
}
