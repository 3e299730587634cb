//! A small file that is encrypted and written whole or not at all.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::envelope::{self, EnvelopeError, Place};
use crate::file::{self, FileError};
use crate::service::Kms;

/// Longest sealed file. These hold keys and the like; whatever is larger belongs in the store.
pub const MAX_SEALED_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a sealed file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedFileError {
    /// The file could not be read or written.
    #[error("could not use the sealed file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The content could not be sealed or opened.
    #[error("could not open or seal {path}")]
    Envelope {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
}

/// A file whose content is sealed for its purpose in this cluster.
#[derive(Clone, Debug)]
pub struct SealedFile {
    kms: Kms,
    cluster: String,
    path: PathBuf,
    purpose: String,
}

impl SealedFile {
    pub(crate) fn new(kms: Kms, path: PathBuf, purpose: &str) -> Self {
        Self { cluster: kms.cluster(), kms, path, purpose: purpose.to_owned() }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content; `None` when there is no file.
    ///
    /// # Errors
    /// When the file can't be read, or was changed, or belongs to another cluster or purpose.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, SealedFileError> {
        let sealed = file::read_if_present(&self.path, MAX_SEALED_FILE_BYTES)
            .map_err(|source| SealedFileError::File { path: self.path.clone(), source })?;
        let Some(sealed) = sealed else { return Ok(None) };
        envelope::open(&self.kms, &self.place(), &sealed)
            .map(Some)
            .map_err(|source| SealedFileError::Envelope { path: self.path.clone(), source })
    }

    /// Replaces the content, and makes the file's directory if it is missing.
    ///
    /// # Errors
    /// When the content can't be sealed, or the file can't be written to the disk.
    pub fn write(&self, content: &[u8]) -> Result<(), SealedFileError> {
        let failed = |source| SealedFileError::File { path: self.path.clone(), source };
        let sealed = envelope::seal(&self.kms, &self.place(), content)
            .map_err(|source| SealedFileError::Envelope { path: self.path.clone(), source })?;
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            file::create_private_dir(parent).map_err(failed)?;
        }
        file::write_atomic(&self.path, &sealed).map_err(failed)
    }

    fn place(&self) -> Place<'_> {
        Place { cluster: &self.cluster, resource: "files", namespace: "", name: &self.purpose, uid: "" }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_sealed_file_reads_back_and_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kms = Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap();
        let file = kms.sealed_file(dir.path().join("pki/state"), "pki state");
        assert!(file.read().unwrap().is_none());
        file.write(b"private key").unwrap();
        assert_eq!(file.read().unwrap().unwrap().as_slice(), b"private key");
        let stored = std::fs::read(file.path()).unwrap();
        assert!(!stored.windows(7).any(|window| window == b"private"));
    }

    #[test]
    fn files_of_two_purposes_can_not_be_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let kms = Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap();
        let path = dir.path().join("file");
        kms.sealed_file(&path, "one").write(b"content").unwrap();
        assert!(matches!(kms.sealed_file(&path, "two").read(), Err(SealedFileError::Envelope { .. })));
    }
}
