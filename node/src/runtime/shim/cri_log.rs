//! The log of a container in the format of the Container Runtime Interface, with rotation.
//!
//! One line is `<RFC 3339 with nanoseconds> <stdout|stderr> <F|P> <text>`; `P` marks a part of a line that goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Bytes of one log file at most (`containerLogMaxSize` of upstream's node agent).
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// Files of one container at most (`containerLogMaxFiles`).
const MAX_FILES: u32 = 5;

/// Bytes of one line at most; longer ones are written in parts.
const MAX_LINE: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// An open log: the newest file is `path`, older ones are `path.1` to `path.4`.
pub(super) struct CriLog {
    path: PathBuf,
    file: File,
    size: u64,
    pending: [Vec<u8>; 2],
    limit: u64,
}

impl CriLog {
    /// Opens (and goes on with) the log at `path`.
    pub(super) fn open(path: &Path) -> io::Result<CriLog> {
        CriLog::with_limit(path, MAX_FILE)
    }

    fn with_limit(path: &Path, limit: u64) -> io::Result<CriLog> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = append_to(path)?;
        let size = file.metadata()?.len();
        Ok(CriLog { path: path.to_owned(), file, size, pending: [Vec::new(), Vec::new()], limit })
    }

    /// Takes what a stream gave, and writes the lines that are complete.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let index = usize::from(stream == Stream::Stderr);
        let mut pending = self.pending.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for chunk in bytes.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(chunk);
            while pending.len() > MAX_LINE && pending.last() != Some(&b'\n') || pending.len() > MAX_LINE + 1 {
                let rest = pending.split_off(MAX_LINE);
                record(&mut out, stream, 'P', &pending, now);
                pending = rest;
            }
            if pending.last() == Some(&b'\n') {
                pending.pop();
                record(&mut out, stream, 'F', &pending, now);
                pending.clear();
            }
        }
        if let Some(slot) = self.pending.get_mut(index) {
            *slot = pending;
        }
        self.append(&out)
    }

    /// Writes what is left of both streams when they have ended.
    pub(super) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let mut out = Vec::new();
        for (pending, stream) in self.pending.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if !pending.is_empty() {
                // Upstream's runtimes end an unfinished last line as a whole one.
                record(&mut out, stream, 'F', pending, now);
                pending.clear();
            }
        }
        self.append(&out)
    }

    fn append(&mut self, out: &[u8]) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + out.len() as u64 > self.limit {
            self.rotate()?;
        }
        self.file.write_all(out)?;
        self.size += out.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..MAX_FILES - 1).rev() {
            rename_if_there(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
        }
        rename_if_there(&self.path, &numbered(&self.path, 1))?;
        self.file = append_to(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn record(out: &mut Vec<u8>, stream: Stream, tag: char, line: &[u8], now: Timestamp) {
    let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    out.extend_from_slice(now.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string().as_bytes());
    out.extend_from_slice(format!(" {stream} {tag} ").as_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-04T05:06:07.000000008Z".parse().unwrap()
    }

    #[test]
    fn lines_are_whole_even_if_they_came_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/0.log");
        let mut log = CriLog::open(&path).unwrap();
        log.write(Stream::Stdout, b"one\ntw", now()).unwrap();
        log.write(Stream::Stderr, b"other\n", now()).unwrap();
        log.write(Stream::Stdout, b"o\nrest", now()).unwrap();
        log.finish(now()).unwrap();
        let stamp = "2026-03-04T05:06:07.000000008Z";
        let expected =
            format!("{stamp} stdout F one\n{stamp} stderr F other\n{stamp} stdout F two\n{stamp} stdout F rest\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn long_lines_come_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path).unwrap();
        let mut line = vec![b'x'; MAX_LINE + 5];
        line.push(b'\n');
        log.write(Stream::Stdout, &line, now()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let tags: Vec<&str> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "F"]);
        assert_eq!(text.matches('x').count(), MAX_LINE + 5);
    }

    #[test]
    fn old_files_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::with_limit(&path, 100).unwrap();
        for _ in 0..40 {
            log.write(Stream::Stdout, b"0123456789012345678901234567890123456789\n", now()).unwrap();
        }
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 5);
    }
}
