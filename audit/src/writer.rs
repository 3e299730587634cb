//! The threads behind a log: one writes what was appended, one brings it to the disk.
//!
//! Records are chained and laid into a buffer by whoever appends them, under one short lock. The writing thread takes the
//! whole buffer and writes it at once; the syncing thread calls `fdatasync` whenever something was written since the last,
//! so that all who wait meanwhile share the next one. Only what is on disk is entered into the head.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::{
    chain::{Authenticator, Chain},
    files::Segment,
    head::{Head, HeadFile},
    waiters::{Reach, Waiters},
};

/// Records that nobody waits for are written at least this often.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// The head itself is brought to the disk at least this often; a crash of the process alone never loses it.
const HEAD_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What the appending side and the threads share.
pub(crate) struct Shared {
    pub(crate) buffer: Mutex<Buffer>,
    pub(crate) wake: Condvar,
    written: Mutex<Written>,
    wake_sync: Condvar,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) waiters: Waiters,
}

/// Records that were appended and not yet written.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// The chain after the last of them.
    pub(crate) chain: Chain,
    /// Whether somebody waits.
    pub(crate) is_urgent: bool,
    pub(crate) is_closing: bool,
}

/// What was written and is not known to be on disk.
#[derive(Default)]
struct Written {
    head: Head,
    file: Option<Arc<File>>,
    is_closed: bool,
}

/// How far the threads are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Number of the last record that survives the process.
    pub(crate) written: u64,
    /// Number of the last record that survives a power failure.
    pub(crate) synced: u64,
    /// Why nothing can be written at the moment.
    pub(crate) failure: Option<Arc<str>>,
    /// Whether only a restart can help.
    is_lasting: bool,
}

impl Progress {
    /// Number of the last record that has got there.
    pub(crate) fn of(&self, reach: Reach) -> u64 {
        match reach {
            Reach::Written => self.written,
            Reach::Synced => self.synced,
        }
    }
}

impl Shared {
    pub(crate) fn new(chain: Chain) -> Self {
        let progress = Progress { written: chain.number, synced: chain.number, failure: None, is_lasting: false };
        Self {
            buffer: Mutex::new(Buffer { bytes: Vec::new(), chain, is_urgent: false, is_closing: false }),
            wake: Condvar::new(),
            written: Mutex::default(),
            wake_sync: Condvar::new(),
            progress: watch::Sender::new(progress),
            waiters: Waiters::default(),
        }
    }

    fn fail(&self, why: String, is_lasting: bool) {
        self.progress.send_if_modified(|progress| {
            if progress.failure.as_deref() == Some(why.as_str()) {
                return false;
            }
            tracing::error!(error = why, "the audit log cannot be written: requests are refused");
            progress.failure = Some(why.into());
            progress.is_lasting |= is_lasting;
            true
        });
        self.waiters.give_up();
    }
}

/// The writing thread.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: PathBuf,
    pub(crate) keys: Arc<dyn Authenticator>,
    pub(crate) segment: Segment,
    pub(crate) segment_bytes: u64,
    /// The chain up to the last record that was written whole.
    pub(crate) before: Chain,
    /// Whether something of the records after `before` was written already.
    pub(crate) is_midway: bool,
}

impl Writer {
    /// Writes until the log is closed.
    pub(crate) fn run(mut self) {
        let mut file = self.segment.file.try_clone().ok().map(Arc::new);
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let (taken, chain, is_closing) = self.take();
            pending.extend_from_slice(&taken);
            if !pending.is_empty() {
                match self.write(&mut pending, &mut file) {
                    Ok(()) => self.publish(chain, file.clone()),
                    Err(why) => {
                        self.shared.fail(why, false);
                        if !is_closing {
                            std::thread::sleep(FLUSH_INTERVAL);
                        }
                    }
                }
            } else if let Err(why) = self.check_place() {
                self.shared.fail(why, false);
            } else {
                self.clear_failure();
            }
            if is_closing {
                let mut written = self.shared.written.lock();
                written.is_closed = true;
                self.shared.wake_sync.notify_all();
                return;
            }
        }
    }

    /// Waits until there is something to write that somebody waits for, or for the interval.
    fn take(&self) -> (Vec<u8>, Chain, bool) {
        let deadline = Instant::now() + FLUSH_INTERVAL;
        let mut buffer = self.shared.buffer.lock();
        while !buffer.is_urgent && !buffer.is_closing {
            if self.shared.wake.wait_until(&mut buffer, deadline).timed_out() {
                break;
            }
        }
        buffer.is_urgent = false;
        (std::mem::take(&mut buffer.bytes), buffer.chain, buffer.is_closing)
    }

    /// Writes all of `pending`; what could not be written stays in it.
    fn write(&mut self, pending: &mut Vec<u8>, file: &mut Option<Arc<File>>) -> Result<(), String> {
        self.check_place()?;
        if self.segment.length >= self.segment_bytes && !self.is_midway {
            self.rotate(file)?;
        }
        if file.is_none() {
            *file = Some(Arc::new(self.segment.file.try_clone().map_err(|error| self.failed("duplicating", &error))?));
        }
        while !pending.is_empty() {
            match self.segment.file.write(pending) {
                Ok(0) => return Err(format!("nothing could be written to {}", self.segment.path.display())),
                Ok(count) => {
                    self.segment.length += count as u64;
                    self.is_midway = true;
                    pending.drain(..count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("writing", &error)),
            }
        }
        Ok(())
    }

    /// Goes on in a new file, which begins with the record after `before`.
    fn rotate(&mut self, file: &mut Option<Arc<File>>) -> Result<(), String> {
        self.segment.file.sync_data().map_err(|error| self.failed("bringing to the disk", &error))?;
        let created = Segment::create(&self.directory, &self.before, self.keys.as_ref());
        self.segment = created.map_err(|error| describe(&error))?;
        *file = None;
        Ok(())
    }

    fn check_place(&self) -> Result<(), String> {
        match self.segment.is_ours() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "{} was removed, replaced or changed by somebody else; keep the directory for the inquiry and restart",
                self.segment.path.display()
            )),
            Err(error) => Err(self.failed("looking at", &error)),
        }
    }

    fn publish(&mut self, chain: Chain, file: Option<Arc<File>>) {
        self.before = chain;
        self.is_midway = false;
        let head = Head { chain, segment: self.segment.first, end: self.segment.length };
        *self.shared.written.lock() = Written { head, file, is_closed: false };
        self.shared.progress.send_modify(|progress| {
            progress.written = chain.number;
            if !progress.is_lasting {
                progress.failure = None;
            }
        });
        self.shared.waiters.reached(Reach::Written, chain.number);
        self.shared.wake_sync.notify_all();
    }

    fn clear_failure(&self) {
        let clear = |progress: &mut Progress| !progress.is_lasting && progress.failure.take().is_some();
        self.shared.progress.send_if_modified(clear);
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> String {
        format!("{what} {}: {error}", self.segment.path.display())
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The syncing thread.
pub(crate) struct Syncer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: Arc<dyn Authenticator>,
    pub(crate) head_file: HeadFile,
}

impl Syncer {
    /// Brings to the disk what was written until the log is closed.
    pub(crate) fn run(mut self) {
        let mut synced = self.shared.progress.borrow().synced;
        let mut head_synced = Instant::now();
        loop {
            let (head, file, is_closed) = self.take(synced);
            if let Some(file) = file.filter(|_| head.chain.number > synced) {
                let result = file.sync_data().and_then(|()| self.head_file.write(&head, self.keys.as_ref()));
                let result = result.and_then(|()| {
                    if is_closed || head_synced.elapsed() >= HEAD_SYNC_INTERVAL {
                        head_synced = Instant::now();
                        return self.head_file.sync();
                    }
                    Ok(())
                });
                if let Err(error) = result {
                    // After a failed sync the kernel may have dropped the pages: nothing more can be promised.
                    self.shared.fail(format!("bringing the audit log to the disk: {error}; restart the server"), true);
                    return;
                }
                synced = head.chain.number;
                self.shared.progress.send_modify(|progress| progress.synced = synced);
                self.shared.waiters.reached(Reach::Synced, synced);
            }
            if is_closed {
                // A head that was not synced is at worst a second old, which the next start makes good.
                self.head_file.sync().unwrap_or_default();
                return;
            }
        }
    }

    fn take(&self, synced: u64) -> (Head, Option<Arc<File>>, bool) {
        let mut written = self.shared.written.lock();
        while written.head.chain.number <= synced && !written.is_closed {
            self.shared.wake_sync.wait(&mut written);
        }
        (written.head, written.file.clone(), written.is_closed)
    }
}
