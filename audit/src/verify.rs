//! Finds what was done to a log, and names the record.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    chain::{Authenticator, Chain},
    files::{FileError, Lines, is_header, segment_path, segments},
    head::{self, Head, Read},
    scan::{Scan, Step},
};

/// A log that is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Number of the last record, which is how many there are.
    pub records: u64,
    /// Files that hold them.
    pub segments: u64,
    /// What crashes left behind, closed off by a record since.
    pub gaps: Vec<Gap>,
    /// Bytes at the end that are no record and were never acknowledged: a crash, not yet closed off by a start.
    pub torn_tail_bytes: u64,
    /// Records after the last that the head vouches for: a crash came between the two.
    pub beyond_head: u64,
}

/// What a crash left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Number of the record that closes it off.
    pub closed_by: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit record {record} ({}, line {line}): {damage}", file.display())]
pub struct Finding {
    /// Number of the record that is damaged or missing.
    pub record: u64,
    /// File that holds it, or should.
    pub file: PathBuf,
    /// Line in that file, from 1; the first line is the file's header. 0 where there is none.
    pub line: u64,
    /// What is wrong.
    pub damage: Damage,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The record was edited, moved or removed.
    #[error("{0}: the record was edited, moved or removed")]
    Record(&'static str),
    /// The file's first line was edited, or the records before it were.
    #[error("the file's header does not authenticate and continue the records before it")]
    Header,
    /// There are no files where records should go on.
    #[error("the file that begins with this record is missing; the next begins with record {next}")]
    FileMissing {
        /// First record of the next file.
        next: u64,
    },
    /// The log ends before the record that the head names.
    #[error("the log ends before record {last}, which is known to have been written: it was cut off")]
    CutOff {
        /// The last record by the head.
        last: u64,
    },
    /// The records fit each other and not the head: all of them from some place on were written anew.
    #[error(
        "the head vouches for another record of this number: records were rewritten, at the earliest from {earliest} on"
    )]
    Rewritten {
        /// First record of the last file whose header is authentic.
        earliest: u64,
    },
    /// There are records and no head.
    #[error("the head file is missing or empty")]
    HeadMissing,
    /// The head is not authentic.
    #[error("the head file does not authenticate: it was edited, or the key is another log's")]
    HeadForged,
}

/// A log is not whole, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something is wrong.
    #[error(transparent)]
    Found(#[from] Finding),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Checks the log in `directory` from the first record to the last.
///
/// # Errors
/// With the first thing that is wrong.
pub fn verify(directory: &Path, keys: &dyn Authenticator) -> Result<Report, VerifyError> {
    let firsts = segments(directory)?;
    let head = match head::read(directory, keys)? {
        Read::Head(head) => head,
        Read::None if firsts.is_empty() => return Ok(Report::default()),
        Read::None => return Err(finding(1, directory.join(head::HEAD_FILE), 0, Damage::HeadMissing).into()),
        Read::Forged => return Err(finding(1, directory.join(head::HEAD_FILE), 0, Damage::HeadForged).into()),
    };
    let mut check = Check { directory, keys, head, chain: Chain::default(), earliest: 1, report: Report::default() };
    for (place, first) in firsts.iter().enumerate() {
        check.segment(*first, place + 1 == firsts.len())?;
    }
    check.end()
}

struct Check<'a> {
    directory: &'a Path,
    keys: &'a dyn Authenticator,
    head: Head,
    chain: Chain,
    earliest: u64,
    report: Report,
}

impl Check<'_> {
    fn segment(&mut self, first: u64, is_last: bool) -> Result<(), VerifyError> {
        let expected = self.chain.number.saturating_add(1);
        let path = segment_path(self.directory, first);
        if first != expected {
            let missing = segment_path(self.directory, expected);
            return Err(finding(expected, missing, 0, Damage::FileMissing { next: first }).into());
        }
        self.report.segments += 1;
        let mut lines = Lines::open(path.clone())?;
        let mut header = Vec::new();
        lines.next(&mut header)?;
        match header.strip_suffix(b"\n") {
            Some(header) if is_header(header, &self.chain, self.keys) => self.earliest = first,
            // A crash while the file was made; nothing was ever written to it.
            None if is_last && self.head.chain.number <= self.chain.number => {
                self.report.torn_tail_bytes = header.len() as u64;
                return Ok(());
            }
            _ => return Err(finding(expected, path, 1, Damage::Header).into()),
        }
        let mut scan = Scan::new(lines, self.chain);
        loop {
            let step = scan.next()?;
            self.chain = scan.chain();
            match step {
                Step::End => return Ok(()),
                Step::Gap { closed_by, bytes } => {
                    self.against_head(&path, scan.line() + 1)?;
                    self.report.gaps.push(Gap { closed_by: closed_by.number, bytes });
                }
                Step::Record => self.against_head(&path, scan.line() + 1)?,
                Step::Broken(broken) => {
                    if is_last && self.head.chain.number <= self.chain.number {
                        self.report.torn_tail_bytes = broken.bytes;
                        return Ok(());
                    }
                    let record = self.chain.number.saturating_add(1);
                    return Err(finding(record, path, broken.line + 1, Damage::Record(broken.why)).into());
                }
            }
        }
    }

    fn against_head(&self, path: &Path, line: u64) -> Result<(), Finding> {
        if self.chain.number != self.head.chain.number || self.chain == self.head.chain {
            return Ok(());
        }
        Err(finding(self.chain.number, path.to_owned(), line, Damage::Rewritten { earliest: self.earliest }))
    }

    fn end(mut self) -> Result<Report, VerifyError> {
        let last = self.head.chain.number;
        if self.chain.number < last {
            let file = segment_path(self.directory, self.head.segment);
            return Err(finding(self.chain.number.saturating_add(1), file, 0, Damage::CutOff { last }).into());
        }
        self.report.records = self.chain.number;
        self.report.beyond_head = self.chain.number - last;
        Ok(self.report)
    }
}

pub(crate) fn finding(record: u64, file: PathBuf, line: u64, damage: Damage) -> Finding {
    Finding { record, file, line, damage }
}
