//! The state: a deterministic function of the commands applied so far. No IO, no time, no locks.
//!
//! Objects are kept as they are now; how they were is told by the events of the last while (`ring`), which
//! carry what was before them. So a list at an older revision is the present with the events since undone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use super::command::{Command, Expect, Op};
use super::key::{Resource, Scope};
use super::object::{Entry, Event, EventKind};
use super::{Committed, ListAt, Listed, Page, StoreError};
use collection::Collection;

mod collection;
mod counts;
mod ring;
#[cfg(test)]
mod tests;

pub use ring::Window;

/// The revision of a store that nothing was written to yet. Zero means "any" to clients, so it is never used.
pub const FIRST_REVISION: u64 = 1;

/// All objects at all revisions that are remembered.
#[derive(Debug)]
pub struct Mvcc {
    revision: u64,
    compacted: u64,
    /// History before this was never seen: the state began from a snapshot of this revision.
    base: u64,
    size_bytes: usize,
    objects: usize,
    window: Window,
    collections: HashMap<Resource, Collection>,
}

/// What a command led to.
pub(super) type Outcome = Result<Committed, Refusal>;

/// Why a commit changed nothing.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// An expectation failed.
    Conflict { index: usize, current: Option<Arc<Entry>> },
    /// An object is named twice.
    Duplicate { index: usize },
}

/// Everything that a snapshot holds besides the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) revision: u64,
}

impl Mvcc {
    /// Nothing yet.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self::restore(Origin { revision: FIRST_REVISION }, [], window)
    }

    /// The state that a snapshot holds. Its history begins here.
    pub(super) fn restore(origin: Origin, entries: impl IntoIterator<Item = Entry>, window: Window) -> Self {
        let mut state = Self {
            revision: origin.revision,
            compacted: origin.revision,
            base: origin.revision,
            size_bytes: 0,
            objects: 0,
            window,
            collections: HashMap::new(),
        };
        for entry in entries {
            state.size_bytes += entry.bytes().len();
            state.objects += 1;
            state.collection(entry.key.resource()).insert(Arc::new(entry));
        }
        state
    }

    /// What a snapshot needs.
    pub(super) fn origin(&self) -> Origin {
        Origin { revision: self.revision }
    }

    /// All objects as they are now.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.collections.values().flat_map(|collection| collection.objects.values().cloned()).collect()
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that can be listed or watched from, as far as resources changed little since.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// The number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects
    }

    /// Whether there are no objects.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects == 0
    }

    /// The size of all objects together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Changes the state. The same commands lead to the same state and the same outcomes, always and everywhere.
    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Commit(ops) => self.commit(ops),
            Command::Compact(revision) => {
                self.compact(*revision);
                Ok(Committed { revision: self.revision, entries: Vec::new() })
            }
        }
    }

    fn commit(&mut self, ops: &[Op]) -> Outcome {
        let mut named = HashSet::new();
        for (index, op) in ops.iter().enumerate() {
            if ops.len() > 1 && !named.insert(op.key()) {
                return Err(Refusal::Duplicate { index });
            }
            let current = self.get(op.key().resource(), op.key().path());
            let is_delete = matches!(op, Op::Delete { .. });
            let as_expected = match op.expect() {
                Expect::Any => current.is_some() || !is_delete,
                Expect::Absent => current.is_none() && !is_delete,
                Expect::Revision(revision) => current.is_some_and(|entry| entry.revision == revision),
            };
            if !as_expected {
                return Err(Refusal::Conflict { index, current: current.cloned() });
            }
        }
        let entries = ops.iter().map(|op| self.perform(op)).collect();
        Ok(Committed { revision: self.revision, entries })
    }

    fn perform(&mut self, op: &Op) -> Option<Arc<Entry>> {
        let (resource, path) = (op.key().resource(), op.key().path());
        if matches!(op, Op::Check { .. }) {
            return self.get(resource, path).cloned();
        }
        self.revision += 1;
        let revision = self.revision;
        let collection = self.collection(resource);
        let (kind, entry, previous) = match op {
            Op::Put { key, object, .. } => {
                let previous = collection.objects.get(path).cloned();
                let created = previous.as_ref().map_or(revision, |entry| entry.created);
                let entry = Arc::new(Entry::new(key.clone(), object, created, revision));
                collection.insert(Arc::clone(&entry));
                (if previous.is_some() { EventKind::Modified } else { EventKind::Added }, entry, previous)
            }
            _ => {
                let previous = collection.remove(path)?;
                (EventKind::Deleted, Arc::new(previous.at(revision)), Some(previous))
            }
        };
        let before = previous.as_ref().map_or(0, |entry| entry.bytes().len());
        let event = Event {
            kind,
            revision,
            entry: Arc::clone(&entry),
            previous,
            frame: OnceLock::new(),
            protobuf_frame: OnceLock::new(),
            metadata_frame: OnceLock::new(),
        };
        collection.ring.push(Arc::new(event));
        self.size_bytes = self.size_bytes.saturating_sub(before);
        match kind {
            EventKind::Deleted => self.objects = self.objects.saturating_sub(1),
            EventKind::Added => {
                self.objects += 1;
                self.size_bytes += entry.bytes().len();
            }
            EventKind::Modified => self.size_bytes += entry.bytes().len(),
        }
        Some(entry)
    }

    fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        for collection in self.collections.values_mut() {
            collection.ring.forget(self.compacted);
        }
    }

    fn collection(&mut self, resource: &Resource) -> &mut Collection {
        let (window, base) = (self.window, self.base);
        self.collections.entry(resource.clone()).or_insert_with(|| Collection::new(window, base))
    }

    /// The object at `path` as it is now.
    #[must_use]
    pub fn get(&self, resource: &Resource, path: &str) -> Option<&Arc<Entry>> {
        self.collections.get(resource)?.objects.get(path)
    }

    /// A page of `scope`.
    pub fn list(&self, scope: &Scope, at: ListAt, page: &Page) -> Result<Listed, StoreError> {
        let revision = match at {
            ListAt::Latest => self.revision,
            ListAt::Exact(wanted) | ListAt::NotOlderThan(wanted) if wanted > self.revision => {
                return Err(StoreError::Future { wanted, current: self.revision });
            }
            ListAt::NotOlderThan(_) => self.revision,
            ListAt::Exact(wanted) => {
                self.check_remembered(scope.resource(), wanted)?;
                wanted
            }
        };
        let Some(collection) = self.collections.get(scope.resource()) else {
            return Ok(Listed { revision, items: Vec::new(), remaining: 0 });
        };
        let (items, remaining) = collection.list(scope, revision, page);
        Ok(Listed { revision, items, remaining })
    }

    /// Whether a watch of `resource` may begin after `from`.
    pub fn check_remembered(&self, resource: &Resource, from: u64) -> Result<(), StoreError> {
        let forgotten = self.collections.get(resource).map_or(self.base, |collection| collection.ring.forgotten());
        let oldest = self.compacted.max(forgotten);
        if from < oldest { Err(StoreError::Compacted { wanted: from, oldest }) } else { Ok(()) }
    }

    /// At most `max` events of `scope` after `from`, and the revision up to which these are all.
    ///
    /// Fails when one that comes after `from` is forgotten.
    pub fn events(&self, scope: &Scope, from: u64, max: usize) -> Result<(Vec<Arc<Event>>, u64), StoreError> {
        let Some(collection) = self.collections.get(scope.resource()) else {
            return Ok((Vec::new(), self.revision.max(from)));
        };
        let forgotten = collection.ring.forgotten();
        if from < forgotten {
            return Err(StoreError::Compacted { wanted: from, oldest: forgotten });
        }
        let mut events = Vec::new();
        for event in collection.ring.after(from) {
            if scope.holds(event.entry.key.path()) {
                events.push(Arc::clone(event));
                if events.len() == max {
                    return Ok((events, event.revision));
                }
            }
        }
        Ok((events, self.revision.max(from)))
    }
}
