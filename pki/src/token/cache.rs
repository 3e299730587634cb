//! Tokens whose signature was verified before, by their hash, so that the next use costs a microsecond.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use super::claims::Claims;

/// Entries per half. Two halves of 4096 entries of about 1 KiB: 8 MiB at most.
const MAX_ENTRIES_PER_HALF: usize = 4096;

/// A token whose signature is right. Times and audiences are still to be checked on each use.
#[derive(Clone)]
pub(super) struct SignedClaims {
    pub(super) claims: Arc<Claims>,
    /// The key that signed it, which must still be accepted.
    pub(super) key_id: Arc<str>,
}

/// The tokens used lately. When the young half is full it becomes the old half, and what was in that is forgotten
/// unless it was used in the meantime.
#[derive(Default)]
pub(super) struct VerifiedCache(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<TokenHash, SignedClaims>,
    old: HashMap<TokenHash, SignedClaims>,
}

/// The token itself is not kept: memory holds nothing that could be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }
}

impl VerifiedCache {
    pub(super) fn get(&self, hash: &TokenHash) -> Option<SignedClaims> {
        let mut halves = self.0.lock();
        if let Some(found) = halves.young.get(hash) {
            return Some(found.clone());
        }
        let found = halves.old.remove(hash)?;
        halves.insert(*hash, found.clone());
        Some(found)
    }

    pub(super) fn insert(&self, hash: TokenHash, claims: SignedClaims) {
        self.0.lock().insert(hash, claims);
    }

    pub(super) fn remove(&self, hash: &TokenHash) {
        let mut halves = self.0.lock();
        halves.young.remove(hash);
        halves.old.remove(hash);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.0.lock();
        halves.young.len() + halves.old.len()
    }
}

impl Halves {
    fn insert(&mut self, hash: TokenHash, claims: SignedClaims) {
        if self.young.len() >= MAX_ENTRIES_PER_HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenSpec;
    use super::*;

    fn claims() -> SignedClaims {
        let claims = Claims::new("issuer", TokenSpec::default(), jiff::Timestamp::UNIX_EPOCH);
        SignedClaims { claims: Arc::new(claims), key_id: "key".into() }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let cache = VerifiedCache::default();
        let used = TokenHash::of("used");
        cache.insert(used, claims());
        cache.insert(TokenHash::of("unused"), claims());
        for index in 0..3 * MAX_ENTRIES_PER_HALF {
            cache.insert(TokenHash::of(&index.to_string()), claims());
            assert!(cache.get(&used).is_some());
        }
        assert!(cache.get(&TokenHash::of("unused")).is_none());
        assert!(cache.len() <= 2 * MAX_ENTRIES_PER_HALF);
    }
}
