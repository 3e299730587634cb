//! The wire format of protobuf: tags, varints and length-delimited bytes, read without trust and written forward.

use super::ProtobufError;

/// The longest varint of 64 bits.
const MAX_VARINT_BYTES: u32 = 10;

/// One value as it is on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Wire<'a> {
    /// The bytes of a string, a message or bytes.
    pub(super) fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.wrong()),
        }
    }

    /// A whole number or a flag.
    pub(super) fn varint(self) -> Result<u64, ProtobufError> {
        match self {
            Self::Varint(number) => Ok(number),
            other => Err(other.wrong()),
        }
    }

    /// Text.
    pub(super) fn text(self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Text)
    }

    pub(super) fn wrong(self) -> ProtobufError {
        ProtobufError::WireType(match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        })
    }
}

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(ProtobufError::Tag);
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk().ok_or(ProtobufError::End)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::End)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0u64;
        for place in 0..MAX_VARINT_BYTES {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::End)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::End)?;
        self.rest = rest;
        Ok(taken)
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
