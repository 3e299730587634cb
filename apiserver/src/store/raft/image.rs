//! Images: the whole state as of one log entry, in sealed parts, so that the log before it can go.

use std::sync::Arc;

use openraft::{LogId, SnapshotMeta, StoredMembership};

use super::super::StoreError;
use super::super::codec::{Malformed, Reader, Writer};
use super::super::mvcc::{Mvcc, Origin, Window};
use super::super::object::Entry;
use super::disk::{Disk, Fact, Kind};
use super::types::{Member, read_log_id, read_stored_membership, write_log_id, write_stored_membership};

/// Parts are sealed and read one by one: large enough to cost little, small enough to hold.
const PART_BYTES: usize = 256 * 1024;

/// What an image holds besides objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    generation: u32,
    parts: u32,
    pub(super) revision: u64,
    pub(super) last_applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, Member>,
}

/// A state to be saved: its objects are shared with the store, which goes on meanwhile.
pub(super) struct Image {
    pub(super) origin: Origin,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) last_applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, Member>,
}

impl Head {
    pub(super) fn meta(&self) -> SnapshotMeta<u64, Member> {
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{}-{}", self.generation, self.revision),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u32(self.generation);
        writer.u32(self.parts);
        writer.u64(self.revision);
        write_log_id(&mut writer, self.last_applied);
        write_stored_membership(&mut writer, &self.membership);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            generation: reader.u32()?,
            parts: reader.u32()?,
            revision: reader.u64()?,
            last_applied: read_log_id(&mut reader)?,
            membership: read_stored_membership(&mut reader)?,
        })
    }
}

/// The valid image's head, if there is an image.
pub(super) fn head(disk: &Disk) -> Result<Option<Head>, StoreError> {
    let Some(record) = disk.get(Kind::Fact, Fact::Image.into())? else { return Ok(None) };
    Head::decode(&record).map(Some).map_err(|error| malformed("image head", error))
}

/// Writes `image`, makes it the valid one, and drops the one before.
pub(super) fn save(disk: &Disk, image: &Image) -> Result<Head, StoreError> {
    let before = head(disk)?;
    let generation = before.as_ref().map_or(0, |head| head.generation).wrapping_add(1);
    // Parts of this generation may be left from an attempt that was cut short.
    disk.remove(Kind::Image, numbers(generation))?;
    let mut parts = 0;
    let mut writer = Writer::default();
    for entry in &image.entries {
        writer.entry(entry);
        if writer.len() >= PART_BYTES {
            disk.put(Kind::Image, number(generation, parts), &std::mem::take(&mut writer).finish())?;
            parts += 1;
        }
    }
    if writer.len() > 0 {
        disk.put(Kind::Image, number(generation, parts), &writer.finish())?;
        parts += 1;
    }
    disk.sync()?;
    let head = Head {
        generation,
        parts,
        revision: image.origin.revision,
        last_applied: image.last_applied,
        membership: image.membership.clone(),
    };
    disk.put(Kind::Fact, Fact::Image.into(), &head.encode())?;
    disk.sync()?;
    if let Some(before) = before {
        disk.remove(Kind::Image, numbers(before.generation))?;
    }
    Ok(head)
}

/// Reads the objects of the image that `head` is of.
pub(super) fn load(disk: &Disk, head: &Head, window: Window) -> Result<Mvcc, StoreError> {
    let mut entries = Vec::new();
    for part in 0..head.parts {
        let what = || format!("image record {}, part {part} of {}", head.generation, head.parts);
        let bytes = disk.get(Kind::Image, number(head.generation, part))?;
        let bytes = bytes.ok_or_else(|| StoreError::Damaged { what: format!("{}: it is missing", what()) })?;
        read_entries(&bytes, &mut entries).map_err(|error| malformed(&what(), error))?;
    }
    Ok(Mvcc::restore(Origin { revision: head.revision }, entries, window))
}

/// Drops what attempts that were cut short left behind.
pub(super) fn tidy(disk: &Disk, head: Option<&Head>) -> Result<(), StoreError> {
    let valid = head.map(|head| head.generation);
    for number in disk.numbers(Kind::Image)? {
        if valid.map(u64::from) != Some(number >> 32) {
            disk.remove(Kind::Image, number..=number)?;
        }
    }
    Ok(())
}

/// The image in one piece, as it goes to another member.
pub(super) fn export(disk: &Disk, head: &Head) -> Result<Vec<u8>, StoreError> {
    let mut whole = head.revision.to_le_bytes().to_vec();
    for part in 0..head.parts {
        let bytes = disk.get(Kind::Image, number(head.generation, part))?;
        whole.extend(bytes.ok_or_else(|| StoreError::Damaged { what: format!("image part {part}: it is missing") })?);
    }
    Ok(whole)
}

/// The state that [`export`] gave.
pub(super) fn import(whole: &[u8], window: Window) -> Result<Mvcc, StoreError> {
    let bad = |error| malformed("an image from another member", error);
    let mut reader = Reader::new(whole);
    let revision = reader.u64().map_err(bad)?;
    let mut entries = Vec::new();
    while !reader.is_at_end() {
        entries.push(reader.entry().map_err(bad)?);
    }
    Ok(Mvcc::restore(Origin { revision }, entries, window))
}

fn read_entries(bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while !reader.is_at_end() {
        entries.push(reader.entry()?);
    }
    Ok(())
}

fn number(generation: u32, part: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(part)
}

fn numbers(generation: u32) -> std::ops::RangeInclusive<u64> {
    number(generation, 0)..=number(generation, u32::MAX)
}

fn malformed(what: &str, error: Malformed) -> StoreError {
    StoreError::Damaged { what: format!("{what}: {error}") }
}
