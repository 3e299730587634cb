//! The content-addressed store of images: blobs by digest, and an index from references to manifests.
//!
//! ```text
//! blobs/sha256/HEX   manifests, configurations, layers
//! index.json         reference → manifest of this platform
//! inventories/, verdicts/   kept by the gate
//! tmp/               what is being written; whatever is found there at start is thrown away
//! .lock, .index.lock
//! ```
//! Every file is written under `tmp/`, flushed, and renamed to its place: kill -9 leaves the old or the
//! new state. Several processes may use one store: whoever adds blobs holds `.lock` shared until the
//! index names them, whoever deletes blobs holds it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::{ConfigDocument, Document, ImageError, MAX_DOCUMENT, compression_of};
use crate::{Digest, Hasher, Image, LayerRef, Reference};

/// Largest index: at 300 bytes a reference, room for 50,000 of them.
const MAX_INDEX: u64 = 16 << 20;

/// A directory of images.
#[derive(Clone, Debug)]
pub struct Store {
    dir: Arc<Path>,
}

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

/// Why the store could not serve.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("{doing} {path} in the image store failed")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The index is damaged.
    #[error("the image index {path} is damaged; move it away and import or pull the images again")]
    Index {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// A blob is not there.
    #[error("blob {0} is not in the image store")]
    Missing(Digest),
    /// A blob has other bytes than its name says.
    #[error("blob {0} does not have the expected bytes: got digest {1}")]
    Digest(Digest, Digest),
    /// A blob has another size than its descriptor says, or more bytes than allowed.
    #[error("blob {digest} has {actual} bytes instead of {expected}")]
    Size {
        /// The blob.
        digest: String,
        /// What was announced or allowed.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// A manifest or a configuration is refused.
    #[error("image {0} can't be used")]
    Image(Digest, #[source] ImageError),
}

/// Held while blobs are added that the index does not name yet.
#[derive(Debug)]
pub struct Adding {
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, making what is missing. Only the owner may enter it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self { dir: Arc::from(dir) };
        for part in ["", "blobs/sha256", "inventories", "verdicts", "tmp"] {
            let path = store.dir.join(part);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error("making", &path))?;
        }
        // Leftovers of killed processes; others may be writing now, so only when nobody holds the lock.
        let lock = store.lock_file(".lock")?;
        if lock.try_lock().is_ok() {
            let tmp = store.dir.join("tmp");
            for entry in fs::read_dir(&tmp).map_err(io_error("reading", &tmp))?.flatten() {
                fs::remove_file(entry.path()).map_err(io_error("removing", &entry.path()))?;
            }
        }
        Ok(store)
    }

    /// Where the store lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the blob lies, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Is the blob there?
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Must be held from before the first blob is added until [`Store::tag`] has named the image.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn adding(&self) -> Result<Adding, StoreError> {
        let lock = self.lock_file(".lock")?;
        lock.lock_shared().map_err(io_error("locking", &self.dir))?;
        Ok(Adding { _lock: lock })
    }

    /// Begins a blob whose bytes come piecemeal.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn blob_writer(&self, _adding: &Adding, max_bytes: u64) -> Result<BlobWriter, StoreError> {
        let tmp = self.dir.join("tmp");
        let file = tempfile::NamedTempFile::new_in(&tmp).map_err(io_error("making a file in", &tmp))?;
        Ok(BlobWriter { store: self.clone(), file, hasher: Hasher::new(), written: 0, max_bytes })
    }

    /// Adds a blob of at most `max_bytes` from a reader.
    ///
    /// # Errors
    /// If reading or writing fails or the limit is passed.
    pub fn add(&self, adding: &Adding, source: &mut dyn Read, max_bytes: u64) -> Result<(Digest, u64), StoreError> {
        let mut writer = self.blob_writer(adding, max_bytes)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = source.read(&mut buffer).map_err(io_error("reading a blob into", &self.dir))?;
            if read == 0 {
                return writer.commit();
            }
            writer.write(buffer.get(..read).unwrap_or_default())?;
        }
    }

    /// A small blob (manifest, configuration), its digest checked.
    ///
    /// # Errors
    /// If it is missing, damaged or larger than a document may be.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = read_bounded(&path, MAX_DOCUMENT).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => io_error("reading", &path)(error),
        })?;
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(StoreError::Digest(*digest, actual)),
        }
    }

    /// The image with this manifest: all its documents checked, all its layers there with their sizes.
    ///
    /// # Errors
    /// If a part is missing, damaged or refused.
    pub fn image(&self, manifest_digest: &Digest) -> Result<Image, StoreError> {
        let refused = |error| StoreError::Image(*manifest_digest, error);
        let document = self.document(manifest_digest)?;
        let Document::Manifest(manifest) = Document::parse(&document).map_err(refused)? else {
            let why = "it is an index of manifests, not a manifest".to_owned();
            return Err(refused(ImageError::Refused { what: "image manifest", why }));
        };
        let config = ConfigDocument::parse(&self.document(&manifest.config.digest)?).map_err(refused)?;
        if config.diff_ids.len() != manifest.layers.len() {
            let why = format!("{} layers, but {} diff ids", manifest.layers.len(), config.diff_ids.len());
            return Err(refused(ImageError::Refused { what: "image configuration", why }));
        }
        let mut layers: Vec<LayerRef> = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            let blob = self.blob_path(&layer.digest);
            let actual = fs::metadata(&blob).map_err(|_| StoreError::Missing(layer.digest))?.len();
            if actual != layer.size {
                return Err(StoreError::Size { digest: layer.digest.to_string(), expected: layer.size, actual });
            }
            layers.push(LayerRef {
                digest: layer.digest,
                size_bytes: layer.size,
                diff_id: *diff_id,
                chain_id: Digest::chain(layers.last().map(|below| &below.chain_id), diff_id),
                compression: compression_of(&layer.media_type).map_err(refused)?,
                blob,
            });
        }
        let layer_bytes: u64 = layers.iter().map(|layer| layer.size_bytes).fold(0, u64::saturating_add);
        Ok(Image {
            manifest: *manifest_digest,
            config_digest: manifest.config.digest,
            platform: config.platform,
            created: config.created,
            config: config.config,
            size_bytes: layer_bytes.saturating_add(manifest.config.size).saturating_add(document.len() as u64),
            layers,
        })
    }

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
        self.sweep("verdicts", of_manifest)
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

    /// Writes a file at its place in one step.
    pub(crate) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let tmp = self.dir.join("tmp");
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(io_error("making a file in", &tmp))?;
        file.write_all(bytes).map_err(io_error("writing", path))?;
        persist(file, path)
    }

    fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.dir.join(name);
        File::options().create(true).append(true).open(&path).map_err(io_error("opening", &path))
    }
}

/// Takes the bytes of one blob; what is not committed leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    written: u64,
    max_bytes: u64,
}

impl BlobWriter {
    /// Takes more bytes.
    ///
    /// # Errors
    /// If writing fails or the limit is passed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.written += bytes.len() as u64;
        if self.written > self.max_bytes {
            let digest = "being written".to_owned();
            return Err(StoreError::Size { digest, expected: self.max_bytes, actual: self.written });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(io_error("writing a blob to", &self.store.dir))
    }

    /// Publishes the blob under the digest of what was written.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn commit(self) -> Result<(Digest, u64), StoreError> {
        let digest = self.hasher.finish();
        persist(self.file, &self.store.blob_path(&digest))?;
        Ok((digest, self.written))
    }

    /// Publishes the blob if it is the one that a descriptor announced.
    ///
    /// # Errors
    /// If size or digest differ, or the file system refuses.
    pub fn commit_as(self, expected: &Digest, size: u64) -> Result<(), StoreError> {
        if self.written != size {
            return Err(StoreError::Size { digest: expected.to_string(), expected: size, actual: self.written });
        }
        let actual = self.hasher.clone().finish();
        if actual != *expected {
            return Err(StoreError::Digest(*expected, actual));
        }
        self.commit().map(drop)
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

/// Flushes a temporary file, renames it to its place, and flushes the directory.
fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), StoreError> {
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(io_error("protecting", path))?;
    file.as_file().sync_data().map_err(io_error("flushing", path))?;
    file.persist(path).map_err(|error| io_error("publishing", path)(error.error))?;
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("flushing", parent))?;
    }
    Ok(())
}

pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path: path.clone(), source }
}
