//! What an image may cost: every number that bounds a layer, and the account that is kept of it.

use super::LayerError;

/// Places that one image may have: entries of its layers, or nodes of the tree that they make.
pub(super) const MAX_ENTRIES: u64 = 1_000_000;

/// Limits on the layers of one image. [`Limits::default`] fits any image that is in honest use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Uncompressed bytes of all layers together. The largest images in common use (machine learning)
    /// unpack to less than 20 GiB.
    pub total_bytes: u64,
    /// Bytes of one file. Tar's octal size field ends at 8 GiB; larger ones need extensions whose
    /// readings differ between parsers.
    pub file_bytes: u64,
    /// Tar entries of all layers together: a full distribution has about 300,000 files.
    pub entries: u64,
    /// Uncompressed bytes for each compressed one, once `ratio_floor_bytes` are passed. Text compresses
    /// to a tenth, gzip's best is 1:1032: what is past 200 is padding or a bomb.
    pub ratio: u64,
    /// Below this size no ratio is held against a layer.
    pub ratio_floor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 20 << 30,
            file_bytes: (8 << 30) - 1,
            entries: MAX_ENTRIES,
            ratio: 200,
            ratio_floor_bytes: 64 << 20,
        }
    }
}

/// What the layers of one image have cost so far.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
}

impl Budget {
    /// An account with nothing spent.
    pub fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, entries: 0 }
    }

    /// The limits that are held.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Uncompressed bytes that may still be read.
    pub(super) fn bytes_left(&self) -> u64 {
        self.limits.total_bytes.saturating_sub(self.bytes)
    }

    pub(super) fn spend_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn spend_entry(&mut self) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(LayerError::Limit(format!("more than {} entries in the image", self.limits.entries)));
        }
        Ok(())
    }
}
