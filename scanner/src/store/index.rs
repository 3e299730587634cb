//! What references point to, and which files nothing points to any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Adding, Store, StoreError, io_error, read_bounded};
use crate::{Digest, Reference};

/// Largest index: at 300 bytes a reference, room for 50,000 of them.
const MAX_INDEX: u64 = 16 << 20;

/// What a reference in the index points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The manifest of this platform.
    pub manifest: Digest,
    /// The multi-platform index that the manifest was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// When the reference was last set.
    pub at: Timestamp,
}

impl Store {
    /// All references with what they point to, sorted.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn list(&self) -> Result<BTreeMap<Reference, Stored>, StoreError> {
        Ok(self.read_index()?.images)
    }

    /// What a reference points to. One with a digest matches whatever has that digest.
    ///
    /// # Errors
    /// If the index can't be read.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Stored>, StoreError> {
        let index = self.read_index()?;
        Ok(match reference.digest() {
            Some(digest) => {
                index.images.into_values().find(|s| s.manifest == *digest || s.index.as_ref() == Some(digest))
            }
            None => index.images.get(reference).cloned(),
        })
    }

    /// Points references to an image whose blobs are there.
    ///
    /// # Errors
    /// If the index can't be read or written.
    pub fn tag(&self, _adding: &Adding, references: &[Reference], stored: &Stored) -> Result<(), StoreError> {
        self.change_index(|index| {
            for reference in references {
                index.images.insert(reference.clone(), stored.clone());
            }
            true
        })
        .map(drop)
    }

    /// Forgets a reference, and deletes the blobs that no other needs. Says whether it was there.
    ///
    /// # Errors
    /// If the index can't be changed or a blob not be deleted.
    pub fn remove(&self, reference: &Reference) -> Result<bool, StoreError> {
        let removed = self.change_index(|index| index.images.remove(reference).is_some())?;
        self.collect()?;
        Ok(removed)
    }

    /// Deletes what no reference needs, unless somebody is adding just now.
    pub(crate) fn collect(&self) -> Result<(), StoreError> {
        let lock = self.lock_file(".lock")?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        let mut manifests = BTreeSet::new();
        for stored in self.read_index()?.images.into_values() {
            manifests.insert(stored.manifest.hex());
            needed.insert(stored.manifest.hex());
            needed.extend(stored.index.map(|index| index.hex()));
            // A damaged image names no blobs; those it had are shared with others or useless.
            if let Ok(image) = self.image(&stored.manifest) {
                needed.insert(image.config_digest.hex());
                needed.extend(image.layers.iter().map(|layer| layer.digest.hex()));
            }
        }
        self.sweep("blobs/sha256", |name| needed.contains(name))?;
        let of_manifest = |name: &str| name.split('.').next().is_some_and(|hex| manifests.contains(hex));
        self.sweep("inventories", of_manifest)?;
        self.sweep("verdicts", of_manifest)?;
        self.sweep("access", of_manifest)
    }

    fn sweep(&self, part: &str, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let dir = self.dir.join(part);
        for entry in fs::read_dir(&dir).map_err(io_error("reading", &dir))? {
            let entry = entry.map_err(io_error("reading", &dir))?;
            if !entry.file_name().to_str().is_some_and(&keep) {
                fs::remove_file(entry.path()).map_err(io_error("removing", &entry.path()))?;
            }
        }
        Ok(())
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn read_index(&self) -> Result<Index, StoreError> {
        let path = self.index_path();
        match read_bounded(&path, MAX_INDEX) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Index { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    fn change_index(&self, change: impl FnOnce(&mut Index) -> bool) -> Result<bool, StoreError> {
        let lock = self.lock_file(".index.lock")?;
        lock.lock().map_err(io_error("locking", &self.dir))?;
        let mut index = self.read_index()?;
        let changed = change(&mut index);
        if changed {
            let path = self.index_path();
            let bytes = serde_json::to_vec_pretty(&index).map_err(|e| io_error("encoding", &path)(e.into()))?;
            self.publish(&path, &bytes)?;
        }
        Ok(changed)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    images: BTreeMap<Reference, Stored>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: 1, images: BTreeMap::new() }
    }
}
