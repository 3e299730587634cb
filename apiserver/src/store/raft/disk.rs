//! Sealed records on sled, and the only place that knows of sled.
//!
//! A record is sealed as a whole for its place and cut into parts, which keeps sled from writing it to a file
//! beside its log, which it would not sync. sled's `flush` leaves the file's metadata and the device's cache to
//! chance on Linux, so the data file is synced here once more.

use std::convert::Infallible;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sled::Tree;
use tokio::sync::oneshot;

use super::super::StoreError;
use super::super::cipher::{Cipher, CipherError};

/// Small enough for sixteen parts, a full node of sled's, to fit into a quarter of a segment.
const PART_BYTES: usize = 32 * 1024;

/// sled's unit of writing and of collecting garbage.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// The state is in memory already; sled's pages are read at start only.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often sled collects its garbage. It syncs then as well, needed or not.
const TIDY_EVERY_MS: u64 = 2000;

/// Sealed records, by kind and number.
pub(super) struct Disk {
    db: sled::Db,
    data: File,
    cipher: Arc<dyn Cipher>,
    log: Tree,
    image: Tree,
    facts: Tree,
    /// Dropped after the files, which tells whoever waits for that.
    _open: oneshot::Sender<Infallible>,
}

/// Fails when the files are closed.
pub(super) type Closed = oneshot::Receiver<Infallible>;

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Entries of the log, by index.
    Log,
    /// Parts of the saved state, by generation and number.
    Image,
    /// The few others, by what [`Fact`] says.
    Fact,
}

/// Records of which there is one each.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    /// How everything is written.
    Format = 0,
    /// For whom this member voted.
    Vote = 1,
    /// Which image is the valid one.
    Image = 2,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Image => "image",
            Self::Fact => "fact",
        }
    }
}

impl From<Fact> for u64 {
    fn from(fact: Fact) -> Self {
        fact as Self
    }
}

impl Disk {
    /// Opens or makes the files in `dir`. The receiver fails when they are closed again.
    pub(super) fn open(dir: &Path, cipher: Arc<dyn Cipher>) -> Result<(Self, Closed), StoreError> {
        drop_half_written_index(dir)?;
        let db = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(TIDY_EVERY_MS))
            .open()
            .map_err(|error| failure("opening", error))?;
        let tree = |kind: Kind| db.open_tree(kind.name()).map_err(|error| failure("opening", error));
        let (log, image, facts) = (tree(Kind::Log)?, tree(Kind::Image)?, tree(Kind::Fact)?);
        let path = dir.join("db");
        let data = File::open(&path).map_err(|source| StoreError::Disk { what: path.display().to_string(), source })?;
        let (open, closed) = oneshot::channel();
        Ok((Self { db, data, cipher, log, image, facts, _open: open }, closed))
    }

    /// Whether nothing was ever written.
    pub(super) fn is_new(&self) -> bool {
        self.facts.is_empty() && self.log.is_empty() && self.image.is_empty()
    }

    /// Writes a record; not on disk before [`Disk::sync`]. Answers the bytes it takes.
    pub(super) fn put(&self, kind: Kind, number: u64, plaintext: &[u8]) -> Result<u64, StoreError> {
        let sealed = self.cipher.seal(&place(kind, number), plaintext).map_err(|error| locked(kind, number, error))?;
        let length = u32::try_from(sealed.len()).map_err(|_| StoreError::TooLarge {
            size: sealed.len(),
            limit: u32::MAX as usize,
            unit: "bytes",
        })?;
        let mut record = Vec::with_capacity(sealed.len() + 4);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&sealed);
        let tree = self.tree(kind);
        for (part, bytes) in (0_u16..).zip(record.chunks(PART_BYTES)) {
            tree.insert(key(number, part), bytes).map_err(|error| failure("writing", error))?;
        }
        Ok(record.len() as u64)
    }

    /// Makes everything that was written durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| failure("flushing", error))?;
        self.data.sync_data().map_err(|error| failure("syncing", error.into()))
    }

    /// Makes durable that there are files at all in `dir`.
    pub(super) fn sync_directory(&self, dir: &Path) -> Result<(), StoreError> {
        self.sync()?;
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| StoreError::Disk { what: format!("syncing {}", dir.display()), source })
    }

    /// The record `number`, if there is one.
    pub(super) fn get(&self, kind: Kind, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut record = Vec::new();
        let tree = self.tree(kind);
        for part in tree.range(key(number, 0)..=key(number, u16::MAX)) {
            record.extend_from_slice(&part.map_err(|error| damaged(kind, number, error))?.1);
        }
        if record.is_empty() {
            return Ok(None);
        }
        let (length, sealed) = record.split_at_checked(4).ok_or_else(|| damaged(kind, number, TORN))?;
        if length != u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes() {
            return Err(damaged(kind, number, TORN));
        }
        self.cipher.open(&place(kind, number), sealed).map(Some).map_err(|error| locked(kind, number, error))
    }

    /// Whether all parts of the record are there, whatever they say.
    pub(super) fn is_whole(&self, kind: Kind, number: u64) -> Result<bool, StoreError> {
        let mut size = 0;
        let mut length = None;
        for part in self.tree(kind).range(key(number, 0)..=key(number, u16::MAX)) {
            let (_, bytes) = part.map_err(|error| damaged(kind, number, error))?;
            length = length.or_else(|| bytes.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize + 4));
            size += bytes.len();
        }
        Ok(length == Some(size))
    }

    /// The numbers of all records of a kind, in order.
    pub(super) fn numbers(&self, kind: Kind) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        for part in self.tree(kind).iter().keys() {
            let part = part.map_err(|error| failure("reading", error))?;
            let number = part.first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
            let number =
                number.ok_or_else(|| StoreError::Damaged { what: format!("{} records: a key", kind.name()) })?;
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// Removes records.
    pub(super) fn remove(&self, kind: Kind, numbers: RangeInclusive<u64>) -> Result<(), StoreError> {
        let tree = self.tree(kind);
        let (first, last) = (key(*numbers.start(), 0), key(*numbers.end(), u16::MAX));
        for part in tree.range(first..=last).keys() {
            let part = part.map_err(|error| failure("reading", error))?;
            tree.remove(part).map_err(|error| failure("removing", error))?;
        }
        Ok(())
    }

    fn tree(&self, kind: Kind) -> &Tree {
        match kind {
            Kind::Log => &self.log,
            Kind::Image => &self.image,
            Kind::Fact => &self.facts,
        }
    }
}

/// sled writes an index of its own at start under a name that says it is unfinished, renames it when it is done,
/// and refuses to open when it finds an unfinished one. The index before it is still there, so nothing is lost.
fn drop_half_written_index(dir: &Path) -> Result<(), StoreError> {
    let open = |path: PathBuf, source| StoreError::Disk { what: path.display().to_string(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(open(dir.into(), error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| open(dir.into(), error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(&path).map_err(|error| open(path.clone(), error))?;
        }
    }
    Ok(())
}

const TORN: &str = "a part of it is missing";

fn key(number: u64, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key.iter_mut().zip(number.to_be_bytes().into_iter().chain(part.to_be_bytes())).for_each(|(to, from)| *to = from);
    key
}

fn place(kind: Kind, number: u64) -> Vec<u8> {
    format!("{}/{number}", kind.name()).into_bytes()
}

fn damaged(kind: Kind, number: u64, why: impl ToString) -> StoreError {
    StoreError::Damaged { what: format!("{} record {number}: {}", kind.name(), why.to_string()) }
}

fn locked(kind: Kind, number: u64, error: CipherError) -> StoreError {
    match error {
        CipherError::Unauthentic => damaged(kind, number, error),
        CipherError::Unavailable => {
            StoreError::Unavailable { reason: format!("{} record {number}: {error}", kind.name()) }
        }
    }
}

fn failure(doing: &str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(source) => StoreError::Disk { what: format!("{doing} sled's files"), source },
        other => StoreError::Damaged { what: format!("sled's files, {doing} them: {other}") },
    }
}
