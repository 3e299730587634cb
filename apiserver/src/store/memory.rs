//! A store that forgets everything when it is dropped: for tests of what is built on a store.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use super::command::{Command, Op};
use super::key::{Key, Scope};
use super::mvcc::{Mvcc, Window};
use super::object::Entry;
use super::shared::{self, Shared};
use super::{Committed, ListAt, Listed, Page, Status, Store, StoreError, Watch};

/// Keeps objects in memory alone.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// Empty, with so much history.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self { shared: Shared::new(Mvcc::new(window)) }
    }

    fn apply(&self, command: &Command) -> Result<Committed, StoreError> {
        let outcome = self.shared.apply(std::iter::once(command)).pop();
        outcome.map_or_else(|| Err(StoreError::Unavailable { reason: "no outcome".into() }), shared::committed)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Window::default())
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<Entry>>, StoreError>> {
        async { Ok(self.shared.get(key)) }.boxed()
    }

    fn list<'a>(&'a self, scope: &'a Scope, at: ListAt, page: Page) -> BoxFuture<'a, Result<Listed, StoreError>> {
        async move { self.shared.list(scope, at, &page).await }.boxed()
    }

    fn watch<'a>(&'a self, scope: &'a Scope, from: u64) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        async move { self.shared.watch(scope, from) }.boxed()
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        async move { self.apply(&Command::commit(ops)?) }.boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.progress()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            self.apply(&Command::Compact(revision))?;
            Ok(self.shared.read(Mvcc::compacted))
        }
        .boxed()
    }

    fn progress(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async { Ok(self.shared.read(Mvcc::revision)) }.boxed()
    }

    fn status(&self) -> Status {
        self.shared.read(|state| Status {
            revision: state.revision(),
            compacted: state.compacted(),
            objects: state.len(),
            size_bytes: state.size_bytes(),
            ..Status::default()
        })
    }
}
