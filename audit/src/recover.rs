//! Finds where a log ends when it is opened, and closes off what a crash left behind.

use std::{io::Write as _, path::Path};

use jiff::Timestamp;
use martello_api::clock;

use crate::{
    chain::{Authenticator, Chain, GapMark, GapRecord},
    files::{FileError, Lines, Segment, header, is_header, segment_path, segments},
    head::{self, Head, HeadFile, Read},
    scan::{Broken, Scan, Step},
    verify::{Damage, Gap, VerifyError, finding},
};

/// Where to go on writing.
pub(crate) struct Recovered {
    pub(crate) segment: Segment,
    pub(crate) head_file: HeadFile,
    pub(crate) chain: Chain,
    /// What was closed off.
    pub(crate) gap: Option<Gap>,
}

/// Opens the log in `directory`, which must exist. Only what follows the head is read: [`crate::verify`] reads all.
pub(crate) fn recover(directory: &Path, keys: &dyn Authenticator, now: Timestamp) -> Result<Recovered, VerifyError> {
    let firsts = segments(directory)?;
    let head = match head::read(directory, keys)? {
        Read::Head(head) => head,
        Read::None if firsts.is_empty() => Head::default(),
        Read::None => return Err(finding(1, directory.join(head::HEAD_FILE), 0, Damage::HeadMissing).into()),
        Read::Forged => return Err(finding(1, directory.join(head::HEAD_FILE), 0, Damage::HeadForged).into()),
    };
    let mut head_file = HeadFile::open(directory)?;
    if firsts.is_empty() {
        if head.chain.number > 0 {
            return Err(cut_off(directory, &head, &head.chain));
        }
        return begin(directory, keys, head_file);
    }
    let (chain, last, broken) = follow(directory, keys, &head, &firsts)?;
    let mut segment = Segment::open(directory, last)?;
    let (chain, gap) = match broken {
        None => (chain, None),
        Some(broken) => {
            let (chain, gap) = close_off(&mut segment, chain, broken, now)?;
            (chain, Some(gap))
        }
    };
    let head = Head { chain, segment: last, end: segment.length };
    let path = directory.join(head::HEAD_FILE);
    let written = segment.file.sync_data().and_then(|()| head_file.write(&head, keys)).and_then(|()| head_file.sync());
    written.map_err(|source| FileError::Write { path, source })?;
    Ok(Recovered { segment, head_file, chain, gap })
}

/// A new log: the head first, so that a log without a head is never a crash.
fn begin(directory: &Path, keys: &dyn Authenticator, mut head_file: HeadFile) -> Result<Recovered, VerifyError> {
    let chain = Chain::default();
    let head = Head { chain, segment: 1, end: 0 };
    let written = head_file.write(&head, keys).and_then(|()| head_file.sync());
    written.map_err(|source| FileError::Write { path: directory.join(head::HEAD_FILE), source })?;
    let segment = Segment::create(directory, &chain, keys)?;
    Ok(Recovered { segment, head_file, chain, gap: None })
}

/// From the head to the end of the last segment.
fn follow(
    directory: &Path,
    keys: &dyn Authenticator,
    head: &Head,
    firsts: &[u64],
) -> Result<(Chain, u64, Option<Broken>), VerifyError> {
    let own = head.segment.max(1);
    let last = firsts.last().copied().unwrap_or(own);
    let mut chain = head.chain;
    let mut place = own;
    let mut offset = head.end;
    loop {
        if !firsts.contains(&place) {
            return Err(match firsts.iter().find(|&&first| first > place) {
                Some(&next) => finding(place, segment_path(directory, place), 0, Damage::FileMissing { next }).into(),
                None => cut_off(directory, head, &chain),
            });
        }
        let path = segment_path(directory, place);
        let length = std::fs::metadata(&path).map_err(|source| FileError::Read { path: path.clone(), source })?.len();
        if length < offset {
            return Err(cut_off(directory, head, &head.chain));
        }
        let mut lines = Lines::open_at(path.clone(), offset)?;
        if offset == 0 && !read_header(&mut lines, &path, &chain, keys, place == last)? {
            return Ok((chain, place, None));
        }
        let mut scan = Scan::new(lines, chain);
        let broken = loop {
            match scan.next()? {
                Step::End => break None,
                Step::Broken(broken) => break Some(broken),
                Step::Record | Step::Gap { .. } => {}
            }
        };
        chain = scan.chain();
        if place == last {
            return Ok((chain, place, broken));
        }
        if let Some(broken) = broken {
            return Err(finding(chain.number.saturating_add(1), path, 0, Damage::Record(broken.why)).into());
        }
        place = chain.number.saturating_add(1);
        offset = 0;
    }
}

/// Reads a segment's header; one that a crash cut off in the last segment is completed, and there are no records then.
fn read_header(
    lines: &mut Lines,
    path: &Path,
    chain: &Chain,
    keys: &dyn Authenticator,
    is_last: bool,
) -> Result<bool, VerifyError> {
    let mut line = Vec::new();
    lines.next(&mut line)?;
    if line.strip_suffix(b"\n").is_some_and(|line| is_header(line, chain, keys)) {
        return Ok(true);
    }
    let whole = header(chain, keys);
    let rest = whole.strip_prefix(line.as_slice()).filter(|rest| is_last && !rest.is_empty());
    let Some(rest) = rest else {
        return Err(finding(chain.number.saturating_add(1), path.to_owned(), 1, Damage::Header).into());
    };
    let completed = std::fs::OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(rest));
    completed.map_err(|source| FileError::Write { path: path.to_owned(), source })?;
    Ok(false)
}

/// Appends the record that says how many bytes before it are none. The bytes themselves stay: nothing is ever removed.
fn close_off(
    segment: &mut Segment,
    mut chain: Chain,
    broken: Broken,
    now: Timestamp,
) -> Result<(Chain, Gap), FileError> {
    let failed = |source| FileError::Write { path: segment.path.clone(), source };
    let mut broken = broken;
    let mut buffer = Vec::new();
    if !broken.ends_line {
        // The line feed belongs to the gap: hash what will stand there.
        let bytes = std::fs::read(&segment.path).map_err(failed)?;
        let begin = bytes.len().saturating_sub(usize::try_from(broken.bytes).unwrap_or(usize::MAX));
        let mut torn = bytes.get(begin..).unwrap_or_default().to_vec();
        torn.push(b'\n');
        broken.bytes = torn.len() as u64;
        broken.sha256 = hex::encode(crate::chain::sha256(&torn));
        buffer.push(b'\n');
    }
    let mark = GapMark { gap_bytes: broken.bytes, gap_sha256: broken.sha256, noticed: clock::rfc3339_micros(now) };
    let payload = serde_json::to_vec(&GapRecord { martello: mark }).map_err(|error| failed(error.into()))?;
    chain.append(&payload, &mut buffer);
    segment.file.write_all(&buffer).map_err(failed)?;
    segment.length += buffer.len() as u64;
    Ok((chain, Gap { closed_by: chain.number, bytes: broken.bytes }))
}

fn cut_off(directory: &Path, head: &Head, found: &Chain) -> VerifyError {
    let record = if found.number < head.chain.number { found.number.saturating_add(1) } else { head.chain.number };
    finding(record, segment_path(directory, head.segment), 0, Damage::CutOff { last: head.chain.number }).into()
}
