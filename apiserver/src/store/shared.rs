//! The state as readers, watchers and the one writer share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::command::Command;
use super::key::{Resource, Scope};
use super::mvcc::{Mvcc, Outcome, Refusal};
use super::object::Entry;
use super::{Batch, Committed, Key, ListAt, Listed, Page, StoreError, Watch};

/// How long a read waits for a revision that isn't there yet: as long as upstream's.
const WAIT_FOR_REVISION: Duration = Duration::from_secs(3);

/// Events that a watcher gets at once: few enough to keep the lock short.
const BATCH_EVENTS: usize = 256;

/// The state and who waits for it.
pub(super) struct Shared {
    state: RwLock<Mvcc>,
    /// Tells the watchers of a resource that something happened to it.
    bells: RwLock<HashMap<Resource, watch::Sender<u64>>>,
    revision: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(state: Mvcc) -> Arc<Self> {
        let revision = watch::Sender::new(state.revision());
        Arc::new(Self { state: RwLock::new(state), bells: RwLock::default(), revision })
    }

    /// Replaces the state by one that another member sent. Watchers learn that they missed something.
    pub(super) fn replace(&self, state: Mvcc) {
        *self.state.write() = state;
        let revision = self.state.read().revision();
        for bell in self.bells.read().values() {
            bell.send_replace(revision);
        }
        self.revision.send_replace(revision);
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Mvcc) -> T) -> T {
        look(&self.state.read())
    }

    pub(super) fn apply<'a>(&self, commands: impl Iterator<Item = &'a Command> + Clone) -> Vec<Outcome> {
        let (outcomes, revision) = {
            let mut state = self.state.write();
            let outcomes: Vec<_> = commands.clone().map(|command| state.apply(command)).collect();
            (outcomes, state.revision())
        };
        self.ring(commands.zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(command, _)| command), revision);
        self.revision.send_replace(revision);
        outcomes
    }

    fn ring<'a>(&self, commands: impl Iterator<Item = &'a Command>, revision: u64) {
        let bells = self.bells.read();
        if bells.is_empty() {
            return;
        }
        for command in commands {
            let Command::Commit(ops) = command else { continue };
            for op in ops.iter() {
                if let Some(bell) = bells.get(op.key().resource()) {
                    bell.send_if_modified(|rung| std::mem::replace(rung, revision) != revision);
                }
            }
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.state.read().get(key.resource(), key.path()).cloned()
    }

    pub(super) async fn list(&self, scope: &Scope, at: ListAt, page: &Page) -> Result<Listed, StoreError> {
        if let ListAt::NotOlderThan(wanted) | ListAt::Exact(wanted) = at {
            self.wait_for(wanted).await?;
        }
        self.state.read().list(scope, at, page)
    }

    async fn wait_for(&self, wanted: u64) -> Result<(), StoreError> {
        if *self.revision.borrow() >= wanted {
            return Ok(());
        }
        let mut revision = self.revision.subscribe();
        let waited = tokio::time::timeout(WAIT_FOR_REVISION, revision.wait_for(|revision| *revision >= wanted)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StoreError::Future { wanted, current: *self.revision.borrow() }),
        }
    }

    pub(super) fn watch(self: &Arc<Self>, scope: &Scope, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        let existing = self.bells.read().get(scope.resource()).map(watch::Sender::subscribe);
        let bell = existing.unwrap_or_else(|| {
            let mut bells = self.bells.write();
            bells.entry(scope.resource().clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
        });
        self.state.read().check_remembered(scope.resource(), from)?;
        Ok(Box::new(Place { shared: Arc::clone(self), scope: scope.clone(), position: from, bell }))
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict { index, current } => Self::Conflict { index, current },
            Refusal::Duplicate { index } => Self::Duplicate { index },
        }
    }
}

/// What a commit that the log took led to.
pub(super) fn committed(outcome: Outcome) -> Result<Committed, StoreError> {
    outcome.map_err(StoreError::from)
}

/// A watcher: a position in the events that are kept anyway.
struct Place {
    shared: Arc<Shared>,
    scope: Scope,
    position: u64,
    bell: watch::Receiver<u64>,
}

impl Place {
    fn pending(&mut self, max: usize) -> Result<Batch, StoreError> {
        let (events, revision) = self.shared.state.read().events(&self.scope, self.position, max)?;
        Ok(Batch { events, revision })
    }
}

impl Watch for Place {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, StoreError>> {
        Box::pin(async move {
            loop {
                self.bell.mark_unchanged();
                let batch = self.pending(BATCH_EVENTS)?;
                self.position = batch.revision;
                if !batch.events.is_empty() {
                    return Ok(batch);
                }
                // The sender lives in what this place holds.
                if self.bell.changed().await.is_err() {
                    return Err(StoreError::Unavailable { reason: "it was closed".into() });
                }
            }
        })
    }

    fn progress(&mut self) -> u64 {
        if let Ok(batch) = self.pending(1)
            && batch.events.is_empty()
        {
            self.position = batch.revision;
        }
        self.position
    }
}
