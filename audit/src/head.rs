//! The head: how far the log went, authenticated, in two slots of which a crash can spoil at most one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::{
    chain::{Authenticator, Chain},
    files::FileError,
};

/// Name of the head's file.
pub(crate) const HEAD_FILE: &str = "head";
/// Bytes of a slot: one line of text, padded.
const SLOT_BYTES: usize = 256;

/// The last record that was written to disk, and where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) chain: Chain,
    /// Number of the first record of the file that holds it.
    pub(crate) segment: u64,
    /// Where the record ends in that file, in bytes.
    pub(crate) end: u64,
}

/// The open file of the head.
pub(crate) struct HeadFile {
    file: File,
    writes: u64,
}

impl HeadFile {
    pub(crate) fn open(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join(HEAD_FILE);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| FileError::Open { path, source })?;
        Ok(Self { file, writes: 0 })
    }

    /// Writes to the slots by turns, so that the other still stands if this write is cut short.
    pub(crate) fn write(&mut self, head: &Head, keys: &dyn Authenticator) -> io::Result<()> {
        let offset = if self.writes.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        self.writes += 1;
        self.file.write_all_at(&head.to_slot(keys), offset)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What the head's file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// There is no such file, or it is empty: no log was ever written here.
    None,
    /// The furthest slot that is authentic.
    Head(Head),
    /// No slot is authentic.
    Forged,
}

/// Reads the head of a log's directory.
pub(crate) fn read(directory: &Path, keys: &dyn Authenticator) -> Result<Read, FileError> {
    let path = directory.join(HEAD_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::None),
        Err(source) => return Err(FileError::Read { path, source }),
    };
    if bytes.is_empty() {
        return Ok(Read::None);
    }
    let slots = bytes.chunks(SLOT_BYTES).filter_map(|slot| Head::from_slot(slot, keys));
    Ok(slots.max_by_key(|head| head.chain.number).map_or(Read::Forged, Read::Head))
}

impl Head {
    fn to_slot(self, keys: &dyn Authenticator) -> Vec<u8> {
        let text = self.text();
        let mac = keys.mac(text.as_bytes());
        let mut slot = format!("{text} {}", hex::encode(mac)).into_bytes();
        slot.resize(SLOT_BYTES - 1, b' ');
        slot.push(b'\n');
        slot
    }

    fn text(&self) -> String {
        let Self { chain, segment, end } = self;
        format!("martello-audit-head-1 {} {} {segment} {end}", chain.number, hex::encode(chain.hash))
    }

    fn from_slot(slot: &[u8], keys: &dyn Authenticator) -> Option<Self> {
        let text = std::str::from_utf8(slot).ok()?.trim_end();
        let (signed, mac) = text.rsplit_once(' ')?;
        if !keys.verify_mac(signed.as_bytes(), &hex::decode(mac).ok()?) {
            return None;
        }
        let mut parts = signed.split(' ').skip(1);
        let number = parts.next()?.parse().ok()?;
        let hash = hex::decode(parts.next()?).ok()?.try_into().ok()?;
        let (segment, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { chain: Chain { number, hash }, segment, end })
    }
}
