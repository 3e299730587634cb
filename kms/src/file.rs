//! Small private files: written whole or not at all, readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of every file written here.
pub const PRIVATE_FILE_MODE: u32 = 0o600;
/// Mode of every directory made here.
pub const PRIVATE_DIR_MODE: u32 = 0o700;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("could not read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is longer than what is ever written there.
    #[error("{path} is longer than {limit} bytes; it is not what was written there")]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory could not be made.
    #[error("could not create the directory {path}")]
    CreateDir {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Replaces the file at `path` with `bytes`: after a crash it holds either the old or the new bytes, whole.
///
/// # Errors
/// When the file or its directory can't be written or flushed to the disk.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let temporary = write_beside(path, bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    sync_dir(directory_of(path)).map_err(failed)
}

/// Writes `bytes` to a new file in the directory of `path`, and to the disk.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(".new");
    let temporary = directory_of(path).join(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).mode(PRIVATE_FILE_MODE).create_new(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temporary)
}

/// Writes a new file at `path`, whole or not at all, and fails when there is one already.
///
/// # Errors
/// When the file exists, or it or its directory can't be written or flushed to the disk.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let temporary = write_beside(path, bytes).map_err(failed)?;
    // Unlike renaming, linking never replaces a file.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).and(linked).map_err(failed)?;
    sync_dir(directory_of(path)).map_err(failed)
}

/// The bytes of the file at `path`; `None` when there is no such file.
///
/// # Errors
/// When it can't be read, or is longer than `limit`.
pub fn read_if_present(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
        Ok(file) => read_limited(file, path, limit).map(Some),
    }
}

pub(crate) fn read_limited(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Makes the directory `path` and its missing parents, for their owner only.
///
/// # Errors
/// When a directory can't be made.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR_MODE)
        .create(path)
        .map_err(|source| FileError::CreateDir { path: path.to_owned(), source })
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, b"one").unwrap();
        fs::write(dir.path().join(".state.new"), b"left by a crash").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_if_present(&path, 10).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE_FILE_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_over_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_new(&path, b"12345").unwrap();
        assert!(matches!(read_if_present(&path, 4), Err(FileError::TooLong { limit: 4, .. })));
        assert!(write_new(&path, b"again").is_err());
        assert!(read_if_present(&dir.path().join("none"), 4).unwrap().is_none());
    }
}
