//! The log as its writers see it.

use std::{os::unix::fs::DirBuilderExt, path::Path, sync::Arc, thread::JoinHandle};

use jiff::Timestamp;
use martello_api::clock;
use parking_lot::Mutex;

use crate::{
    chain::{Authenticator, Chain, MAX_EVENT_BYTES, RecordCipher, make_payload},
    event::{Event, Stage},
    recover::recover,
    verify::{Gap, VerifyError},
    waiters::Reach,
    writer::{Shared, Syncer, Writer},
};

/// Most bytes of records that wait to be written. The disk is far behind then, and requests are refused rather than the
/// server's memory filled.
const MAX_BUFFERED_BYTES: usize = 8 * 1024 * 1024;

/// What a log may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A file of the log is followed by a new one when it has grown to this size.
    pub segment_bytes: u64,
    /// When the record of a change must be on disk.
    pub durability: Durability,
}

/// When the record of a change must be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the change is acknowledged. It is written before the commit: only a power failure between the two could leave
    /// a change, not acknowledged, without its record.
    #[default]
    BeforeAnswer,
    /// Before the change is committed: the price is one more disk latency per change.
    BeforeCommit,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, durability: Durability::default() }
    }
}

/// The keys of a log.
#[derive(Clone)]
pub struct Keys {
    /// Authenticates the head and each file's header.
    pub authenticator: Arc<dyn Authenticator>,
    /// Encrypts the records, if given.
    pub cipher: Option<Arc<dyn RecordCipher>>,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Number of the last record.
    pub last_record: u64,
    /// What a crash had left behind and is closed off now.
    pub gap: Option<Gap>,
}

/// A record could not be made, or the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory could not be made.
    #[error("making the audit log's directory {path}")]
    Directory {
        /// Which one.
        path: String,
        /// What hindered it.
        #[source]
        source: std::io::Error,
    },
    /// The log that is there is damaged, or could not be read.
    #[error("opening the audit log")]
    Damaged(#[source] Box<VerifyError>),
    /// A thread could not be started.
    #[error("starting the audit log's threads")]
    Threads(#[source] std::io::Error),
    /// The event could not be put into the log's format.
    #[error("encoding an audit record: {0}")]
    Encode(String),
    /// The log cannot be written at the moment.
    #[error("the audit log cannot be written: {0}")]
    Unwritable(Arc<str>),
    /// Too much waits to be written.
    #[error("the audit log's disk is too slow: {MAX_BUFFERED_BYTES} bytes wait to be written")]
    Behind,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// A log that is written. A clone is the same log.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    cipher: Option<Arc<dyn RecordCipher>>,
    durability: Durability,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A change whose intent is in the log and whose outcome is not yet.
///
/// If it is dropped, the log gets a record of stage `Panic`.
#[must_use = "the outcome of a change belongs into the log"]
pub struct Pending {
    log: Log,
    number: u64,
    event: Option<Box<Event>>,
}

impl Log {
    /// Opens the log in `directory`, which is made if it is missing; `now` dates the record of a gap.
    ///
    /// # Errors
    /// If what is there is not the log that was last written there: nothing is appended to a log that was tampered with.
    pub fn open(directory: &Path, keys: &Keys, config: &Config, now: Timestamp) -> Result<(Self, Opened), LogError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| LogError::Directory { path: directory.display().to_string(), source })?;
        let recovered = recover(directory, keys.authenticator.as_ref(), now);
        let recovered = recovered.map_err(|error| LogError::Damaged(Box::new(error)))?;
        let opened = Opened { last_record: recovered.chain.number, gap: recovered.gap };
        let shared = Arc::new(Shared::new(recovered.chain));
        let writer = Writer {
            shared: Arc::clone(&shared),
            directory: directory.to_owned(),
            keys: Arc::clone(&keys.authenticator),
            segment: recovered.segment,
            segment_bytes: config.segment_bytes,
            before: recovered.chain,
            is_midway: false,
        };
        let syncer = Syncer {
            shared: Arc::clone(&shared),
            keys: Arc::clone(&keys.authenticator),
            head_file: recovered.head_file,
        };
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            named("audit-write").spawn(|| writer.run()).map_err(LogError::Threads)?,
            named("audit-sync").spawn(|| syncer.run()).map_err(LogError::Threads)?,
        ];
        let inner =
            Inner { shared, cipher: keys.cipher.clone(), durability: config.durability, threads: Mutex::new(threads) };
        Ok((Self { inner: Arc::new(inner) }, opened))
    }

    /// Records a request that changes nothing. The record is in the chain when this returns, and on disk soon after.
    ///
    /// # Errors
    /// If the log cannot be written: the request must be refused.
    pub fn record(&self, event: &Event) -> Result<(), LogError> {
        self.append(event, Urgency::Soon).map(drop)
    }

    /// Records the intent of a change, before it is committed.
    ///
    /// # Errors
    /// If the record could not be written: the change must be refused.
    pub async fn begin(&self, event: Event) -> Result<Pending, LogError> {
        let number = self.append(&event, Urgency::Now)?;
        match self.inner.durability {
            Durability::BeforeAnswer => self.wait(Reach::Written, number).await?,
            Durability::BeforeCommit => self.wait(Reach::Synced, number).await?,
        }
        Ok(Pending { log: self.clone(), number, event: Some(Box::new(event)) })
    }

    /// Waits until everything recorded so far is on disk.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn flush(&self) -> Result<(), LogError> {
        let number = {
            let mut buffer = self.inner.shared.buffer.lock();
            buffer.is_urgent = true;
            buffer.chain.number
        };
        self.inner.shared.wake.notify_all();
        self.wait(Reach::Synced, number).await
    }

    /// The chain with the last record, on disk or not yet.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.inner.shared.buffer.lock().chain
    }

    /// Whether the log can be written, for readiness.
    ///
    /// # Errors
    /// With the reason, if not.
    pub fn health(&self) -> Result<(), LogError> {
        match &self.inner.shared.progress.borrow().failure {
            Some(failure) => Err(LogError::Unwritable(Arc::clone(failure))),
            None => Ok(()),
        }
    }

    fn append(&self, event: &Event, urgency: Urgency) -> Result<u64, LogError> {
        let text = encoded(event)?;
        if urgency != Urgency::Late {
            self.health()?;
        }
        let shared = &self.inner.shared;
        let mut buffer = shared.buffer.lock();
        if buffer.is_closing {
            return Err(LogError::Closed);
        }
        if buffer.bytes.len() >= MAX_BUFFERED_BYTES {
            return Err(LogError::Behind);
        }
        let number = buffer.chain.number.saturating_add(1);
        let payload = make_payload(number, text, self.inner.cipher.as_deref()).map_err(LogError::Encode)?;
        let mut chain = buffer.chain;
        chain.append(&payload, &mut buffer.bytes);
        buffer.chain = chain;
        let is_first_urgent = urgency == Urgency::Now && !std::mem::replace(&mut buffer.is_urgent, true);
        if urgency != Urgency::Now {
            return Ok(number);
        }
        drop(buffer);
        if is_first_urgent {
            shared.wake.notify_all();
        }
        Ok(number)
    }

    /// Waits until the record has got there, or nothing can be written.
    async fn wait(&self, reach: Reach, number: u64) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let settled = || {
            let progress = shared.progress.borrow();
            if progress.of(reach) >= number {
                return Some(Ok(()));
            }
            progress.failure.clone().map(|failure| Err(LogError::Unwritable(failure)))
        };
        let woken = match shared.waiters.join(reach, number, settled) {
            Ok(woken) => woken,
            Err(answer) => return answer,
        };
        woken.await.map_err(|_| shared.progress.borrow().failure.clone().map_or(LogError::Closed, LogError::Unwritable))
    }
}

/// An event as JSON that fits in a line: one that does not would be read back in pieces, and nothing after it could be verified.
fn encoded(event: &Event) -> Result<Vec<u8>, LogError> {
    let encode = |event: &Event| serde_json::to_vec(event).map_err(|error| LogError::Encode(error.to_string()));
    let text = encode(event)?;
    if text.len() <= MAX_EVENT_BYTES {
        return Ok(text);
    }
    let shorter = encode(&event.shortened(text.len()))?;
    if shorter.len() <= MAX_EVENT_BYTES {
        return Ok(shorter);
    }
    Err(LogError::Encode(format!("{} bytes are more than the {MAX_EVENT_BYTES} of the longest record", shorter.len())))
}

/// How soon a record must be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits.
    Now,
    /// With the next that are written.
    Soon,
    /// As `Soon`, and also if the log cannot be written at the moment: the outcome of what is recorded already.
    Late,
}

impl Pending {
    /// Adds the outcome, and returns when the intent is on disk.
    ///
    /// # Errors
    /// If the log could not be written meanwhile: the change is committed, and must not be acknowledged.
    pub async fn close(
        mut self,
        code: u16,
        reason: &str,
        annotations: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<(), LogError> {
        let Some(event) = self.event.take() else { return Ok(()) };
        let event = annotations.iter().fold(*event, |event, (key, value)| event.annotated(key, value));
        self.log.append(&event.completed(code, reason, now), Urgency::Late)?;
        let number = self.number;
        self.log.wait(Reach::Synced, number).await
    }

    /// The event of the intent, to be completed: for instance with the name that the server gave to the object.
    pub fn event_mut(&mut self) -> Option<&mut Event> {
        self.event.as_deref_mut()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            let event = event.at(Stage::Panic, clock::now());
            if let Err(error) = self.log.append(&event, Urgency::Late) {
                tracing::error!(%error, "the end of an abandoned change was not recorded");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.buffer.lock().is_closing = true;
        self.shared.wake.notify_all();
        for thread in self.threads.get_mut().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the audit log panicked");
            }
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
