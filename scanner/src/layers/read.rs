//! The one reader of layer tar files: decompression, limits, extensions, the digest of what was read.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::pax::Pax;
use super::{Budget, Entry, EntryKind, LayerError};
use crate::Digest;
use crate::digest::HashingReader;

/// Bytes of a pax header or GNU long name: a path and some attributes fit many times over.
const MAX_EXTENSION: u64 = 1 << 20;
/// Largest window a zstd frame may ask for, as a power of two: what `zstd` itself accepts (128 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 64 << 10;

/// How a layer's tar file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By Zstandard.
    Zstd,
}

/// Reads one layer, handing every judged entry with its content to `sink`, and checks in the end that
/// the uncompressed bytes are those of `diff_id`. What `sink` was given counts for nothing if this fails.
///
/// # Errors
/// If the stream can't be read, an entry is refused, a limit is passed, `sink` fails, or the digest
/// differs.
pub fn read<R: Read>(
    source: R,
    compression: Compression,
    diff_id: &Digest,
    budget: &mut Budget,
    sink: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let compressed = Rc::new(Cell::new(0));
    let source = Counting { inner: source, count: Rc::clone(&compressed) };
    let plain: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, source))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::new(source).map_err(LayerError::Read)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(LayerError::Read)?;
            Box::new(decoder)
        }
    };
    let limits = budget.limits();
    let guarded = Guarded {
        inner: plain,
        compressed,
        passed: 0,
        left: budget.bytes_left(),
        ratio: if compression == Compression::None { u64::MAX } else { limits.ratio },
        ratio_floor: limits.ratio_floor_bytes,
    };
    let mut archive = tar::Archive::new(HashingReader::new(BufReader::with_capacity(BUFFER, guarded)));
    entries(&mut archive, budget, sink)?;
    let mut rest = archive.into_inner();
    // What stands behind the archive's end is part of the digest, and of nothing else.
    io::copy(&mut rest, &mut io::sink()).map_err(unreadable)?;
    let (actual, bytes) = rest.finish();
    budget.spend_bytes(bytes);
    if actual != *diff_id {
        return Err(LayerError::DiffId { expected: *diff_id, actual });
    }
    Ok(())
}

/// Reads a tar file that is no layer (an image archive) by the same rules and limits.
pub(crate) fn read_archive(
    source: impl BufRead,
    compression: Compression,
    budget: &mut Budget,
    sink: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let plain: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(source).map_err(LayerError::Read)?),
    };
    let limited = Guarded {
        inner: plain,
        compressed: Rc::default(),
        passed: 0,
        left: budget.bytes_left(),
        ratio: u64::MAX,
        ratio_floor: 0,
    };
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, limited));
    entries(&mut archive, budget, sink)
}

/// Walks the archive's raw headers, joining extensions to the entry that they describe.
fn entries<R: Read>(
    archive: &mut tar::Archive<R>,
    budget: &mut Budget,
    sink: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let (mut pax, mut long_name, mut long_link) = (None, None, None);
    for raw in archive.entries().map_err(unreadable)?.raw(true) {
        let mut raw = raw.map_err(unreadable)?;
        budget.spend_entry()?;
        match raw.header().entry_type().as_byte() {
            b'x' => extension(&mut pax, Pax::parse(&bounded(&mut raw)?)?)?,
            b'L' => extension(&mut long_name, until_nul(bounded(&mut raw)?))?,
            b'K' => extension(&mut long_link, until_nul(bounded(&mut raw)?))?,
            // Global headers carry comments; as every other reader of layers, we apply none of them.
            b'g' => drop(bounded(&mut raw)?),
            _ => {
                let entry =
                    Entry::judge(raw.header(), pax.take().unwrap_or_default(), long_name.take(), long_link.take())?;
                if let EntryKind::File { size } = entry.kind
                    && size > budget.limits().file_bytes
                {
                    let why = format!("{size} bytes; a file may have {}", budget.limits().file_bytes);
                    return Err(LayerError::refused(entry.path.as_bytes(), why));
                }
                let mut exact = Exact { inner: &mut raw, left: content_size(&entry) };
                sink(entry, &mut exact)?;
            }
        }
    }
    if pax.is_some() || long_name.is_some() || long_link.is_some() {
        return Err(LayerError::refused(b"end of the archive", "an extension describes no entry"));
    }
    Ok(())
}

fn content_size(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size } => size,
        _ => 0,
    }
}

fn extension<T>(slot: &mut Option<T>, value: T) -> Result<(), LayerError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(LayerError::refused(b"extension header", "two extensions of one kind describe one entry")),
    }
}

/// The whole content of an extension header.
fn bounded<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, LayerError> {
    let size = entry.size();
    if size > MAX_EXTENSION {
        return Err(LayerError::refused(b"extension header", format!("{size} bytes; {MAX_EXTENSION} are allowed")));
    }
    let mut data = Vec::new();
    Exact { inner: entry, left: size }.read_to_end(&mut data).map_err(unreadable)?;
    Ok(data)
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    name
}

/// A limit that was passed inside a reader surfaces as what it is.
pub(crate) fn unreadable(error: io::Error) -> LayerError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Passed>()) {
        Some(passed) => LayerError::Limit(passed.0.clone()),
        None => LayerError::Read(error),
    }
}

/// A limit that was passed, as the source of an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Passed(String);

struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Ends with an error when more comes out of the decompressor than may.
struct Guarded<R> {
    inner: R,
    compressed: Rc<Cell<u64>>,
    passed: u64,
    left: u64,
    ratio: u64,
    ratio_floor: u64,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed += read as u64;
        if self.passed > self.left {
            return Err(io::Error::other(Passed("the image unpacks to more bytes than an image may have".into())));
        }
        if self.passed > self.ratio_floor && self.passed / self.ratio > self.compressed.get() {
            let why = format!("more than {} bytes come out of each compressed byte", self.ratio);
            return Err(io::Error::other(Passed(why)));
        }
        Ok(read)
    }
}

/// Reads exactly `left` bytes: an archive that ends inside an entry is an error, not a short file.
struct Exact<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(buffer.get_mut(..want).unwrap_or_default())?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside an entry"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Tells from its first bytes how a stream is compressed, without consuming them.
pub(crate) fn sniff<R: BufRead>(source: &mut R) -> io::Result<Compression> {
    let start = source.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    })
}
