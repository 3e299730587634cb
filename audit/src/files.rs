//! The files of a log: segments, named by the number of their first record, each with an authenticated first line.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::chain::{Authenticator, Chain, MAX_LINE_BYTES};

/// Bytes that a reader fetches at once.
const READ_BYTES: usize = 32 * 1024;

/// A file of the log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be opened or made.
    #[error("opening the audit log's {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What hindered it.
        #[source]
        source: io::Error,
    },
    /// It could not be read.
    #[error("reading the audit log's {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What hindered it.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("writing the audit log's {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What hindered it.
        #[source]
        source: io::Error,
    },
}

/// Path of the segment whose first record bears `first`.
pub(crate) fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("audit-{first:020}.log"))
}

/// The first numbers of all segments, ascending.
pub(crate) fn segments(directory: &Path) -> Result<Vec<u64>, FileError> {
    let failed = |source| FileError::Read { path: directory.to_owned(), source };
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".log")?.parse().ok());
        firsts.extend(number);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The first line of a segment: which records it goes on from, authenticated.
pub(crate) fn header(before: &Chain, keys: &dyn Authenticator) -> Vec<u8> {
    let text = header_text(before);
    let mac = hex::encode(keys.mac(text.as_bytes()));
    format!("{text} {mac}\n").into_bytes()
}

/// Whether `line` (without its line feed) is the header of a segment that goes on from `before`.
pub(crate) fn is_header(line: &[u8], before: &Chain, keys: &dyn Authenticator) -> bool {
    let text = header_text(before);
    let mac = line.strip_prefix(text.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
    mac.and_then(|mac| hex::decode(mac).ok()).is_some_and(|mac| keys.verify_mac(text.as_bytes(), &mac))
}

fn header_text(before: &Chain) -> String {
    format!("martello-audit-1 {} {}", before.number.saturating_add(1), hex::encode(before.hash))
}

/// A segment that is written to.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    pub(crate) file: File,
    /// Bytes that it holds by our count.
    pub(crate) length: u64,
}

impl Segment {
    /// Makes the segment that goes on from `before`. It must not exist.
    pub(crate) fn create(directory: &Path, before: &Chain, keys: &dyn Authenticator) -> Result<Self, FileError> {
        let first = before.number.saturating_add(1);
        let path = segment_path(directory, first);
        let mut options = OpenOptions::new();
        let opened = options.append(true).create_new(true).mode(0o600).open(&path);
        let mut file = opened.map_err(|source| FileError::Open { path: path.clone(), source })?;
        let header = header(before, keys);
        let written = io::Write::write_all(&mut file, &header).and_then(|()| file.sync_all());
        let written = written.and_then(|()| File::open(directory)?.sync_all());
        written.map_err(|source| FileError::Write { path: path.clone(), source })?;
        Ok(Self { path, first, file, length: header.len() as u64 })
    }

    /// Opens the segment to append to it.
    pub(crate) fn open(directory: &Path, first: u64) -> Result<Self, FileError> {
        let path = segment_path(directory, first);
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|source| FileError::Open { path: path.clone(), source })?;
        let length = file.metadata().map_err(|source| FileError::Read { path: path.clone(), source })?.len();
        Ok(Self { path, first, file, length })
    }

    /// Whether the path still leads to this file, and the file is as long as we left it.
    pub(crate) fn is_ours(&self) -> io::Result<bool> {
        let (own, found) = (
            self.file.metadata()?,
            match std::fs::metadata(&self.path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
        );
        Ok(own.dev() == found.dev() && own.ino() == found.ino() && found.len() == self.length)
    }
}

/// The lines of a segment, each with its line feed where it has one.
pub(crate) struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
}

impl Lines {
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        let file = File::open(&path).map_err(|source| FileError::Open { path: path.clone(), source })?;
        Ok(Self { reader: BufReader::with_capacity(READ_BYTES, file), path })
    }

    /// From `offset` on.
    pub(crate) fn open_at(path: PathBuf, offset: u64) -> Result<Self, FileError> {
        let mut lines = Self::open(path)?;
        let sought = lines.reader.seek(io::SeekFrom::Start(offset));
        sought.map_err(|source| FileError::Read { path: lines.path.clone(), source })?;
        Ok(lines)
    }

    /// The next line; nothing at the end. A line that is longer than any record comes in pieces.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> Result<bool, FileError> {
        line.clear();
        let mut limited = (&mut self.reader).take(MAX_LINE_BYTES as u64);
        let read = limited.read_until(b'\n', line);
        let read = read.map_err(|source| FileError::Read { path: self.path.clone(), source })?;
        Ok(read > 0)
    }
}
