//! The high-water mark: how far the log was on disk when that was last acknowledged.
//!
//! A log whose last records are gone looks just like one that was never longer. The mark, in a file of its own,
//! tells them apart. It is written after the log is synced and before the writer is told so, and is not synced
//! itself: a killed process leaves it exact, a lost power supply leaves it too low at worst, never too high.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::super::cipher::Cipher;
use super::super::codec::{Reader, Writer};

/// A page each, so that no torn write touches both.
const SLOT_BYTES: u64 = 4096;

pub(super) struct Mark {
    file: File,
    cipher: Arc<dyn Cipher>,
    /// Counts writes; the slots take turns.
    sequence: u64,
    index: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum MarkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the key is not available")]
    Key,
    #[error("neither copy of the high-water mark is authentic: it is damaged, or the key is another")]
    Damaged,
}

impl Mark {
    /// Makes the file, which must not exist.
    pub(super) fn create(path: &Path, cipher: Arc<dyn Cipher>) -> Result<Self, MarkError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(2 * SLOT_BYTES)?;
        let mut mark = Self { file, cipher, sequence: 0, index: 0 };
        mark.advance(0)?;
        mark.advance(0)?;
        mark.sync()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(mark)
    }

    pub(super) fn open(path: &Path, cipher: Arc<dyn Cipher>) -> Result<Self, MarkError> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(2 * SLOT_BYTES).read_to_end(&mut content)?;
        let slots = content.chunks(usize::try_from(SLOT_BYTES).unwrap_or(usize::MAX)).zip(0..);
        let newest = slots.filter_map(|(slot, number)| read_slot(&*cipher, slot, number)).max();
        let (sequence, index) = newest.ok_or(MarkError::Damaged)?;
        Ok(Self { file, cipher, sequence, index })
    }

    /// The last log index that was acknowledged.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// Notes that the log is on disk up to `index`.
    pub(super) fn advance(&mut self, index: u64) -> Result<(), MarkError> {
        let sequence = self.sequence + 1;
        let mut content = Writer::default();
        content.u64(sequence);
        content.u64(index);
        let slot = sequence % 2;
        let sealed = self.cipher.seal(&place(slot), &content.finish()).map_err(|_| MarkError::Key)?;
        let mut record = Writer::default();
        record.bytes(&sealed);
        self.file.write_all_at(&record.finish(), slot * SLOT_BYTES)?;
        (self.sequence, self.index) = (sequence, index);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn read_slot(cipher: &dyn Cipher, slot: &[u8], number: u64) -> Option<(u64, u64)> {
    let plain = cipher.open(&place(number), Reader::new(slot).bytes().ok()?).ok()?;
    let mut reader = Reader::new(&plain);
    Some((reader.u64().ok()?, reader.u64().ok()?))
}

fn place(slot: u64) -> Vec<u8> {
    format!("mark/{slot}").into_bytes()
}
