//! The store: every object of the cluster, at every revision that is still remembered, and what changed since.
//!
//! [`Store`] is all that the rest of the server sees. [`mvcc`] is the pure state that a log of commands leads
//! to; [`memory`] keeps it in memory alone, [`raft`] replicates the log and keeps it on disk, encrypted.

use std::sync::Arc;

use futures::future::BoxFuture;

pub mod cipher;
mod codec;
mod command;
mod compactor;
mod key;
pub mod memory;
pub mod mvcc;
mod object;
pub mod raft;
mod row;
mod shared;
mod splice;

pub use cipher::{Cipher, CipherError};
pub use command::{Expect, MAX_COMMIT_BYTES, MAX_COMMIT_OPS, Op};
pub use compactor::{KEEP_HISTORY, keep_history};
pub use key::{Key, Resource, Scope};
pub use memory::MemoryStore;
pub use object::{Body, Entry, Event, EventKind, Object, Pairs};
pub use raft::RaftStore;
pub use row::{Age, Row};

/// Where objects are kept, by whatever backend.
///
/// A read sees every commit that was acknowledged before the read began, unless it says otherwise ([`ListAt`]).
pub trait Store: Send + Sync + 'static {
    /// The object at `key` as it is now.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<Entry>>, StoreError>>;

    /// A page of the objects of `scope`, in the order of their paths, all of one revision.
    fn list<'a>(&'a self, scope: &'a Scope, at: ListAt, page: Page) -> BoxFuture<'a, Result<Listed, StoreError>>;

    /// What changes in `scope` after the revision `from`.
    fn watch<'a>(&'a self, scope: &'a Scope, from: u64) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>>;

    /// Does all of `ops` or none, and returns when that is durable.
    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Writes the whole state to disk, so that the log before it can be dropped; answers the state's revision.
    fn snapshot(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Forgets how things were before `revision`; answers the oldest revision that is still remembered.
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// A revision that is at least as new as every commit acknowledged before this call.
    fn progress(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// How the store is.
    fn status(&self) -> Status;
}

/// A place in the events of one scope. It costs the store nothing but its place: events are kept once for all
/// watchers, and a watcher that falls behind what is kept is told so.
pub trait Watch: Send {
    /// Waits for events. Safe to cancel: nothing is lost when the future is dropped.
    ///
    /// Fails with [`StoreError::Compacted`] once events that were not delivered yet are forgotten.
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, StoreError>>;

    /// The revision up to which everything in scope has been delivered: what a bookmark may say.
    fn progress(&mut self) -> u64;
}

/// Events in the order of their revisions.
#[derive(Clone, Debug)]
pub struct Batch {
    /// At least one.
    pub events: Vec<Arc<Event>>,
    /// Everything in scope up to this revision has been delivered with this batch.
    pub revision: u64,
}

/// As of when to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListAt {
    /// Now, every acknowledged commit included.
    Latest,
    /// Exactly at this revision.
    Exact(u64),
    /// At whatever revision is at hand, if it is this one or newer; waits a little for it.
    NotOlderThan(u64),
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many; all without it.
    pub limit: Option<usize>,
    /// Only what comes after this path ([`Key::path`] of the last object of the page before).
    pub after: Option<Arc<str>>,
}

/// A page of objects.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The revision at which these objects were so.
    pub revision: u64,
    /// The objects, in the order of their paths.
    pub items: Vec<Arc<Entry>>,
    /// How many more objects come after these.
    pub remaining: usize,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The store's revision with all of the commit's changes. Each change has a revision of its own.
    pub revision: u64,
    /// For each operation the object it left: as written, as it was when deleted, as checked.
    pub entries: Vec<Option<Arc<Entry>>>,
}

/// How a store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The revision of the state at hand.
    pub revision: u64,
    /// The oldest revision that can be listed or watched from.
    pub compacted: u64,
    /// How many objects there are.
    pub objects: usize,
    /// The size of all objects together.
    pub size_bytes: usize,
    /// The size of the log that a start would replay.
    pub log_bytes: u64,
    /// Members of the group by id and address; empty where there is no group.
    pub members: Vec<(u64, String)>,
    /// The member that leads.
    pub leader: Option<u64>,
    /// Why the store can't take writes, when it can't.
    pub failure: Option<String>,
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// History before `oldest` is forgotten.
    #[error("revision {wanted} is too old: the oldest that is remembered is {oldest}")]
    Compacted {
        /// What was asked for.
        wanted: u64,
        /// What can be asked for.
        oldest: u64,
    },
    /// The revision isn't there yet.
    #[error("revision {wanted} is not there yet: the store is at {current}")]
    Future {
        /// What was asked for.
        wanted: u64,
        /// What there is.
        current: u64,
    },
    /// An operation expected something else than what there is. Nothing was done.
    #[error("operation {index} of the commit expected another revision of its object")]
    Conflict {
        /// The first operation whose expectation failed.
        index: usize,
        /// What there is.
        current: Option<Arc<Entry>>,
    },
    /// The commit names one object twice.
    #[error("operation {index} of the commit is on the same object as one before it")]
    Duplicate {
        /// The second operation on the object.
        index: usize,
    },
    /// A commit beyond the limits.
    #[error("a commit of {size} {unit} is too large: the limit is {limit}")]
    TooLarge {
        /// How large it was.
        size: usize,
        /// How large it may be.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// No write can be taken now, or its outcome is unknown.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// What is on disk is not what was written. Nothing was guessed, nothing was changed.
    #[error("the store is damaged: {what}; restore the data directory from a backup, or rejoin from a healthy member")]
    Damaged {
        /// The record, and what is wrong with it.
        what: String,
    },
    /// The disk failed.
    #[error("the store's disk: {what}")]
    Disk {
        /// What was attempted.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}
