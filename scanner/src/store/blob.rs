//! How blobs and other files get to their places, and how they are read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Store, StoreError, io_error};
use crate::{Digest, Hasher};

/// Takes the bytes of one blob; what is not committed leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    pub(super) store: Store,
    pub(super) file: tempfile::NamedTempFile,
    pub(super) hasher: Hasher,
    pub(super) written: u64,
    pub(super) max_bytes: u64,
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

/// Flushes a temporary file, renames it to its place, and flushes the directory.
pub(super) fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), StoreError> {
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
