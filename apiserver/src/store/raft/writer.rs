//! The thread that writes the log.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use openraft::Vote;
use openraft::storage::LogFlushed;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::StoreError;
use super::disk::{Disk, Fact, Kind};
use super::log::Recent;
use super::mark::Mark;
use super::types::{LogEntry, Types, encode_entry};

/// Entries that stay in memory after they are on disk: far more than are waiting to be applied at any time.
const RECENT_ENTRIES: usize = 64;

/// What the writing thread does, in this order and one at a time.
pub(super) enum Job {
    Append { entries: Vec<LogEntry>, done: LogFlushed<Types> },
    Vote { vote: Vote<u64>, done: oneshot::Sender<Result<(), StoreError>> },
    Reseal { done: oneshot::Sender<Result<(), StoreError>> },
    Truncate { from: u64, done: oneshot::Sender<Result<(), StoreError>> },
}

/// Owns the writing side of the log.
pub(super) struct Writer {
    pub(super) disk: Arc<Disk>,
    pub(super) mark: Mark,
    pub(super) recent: Arc<Mutex<Recent>>,
    pub(super) size_bytes: Arc<AtomicU64>,
}

impl Writer {
    /// Does jobs until nobody is left who could send one.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>) {
        for job in queue {
            // Whoever asked may be gone; then nobody needs the answer.
            match job {
                Job::Append { entries, done } => {
                    done.log_io_completed(self.append(&entries).map_err(io::Error::other));
                }
                Job::Vote { vote, done } => drop(done.send(self.vote(&vote))),
                Job::Reseal { done } => drop(done.send(self.reseal())),
                Job::Truncate { from, done } => drop(done.send(self.truncate(from))),
            }
        }
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "the store's high-water mark was not synced");
        }
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StoreError> {
        let mut size_bytes = 0;
        for entry in entries {
            size_bytes += self.disk.put(Kind::Log, entry.log_id.index, &encode_entry(entry))?;
        }
        self.disk.sync()?;
        let Some(last) = entries.last().map(|entry| entry.log_id.index) else { return Ok(()) };
        self.advance(last)?;
        self.size_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        let mut recent = self.recent.lock();
        while recent.entries.len() > RECENT_ENTRIES {
            recent.entries.pop_first();
        }
        Ok(())
    }

    fn advance(&mut self, index: u64) -> Result<(), StoreError> {
        let what = "writing the high-water mark".to_owned();
        self.mark.advance(index).map_err(|error| StoreError::Disk { what, source: io::Error::other(error) })
    }

    fn vote(&self, vote: &Vote<u64>) -> Result<(), StoreError> {
        let record = serde_json::to_vec(vote)
            .map_err(|error| StoreError::Disk { what: "encoding the vote".to_owned(), source: error.into() })?;
        self.disk.put(Kind::Fact, Fact::Vote.into(), &record)?;
        self.disk.sync()
    }

    /// Writes again what isn't written again in the course of things.
    fn reseal(&mut self) -> Result<(), StoreError> {
        for fact in [Fact::Format, Fact::Vote] {
            if let Some(record) = self.disk.get(Kind::Fact, fact.into())? {
                self.disk.put(Kind::Fact, fact.into(), &record)?;
            }
        }
        self.disk.sync()?;
        let index = self.mark.index();
        self.advance(index)?;
        self.advance(index)
    }

    fn truncate(&mut self, from: u64) -> Result<(), StoreError> {
        if self.mark.index() >= from {
            self.advance(from.saturating_sub(1))?;
            let what = "syncing the high-water mark".to_owned();
            self.mark.sync().map_err(|source| StoreError::Disk { what, source })?;
        }
        self.disk.remove(Kind::Log, from..=u64::MAX)?;
        self.disk.sync()
    }
}
