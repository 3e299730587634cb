//! The store that outlives its process: a log agreed on by a group of members, on disk before it is acknowledged,
//! and the state that it leads to, in memory.
//!
//! A write takes this way: `batcher` makes an entry of whatever waits, `log` seals and syncs it and moves the
//! high-water `mark`, the group commits it, `machine` applies it, the writers learn of it. A start reads the last
//! `image` of the state and the log after it; whatever is not as it was written stops the start by name.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use openraft::{Raft, ServerState, SnapshotPolicy};

use super::cipher::Cipher;
use super::command::{Command, Op};
use super::key::{Key, Scope};
use super::mvcc::{Mvcc, Window};
use super::object::Entry;
use super::shared::Shared;
use super::{Committed, ListAt, Listed, Page, Status, Store, StoreError, Watch};
use batcher::{Batcher, SaveWhen};
use disk::Closed;
use files::Opened;
use log::Log;
use machine::Machine;
use network::Alone;
use types::{Member, Types};

mod batcher;
mod disk;
mod files;
mod image;
mod log;
mod machine;
mod mark;
mod network;
mod types;
mod writer;

/// How long a group of one may take to find that it leads, and to replay its log.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long saving the state may take before whoever asked gives up waiting.
const SAVE_LIMIT: Duration = Duration::from_secs(120);

/// Where and as whom a store runs.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// The directory, which is the store's alone.
    pub dir: PathBuf,
    /// This member's number in the group.
    pub id: u64,
    /// Where other members will reach this one.
    pub address: String,
    /// How much history is kept.
    pub window: Window,
    /// The state is saved when the log is at least this large, and as large as the state.
    pub save_log_bytes: u64,
}

impl RaftConfig {
    /// The first member of a group, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        // 16 MiB of log are replayed in a fraction of a second.
        let save_log_bytes = 16 * 1024 * 1024;
        Self { dir: dir.into(), id: 1, address: String::new(), window: Window::default(), save_log_bytes }
    }
}

/// A member of a group that keeps the objects.
pub struct RaftStore {
    shared: Arc<Shared>,
    raft: Raft<Types>,
    batcher: Batcher,
    log: Log,
    alone: Arc<AtomicBool>,
    threads: Threads,
}

struct Threads {
    log: JoinHandle<()>,
    batcher: tokio::task::JoinHandle<()>,
    files: Closed,
}

impl RaftStore {
    /// Opens the store, or makes a new group of one. Returns when everything that was acknowledged can be read.
    pub async fn open(config: RaftConfig, cipher: Arc<dyn Cipher>) -> Result<Self, StoreError> {
        let opened = files::open(config.clone(), cipher).await?;
        let Opened { disk, state, head, log, thread, closed } = opened;
        let shared = Shared::new(state);
        let (alone, starting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let machine = Machine {
            id: config.id,
            shared: Arc::clone(&shared),
            disk,
            window: config.window,
            last_applied: head.last_applied,
            membership: head.membership,
            log_bytes: Arc::clone(log.size_bytes()),
            alone: Arc::clone(&alone),
            starting: Arc::clone(&starting),
        };
        machine.note_membership();
        let raft = Raft::new(config.id, Arc::new(raft_config()?), Alone, log.clone(), machine).await;
        let raft = raft.map_err(unavailable)?;
        starting.store(false, Ordering::Release);
        lead(&raft, &config, log.last_index()).await?;
        let save = SaveWhen {
            log_bytes: Arc::clone(log.size_bytes()),
            at_least: config.save_log_bytes,
            shared: Arc::clone(&shared),
            saving: Arc::default(),
        };
        let (batcher, task) = Batcher::start(raft.clone(), save);
        Ok(Self { shared, raft, batcher, log, alone, threads: Threads { log: thread, batcher: task, files: closed } })
    }

    /// Writes everything again that is on disk, so that no record is left that an older key of the cipher sealed.
    pub async fn reseal(&self) -> Result<(), StoreError> {
        self.log.reseal().await?;
        // Something new in the log, so that there is something to save.
        self.compact(0).await?;
        save(&self.raft).await.map(drop)
    }

    /// Stops the member and waits until its files are closed.
    pub async fn close(self) -> Result<(), StoreError> {
        let Self { raft, batcher, log, threads, .. } = self;
        drop(batcher);
        threads.batcher.await.map_err(unavailable)?;
        raft.shutdown().await.map_err(unavailable)?;
        drop((raft, log));
        let joined = tokio::task::spawn_blocking(move || threads.log.join()).await.map_err(unavailable)?;
        joined.map_err(|_| StoreError::Unavailable { reason: "the log's thread panicked".to_owned() })?;
        // It ends in an error, as nothing is ever sent.
        threads.files.await.map_or(Ok(()), |never| match never {})
    }
}

fn raft_config() -> Result<openraft::Config, StoreError> {
    let config = openraft::Config {
        cluster_name: "martello".to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..openraft::Config::default()
    };
    config.validate().map_err(unavailable)
}

/// Makes a new group if there is none, and waits until this member has caught up with its own log.
async fn lead(raft: &Raft<Types>, config: &RaftConfig, last: u64) -> Result<(), StoreError> {
    if !raft.is_initialized().await.map_err(unavailable)? {
        let member = Member::new(config.address.clone());
        raft.initialize([(config.id, member)].into_iter().collect::<std::collections::BTreeMap<_, _>>())
            .await
            .map_err(unavailable)?;
    } else if raft.metrics().borrow().state != ServerState::Leader {
        raft.trigger().elect().await.map_err(unavailable)?;
    }
    let caught_up = |metrics: &openraft::RaftMetrics<u64, Member>| {
        metrics.current_leader.is_some() && metrics.last_applied.is_some_and(|applied| applied.index >= last)
    };
    raft.wait(Some(START_LIMIT)).metrics(caught_up, "replay the log").await.map(drop).map_err(unavailable)
}

/// Saves the state and waits for it; answers the last log index that it covers.
async fn save(raft: &Raft<Types>) -> Result<u64, StoreError> {
    let wanted = raft.metrics().borrow().last_applied;
    raft.trigger().snapshot().await.map_err(unavailable)?;
    let saved = |metrics: &openraft::RaftMetrics<u64, Member>| metrics.snapshot >= wanted;
    let metrics = raft.wait(Some(SAVE_LIMIT)).metrics(saved, "save the state").await.map_err(unavailable)?;
    Ok(metrics.snapshot.map_or(0, |saved| saved.index))
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

impl RaftStore {
    /// Waits until the state at hand holds every commit that was acknowledged before.
    async fn catch_up(&self) -> Result<(), StoreError> {
        // A commit is acknowledged after it was applied, and a sole voter acknowledges all commits.
        if self.alone.load(Ordering::Acquire) {
            return Ok(());
        }
        self.raft.ensure_linearizable().await.map(drop).map_err(unavailable)
    }
}

impl Store for RaftStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<Entry>>, StoreError>> {
        async {
            self.catch_up().await?;
            Ok(self.shared.get(key))
        }
        .boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope, at: ListAt, page: Page) -> BoxFuture<'a, Result<Listed, StoreError>> {
        async move {
            if at == ListAt::Latest {
                self.catch_up().await?;
            }
            self.shared.list(scope, at, &page).await
        }
        .boxed()
    }

    fn watch<'a>(&'a self, scope: &'a Scope, from: u64) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        async move { self.shared.watch(scope, from) }.boxed()
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        async move { self.batcher.propose(Command::commit(ops)?).await }.boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async {
            let revision = self.shared.read(Mvcc::revision);
            save(&self.raft).await?;
            Ok(revision)
        }
        .boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            self.batcher.propose(Command::Compact(revision)).await?;
            Ok(self.shared.read(Mvcc::compacted))
        }
        .boxed()
    }

    fn progress(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async {
            self.catch_up().await?;
            Ok(self.shared.read(Mvcc::revision))
        }
        .boxed()
    }

    fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow().clone();
        let members = metrics.membership_config.membership().nodes();
        self.shared.read(|state| Status {
            revision: state.revision(),
            compacted: state.compacted(),
            objects: state.len(),
            size_bytes: state.size_bytes(),
            log_bytes: self.log.size_bytes().load(Ordering::Relaxed),
            members: members.map(|(id, member)| (*id, member.addr.clone())).collect(),
            leader: metrics.current_leader,
            failure: metrics.running_state.err().map(|error| error.to_string()),
        })
    }
}
