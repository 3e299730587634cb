//! Opening the files of a store: what is read is checked, what is not as it was written ends the start.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::super::StoreError;
use super::super::cipher::Cipher;
use super::super::mvcc::Mvcc;
use super::disk::{Closed, Disk, Fact, Kind};
use super::log::Log;
use super::mark::{Mark, MarkError};
use super::{RaftConfig, image, machine};

/// The way records are written.
const FORMAT: &[u8] = b"martello store 1";

/// What is on disk, read and checked.
pub(super) struct Opened {
    pub(super) disk: Arc<Disk>,
    pub(super) state: Mvcc,
    pub(super) head: image::Head,
    pub(super) log: Log,
    pub(super) thread: JoinHandle<()>,
    pub(super) closed: Closed,
}

/// Reads everything, or makes what a new store begins with.
pub(super) async fn open(config: RaftConfig, cipher: Arc<dyn Cipher>) -> Result<Opened, StoreError> {
    let opened = tokio::task::spawn_blocking(move || read(&config, cipher)).await;
    // sled panics on some damage.
    opened.unwrap_or_else(|error| {
        Err(StoreError::Damaged { what: format!("reading the files ended in a panic: {}", panic_text(error)) })
    })
}

fn read(config: &RaftConfig, cipher: Arc<dyn Cipher>) -> Result<Opened, StoreError> {
    let files = config.dir.join("sled");
    let mark = open_mark(config, &files, Arc::clone(&cipher))?;
    let (disk, closed) = Disk::open(&files, cipher)?;
    if disk.is_new() {
        if mark.index() > 0 {
            return Err(StoreError::Damaged { what: format!("log records 1 to {}: all are missing", mark.index()) });
        }
        disk.put(Kind::Fact, Fact::Format.into(), FORMAT)?;
        disk.sync_directory(&files)?;
        disk.sync_directory(&config.dir)?;
    }
    match disk.get(Kind::Fact, Fact::Format.into())? {
        Some(format) if format == FORMAT => {}
        Some(_) => return Err(StoreError::Damaged { what: "format record: another version wrote it".to_owned() }),
        None => return Err(StoreError::Damaged { what: "format record: it is missing".to_owned() }),
    }
    let (state, head) = machine::initial(&disk, config.window)?;
    let disk = Arc::new(disk);
    let (log, thread) = Log::open(Arc::clone(&disk), mark, head.last_applied)?;
    Ok(Opened { disk, state, head, log, thread, closed })
}

fn open_mark(config: &RaftConfig, files: &Path, cipher: Arc<dyn Cipher>) -> Result<Mark, StoreError> {
    let path = config.dir.join("mark");
    let disk = |what: &str, source| StoreError::Disk { what: format!("{what} {}", path.display()), source };
    let mark = if path.exists() {
        Mark::open(&path, cipher)
    } else if files.exists() {
        return Err(StoreError::Damaged { what: format!("{} is missing", path.display()) });
    } else {
        std::fs::create_dir_all(&config.dir).map_err(|source| disk("making the directory of", source))?;
        Mark::create(&path, cipher)
    };
    mark.map_err(|error| match error {
        MarkError::Io(source) => disk("opening", source),
        MarkError::Key => StoreError::Unavailable { reason: format!("{}: {error}", path.display()) },
        MarkError::Damaged => StoreError::Damaged { what: format!("{}: {error}", path.display()) },
    })
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "no text".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}
