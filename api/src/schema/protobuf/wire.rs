//! The wire format of protobuf: tags, varints and length-delimited bytes, read without trust and written forward.

use std::borrow::Cow;

use super::super::json::lossy;
use super::ProtobufError;

/// The longest varint of 64 bits.
const MAX_VARINT_BYTES: u32 = 10;
/// The largest length that Go's generated code takes for one.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// How a value is written.
pub(super) const VARINT: u8 = 0;
/// Eight bytes.
pub(super) const FIXED64: u8 = 1;
/// A length, and so many bytes.
pub(super) const BYTES: u8 = 2;
const GROUP: u8 = 3;
const END_OF_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// What stands before a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    /// The field's number.
    pub(super) number: u64,
    /// How the value is written.
    pub(super) wire: u8,
    begins: usize,
}

impl Tag {
    /// The value is not written as those of its field are.
    pub(super) fn wrong(self, field: &str) -> ProtobufError {
        ProtobufError::WireType { wire: self.wire, field: field.to_owned() }
    }

    /// Makes sure that the value is written so.
    pub(super) fn expect(self, wire: u8, field: impl FnOnce() -> String) -> Result<(), ProtobufError> {
        if self.wire == wire { Ok(()) } else { Err(self.wrong(&field())) }
    }
}

/// Reads the fields of one message, as the code that gogo generates does: what it refuses first, and in which words, is
/// what clients see.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on elsewhere in the message.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The tag of the next field; none at the end. `message` is what Go calls it.
    pub(super) fn next(&mut self, message: &str) -> Result<Option<Tag>, ProtobufError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let begins = self.at;
        let (number, wire, tag) = self.tag()?;
        if wire == END_OF_GROUP {
            return Err(ProtobufError::EndOfGroup(message.to_owned()));
        }
        match u64::try_from(number) {
            Ok(number) if number > 0 => Ok(Some(Tag { number, wire, begins })),
            _ => Err(ProtobufError::Tag { message: message.to_owned(), number, tag }),
        }
    }

    /// A tag as it is: number, way of writing, and both in one.
    #[allow(clippy::cast_possible_truncation, reason = "Go keeps 32 bits of the number, and three are the rest")]
    pub(super) fn tag(&mut self) -> Result<(i32, u8, u64), ProtobufError> {
        let tag = self.varint()?;
        Ok(((tag >> 3) as i32, (tag & 7) as u8, tag))
    }

    /// The bytes behind a length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ProtobufError> {
        let length = self.varint()?;
        if length > MAX_LENGTH || length.saturating_add(self.at as u64) > MAX_LENGTH {
            return Err(ProtobufError::Length);
        }
        let length = usize::try_from(length).map_err(|_| ProtobufError::End)?;
        let taken = self.bytes.get(self.at..self.at.saturating_add(length)).ok_or(ProtobufError::End)?;
        self.at += length;
        Ok(taken)
    }

    /// Text: what is no letter of it becomes the mark of that, byte by byte, as Go shows it.
    pub(super) fn text(&mut self) -> Result<Cow<'a, str>, ProtobufError> {
        let bytes = self.bytes()?;
        Ok(std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(lossy(bytes)), Cow::Borrowed))
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let taken = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(ProtobufError::End)?;
        self.at += taken.len();
        Ok(u64::from_le_bytes(*taken))
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0u64;
        for place in 0..MAX_VARINT_BYTES {
            let byte = self.bytes.get(self.at).ok_or(ProtobufError::End)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Overflow)
    }

    /// Passes over a field that nobody knows.
    pub(super) fn skip(&mut self, tag: Tag) -> Result<(), ProtobufError> {
        self.at = tag.begins;
        self.skip_field(self.bytes.len())
    }

    /// Passes over the field that begins here; it ends before `end`.
    pub(super) fn skip_field(&mut self, end: usize) -> Result<(), ProtobufError> {
        let mut depth = 0usize;
        while self.at < self.bytes.len() {
            let (_, wire, _) = self.tag()?;
            match wire {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => self.pass(8)?,
                BYTES => {
                    let length = self.varint()?;
                    self.pass(length)?;
                }
                GROUP => depth += 1,
                END_OF_GROUP => depth = depth.checked_sub(1).ok_or(ProtobufError::NoGroup)?,
                FIXED32 => self.pass(4)?,
                other => return Err(ProtobufError::UnknownWireType(other)),
            }
            if depth == 0 {
                return if self.at > end { Err(ProtobufError::End) } else { Ok(()) };
            }
        }
        Err(ProtobufError::End)
    }

    /// Passes over bytes, also where there are not so many: that is looked at behind them.
    fn pass(&mut self, length: u64) -> Result<(), ProtobufError> {
        let end = length.saturating_add(self.at as u64);
        if length > MAX_LENGTH || end > MAX_LENGTH {
            return Err(ProtobufError::Length);
        }
        self.at = usize::try_from(end).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// A message that is being written.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    #[allow(clippy::cast_possible_truncation, reason = "the bits beyond are written by the next round")]
    fn push(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn varint(&mut self, number: u16, value: u64) {
        self.push(u64::from(number) << 3);
        self.push(value);
    }

    pub(super) fn fixed64(&mut self, number: u16, value: u64) {
        self.push(u64::from(number) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, number: u16, bytes: &[u8]) {
        self.head(number, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// What stands before so many bytes.
    pub(super) fn head(&mut self, number: u16, length: usize) {
        self.push(u64::from(number) << 3 | 2);
        self.push(length as u64);
    }

    /// A message inside: most are short, so one byte is kept for the length, and a longer one is made room for.
    pub(super) fn message(&mut self, number: u16, fill: impl FnOnce(&mut Self)) {
        self.push(u64::from(number) << 3 | 2);
        let start = self.0.len();
        self.0.push(0);
        fill(self);
        let length = self.0.len() - start - 1;
        let mut written = Self::default();
        written.push(length as u64);
        if let [short] = *written.0
            && let Some(place) = self.0.get_mut(start)
        {
            *place = short;
        } else {
            self.0.splice(start..=start, written.0);
        }
    }
}
