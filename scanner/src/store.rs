//! The content-addressed store of images: blobs by digest, and an index from references to manifests.
//!
//! ```text
//! blobs/sha256/HEX   manifests, configurations, layers
//! index.json         reference → manifest of this platform
//! inventories/, verdicts/   kept by the gate
//! access/HEX.json    who may start the image with this manifest
//! tmp/               what is being written; whatever is found there at start is thrown away
//! .lock, .index.lock, .access.lock
//! ```
//! Every file is written under `tmp/`, flushed, and renamed to its place: kill -9 leaves the old or the
//! new state. Several processes may use one store: whoever adds blobs holds `.lock` shared until the
//! index names them, whoever deletes blobs holds it alone.

mod access;
mod blob;
mod error;
mod index;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use blob::BlobWriter;
pub(crate) use blob::read_bounded;
pub use error::StoreError;
pub(crate) use error::io_error;
pub use index::Stored;

use crate::image::{ConfigDocument, Document, ImageError, MAX_DOCUMENT, compression_of};
use crate::{Digest, Hasher, Image, LayerRef};

/// A directory of images.
#[derive(Clone, Debug)]
pub struct Store {
    dir: Arc<Path>,
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
        for part in ["", "access", "blobs/sha256", "inventories", "verdicts", "tmp"] {
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

    /// Writes a file at its place in one step.
    pub(crate) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let tmp = self.dir.join("tmp");
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(io_error("making a file in", &tmp))?;
        file.write_all(bytes).map_err(io_error("writing", path))?;
        blob::persist(file, path)
    }

    fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.dir.join(name);
        File::options().create(true).append(true).open(&path).map_err(io_error("opening", &path))
    }
}
