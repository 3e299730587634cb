//! A bounded memory of what was decided, valid for one revision of the policies.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use martello_api::{attributes::Attributes, identity::User};
use parking_lot::Mutex;

/// How many answers a shard holds before it starts afresh: with 16 shards some 3 MB at most, and more than the distinct
/// requests of a few hundred clients.
const SHARD_CAPACITY: usize = 512;
/// Shards, so that concurrent requests rarely wait for each other. A power of two.
const SHARDS: usize = 16;

/// Values by key, where a key is looked up by its hash and compared in full.
pub(crate) struct Cache<K, V> {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<u64, Entry<K, V>>>>,
}

struct Entry<K, V> {
    key: K,
    revision: u64,
    value: V,
}

/// What tells two keys apart: not everything of a user matters to a decision.
pub(crate) trait Key: Clone {
    fn write(&self, hasher: &mut impl Hasher);
    fn is_same(&self, other: &Self) -> bool;
}

impl Key for User {
    fn write(&self, hasher: &mut impl Hasher) {
        self.name.hash(hasher);
        self.groups.hash(hasher);
    }

    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.groups == other.groups
    }
}

impl Key for Attributes {
    fn write(&self, hasher: &mut impl Hasher) {
        self.user.write(hasher);
        self.verb.hash(hasher);
        self.target.hash(hasher);
    }

    fn is_same(&self, other: &Self) -> bool {
        self.verb == other.verb
            && self.target == other.target
            && (std::sync::Arc::ptr_eq(&self.user, &other.user) || self.user.is_same(&other.user))
    }
}

impl<K: Key, V: Clone> Cache<K, V> {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect() }
    }

    pub(crate) fn get(&self, key: &K, revision: u64) -> Option<V> {
        let hash = self.hash(key);
        let shard = self.shard(hash)?.lock();
        let entry = shard.get(&hash)?;
        (entry.revision == revision && entry.key.is_same(key)).then(|| entry.value.clone())
    }

    pub(crate) fn put(&self, key: &K, revision: u64, value: V) {
        let hash = self.hash(key);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.lock();
        if shard.len() >= SHARD_CAPACITY && !shard.contains_key(&hash) {
            shard.clear();
        }
        shard.insert(hash, Entry { key: key.clone(), revision, value });
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<HashMap<u64, Entry<K, V>>>> {
        self.shards.get(usize::try_from(hash).ok()? & (SHARDS - 1))
    }

    fn hash(&self, key: &K) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        key.write(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let cache = Cache::new();
        let users: Vec<User> =
            (0..3 * SHARDS * SHARD_CAPACITY).map(|number| User::authenticated(format!("u{number}"), ["g"])).collect();
        for user in &users {
            cache.put(user, 1, ());
        }
        let kept: usize = cache.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!((1..=SHARDS * SHARD_CAPACITY).contains(&kept), "{kept}");
        let last = users.last().unwrap();
        assert!(cache.get(last, 1).is_some() && cache.get(last, 2).is_none(), "it holds for its revision only");
    }
}
