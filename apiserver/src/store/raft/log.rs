//! The log: on disk by a thread of its own, in memory as far as it was not applied yet.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::StoreError;
use super::disk::{Disk, Fact, Kind};
use super::mark::Mark;
use super::types::{LogEntry, Types, decode_entry, encode_entry};
use super::writer::{Job, Writer};

/// The log of this member. Clones share it.
#[derive(Clone)]
pub(super) struct Log {
    disk: Arc<Disk>,
    recent: Arc<Mutex<Recent>>,
    /// Bytes on disk that the last image doesn't cover.
    size_bytes: Arc<AtomicU64>,
    jobs: mpsc::Sender<Job>,
}

/// What is in memory of the log.
#[derive(Default)]
pub(super) struct Recent {
    pub(super) entries: BTreeMap<u64, LogEntry>,
    purged: Option<LogId<u64>>,
    last: Option<LogId<u64>>,
}

impl Log {
    /// Reads the log, checks it against the mark, and starts the thread that writes it.
    ///
    /// `image` is the last entry that the saved state covers.
    pub(super) fn open(
        disk: Arc<Disk>,
        mark: Mark,
        image: Option<LogId<u64>>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (recent, size_bytes) = read(&disk, mark.index(), image)?;
        let (recent, size_bytes) = (Arc::new(Mutex::new(recent)), Arc::new(AtomicU64::new(size_bytes)));
        let (jobs, queue) = mpsc::channel();
        let writer =
            Writer { disk: Arc::clone(&disk), mark, recent: Arc::clone(&recent), size_bytes: Arc::clone(&size_bytes) };
        let thread = std::thread::Builder::new().name("store-log".into()).spawn(move || writer.run(&queue));
        let thread =
            thread.map_err(|source| StoreError::Disk { what: "starting the log's thread".to_owned(), source })?;
        Ok((Self { disk, recent, size_bytes, jobs }, thread))
    }

    /// The index of the last entry.
    pub(super) fn last_index(&self) -> u64 {
        self.recent.lock().last.map_or(0, |last| last.index)
    }

    /// Bytes that a start would have to replay.
    pub(super) fn size_bytes(&self) -> &Arc<AtomicU64> {
        &self.size_bytes
    }

    fn read(&self, range: impl RangeBounds<u64>) -> Result<Vec<LogEntry>, StoreError> {
        let (start, end) = {
            let recent = self.recent.lock();
            let start = match range.start_bound() {
                Bound::Included(&start) => start,
                Bound::Excluded(&start) => start + 1,
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(&end) => end + 1,
                Bound::Excluded(&end) => end,
                Bound::Unbounded => u64::MAX,
            };
            let start = start.max(recent.purged.map_or(0, |purged| purged.index + 1));
            let end = end.min(recent.last.map_or(0, |last| last.index + 1));
            if start >= end {
                return Ok(Vec::new());
            }
            let cached: Vec<_> = recent.entries.range(start..end).map(|(_, entry)| entry.clone()).collect();
            if cached.len() as u64 == end - start {
                return Ok(cached);
            }
            (start, end)
        };
        (start..end)
            .map(|index| match self.recent.lock().entries.get(&index) {
                Some(entry) => Ok(entry.clone()),
                None => read_entry(&self.disk, index),
            })
            .collect()
    }

    /// Seals again, with the key of now, what isn't written again in the course of things.
    pub(super) async fn reseal(&self) -> Result<(), StoreError> {
        self.ask(|done| Job::Reseal { done }).await
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Job) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(job(done)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { reason: "the log's thread ended".to_owned() }
}

/// Everything of the log that the image doesn't cover, checked, and its size on disk.
fn read(disk: &Disk, mark: u64, image: Option<LogId<u64>>) -> Result<(Recent, u64), StoreError> {
    let covered = image.map_or(0, |image| image.index);
    let mut recent = Recent { purged: image, last: image, ..Recent::default() };
    let mut size_bytes = 0;
    let first = image.map_or(0, |image| image.index + 1);
    let mut numbers = disk.numbers(Kind::Log)?;
    if let Some(&oldest) = numbers.first()
        && oldest < first
    {
        disk.remove(Kind::Log, oldest..=first - 1)?;
    }
    numbers.retain(|&index| index >= first);
    for (expected, index) in (first..).zip(numbers) {
        if index != expected {
            return Err(missing(expected, index - 1));
        }
        if index > mark && !disk.is_whole(Kind::Log, index)? {
            // The write was cut short, so it was never acknowledged, nor was anything after it.
            disk.remove(Kind::Log, index..=u64::MAX)?;
            disk.sync()?;
            break;
        }
        let entry = read_entry(disk, index)?;
        size_bytes += encode_entry(&entry).len() as u64;
        recent.last = Some(entry.log_id);
        recent.entries.insert(index, entry);
    }
    let last = recent.last.map_or(covered, |last| last.index);
    if last < mark {
        return Err(missing(last + 1, mark));
    }
    Ok((recent, size_bytes))
}

fn missing(first: u64, last: u64) -> StoreError {
    StoreError::Damaged { what: format!("log records {first} to {last} are missing, though they were written") }
}

fn read_entry(disk: &Disk, index: u64) -> Result<LogEntry, StoreError> {
    let damaged = |why: String| StoreError::Damaged { what: format!("log record {index}: {why}") };
    let record = disk.get(Kind::Log, index)?.ok_or_else(|| damaged("it is missing".to_owned()))?;
    let entry = decode_entry(&record).map_err(|error| damaged(error.to_string()))?;
    if entry.log_id.index == index { Ok(entry) } else { Err(damaged("it is another record".to_owned())) }
}

/// The vote that was saved last.
fn read_vote(disk: &Disk) -> Result<Option<Vote<u64>>, StoreError> {
    let Some(record) = disk.get(Kind::Fact, Fact::Vote.into())? else { return Ok(None) };
    let vote = serde_json::from_slice(&record);
    vote.map(Some).map_err(|error| StoreError::Damaged { what: format!("vote record: {error}") })
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, StorageError<u64>> {
        self.read(range).map_err(|error| StorageIOError::read_logs(AnyError::new(&error)).into())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let recent = self.recent.lock();
        Ok(LogState { last_purged_log_id: recent.purged, last_log_id: recent.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let vote = *vote;
        let saved = self.ask(|done| Job::Vote { vote, done }).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        read_vote(&self.disk).map_err(|error| StorageIOError::read_vote(AnyError::new(&error)).into())
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Types>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        {
            let mut recent = self.recent.lock();
            for entry in &entries {
                recent.last = Some(entry.log_id);
                recent.entries.insert(entry.log_id.index, entry.clone());
            }
        }
        let sent = self.jobs.send(Job::Append { entries, done });
        sent.map_err(|_| StorageIOError::write_logs(AnyError::new(&gone())).into())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let cut = self.ask(|done| Job::Truncate { from: log_id.index, done }).await;
        cut.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        let before = log_id.index.checked_sub(1);
        let last = match before {
            Some(before) => {
                self.read(before..=before).ok().and_then(|entries| entries.first().map(|entry| entry.log_id))
            }
            None => None,
        };
        let mut recent = self.recent.lock();
        recent.entries.split_off(&log_id.index);
        recent.last = last.or(recent.purged);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        {
            let mut recent = self.recent.lock();
            recent.entries = recent.entries.split_off(&(log_id.index + 1));
            recent.purged = Some(log_id);
            recent.last = recent.last.max(Some(log_id));
        }
        // Removing takes a while, and nothing depends on it: what is left over is removed at the next start.
        let disk = Arc::clone(&self.disk);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = disk.remove(Kind::Log, 0..=log_id.index) {
                tracing::warn!(%error, "old records of the store's log were not removed");
            }
        });
        Ok(())
    }
}
