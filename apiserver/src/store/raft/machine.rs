//! Applies what the group has agreed on to the state, and saves the state.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};

use super::super::StoreError;
use super::super::mvcc::{Mvcc, Window};
use super::super::shared::Shared;
use super::disk::Disk;
use super::image::{self, Image};
use super::types::{LogEntry, Member, Outcomes, Types};

/// The state, as openraft sees it.
pub(super) struct Machine {
    pub(super) id: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<Disk>,
    pub(super) window: Window,
    pub(super) last_applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, Member>,
    pub(super) log_bytes: Arc<AtomicU64>,
    /// Whether this member is the only voter.
    pub(super) alone: Arc<AtomicBool>,
    /// While openraft starts, it asks for the image, but for its metadata only.
    pub(super) starting: Arc<AtomicBool>,
}

impl Machine {
    pub(super) fn note_membership(&self) {
        let alone = self.membership.membership().voter_ids().eq([self.id]);
        self.alone.store(alone, Ordering::Release);
    }

    fn apply_one(&mut self, entry: LogEntry) -> Outcomes {
        self.last_applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Outcomes::default(),
            EntryPayload::Normal(commands) => Outcomes { of: self.shared.apply(commands.0.iter()) },
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.note_membership();
                Outcomes::default()
            }
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError<u64>>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(entries.into_iter().map(|entry| self.apply_one(entry)).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (origin, entries) = self.shared.read(|state| (state.origin(), state.entries()));
        let image = Image { origin, entries, last_applied: self.last_applied, membership: self.membership.clone() };
        let covered = self.log_bytes.load(Ordering::Relaxed);
        Builder {
            disk: Arc::clone(&self.disk),
            image: Arc::new(image),
            log_bytes: Arc::clone(&self.log_bytes),
            covered,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, Member>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let failed = |error: &StoreError| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(error));
        let state = image::import(snapshot.get_ref(), self.window).map_err(|error| failed(&error))?;
        let image = Image {
            origin: state.origin(),
            entries: state.entries(),
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let disk = Arc::clone(&self.disk);
        let saved = tokio::task::spawn_blocking(move || image::save(&disk, &image)).await;
        flatten(saved).map_err(|error| failed(&error))?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.note_membership();
        self.shared.replace(state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        let failed = |error: &StoreError| StorageIOError::read_snapshot(None, AnyError::new(error));
        let Some(head) = image::head(&self.disk).map_err(|error| failed(&error))? else { return Ok(None) };
        let meta = head.meta();
        let mut bytes = Vec::new();
        if !self.starting.load(Ordering::Acquire) {
            let disk = Arc::clone(&self.disk);
            let read = tokio::task::spawn_blocking(move || image::export(&disk, &head)).await;
            bytes = flatten(read).map_err(|error| failed(&error))?;
        }
        Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

/// Saves the state as it was when this was made.
pub(super) struct Builder {
    disk: Arc<Disk>,
    image: Arc<Image>,
    log_bytes: Arc<AtomicU64>,
    covered: u64,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        let (disk, image) = (Arc::clone(&self.disk), Arc::clone(&self.image));
        let saved = tokio::task::spawn_blocking(move || image::save(&disk, &image)).await;
        let head = flatten(saved).map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)))?;
        self.log_bytes.fetch_sub(self.covered, Ordering::Relaxed);
        tracing::info!(revision = head.revision, log_bytes = self.covered, "the store's state was saved");
        // openraft wants the metadata of what it asked to be built, and asks again when it needs the content.
        Ok(Snapshot { meta: head.meta(), snapshot: Box::default() })
    }
}

fn flatten<T>(joined: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    joined.unwrap_or_else(|error| Err(StoreError::Unavailable { reason: error.to_string() }))
}

/// The state that openraft starts with.
pub(super) fn initial(disk: &Disk, window: Window) -> Result<(Mvcc, image::Head), StoreError> {
    let head = image::head(disk)?;
    image::tidy(disk, head.as_ref())?;
    match head {
        Some(head) => Ok((image::load(disk, &head, window)?, head)),
        None => Ok((Mvcc::new(window), image::Head::default())),
    }
}
