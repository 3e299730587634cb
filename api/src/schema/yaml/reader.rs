//! The letters of a YAML text, and where upstream's reader would notice that it is none.
//!
//! That reader decodes ahead, 512 bytes at a time: what is wrong with a byte is told before anything that is wrong with the
//! letters of the same piece, and after what is wrong before it.

/// How many bytes upstream decodes at a time.
const PIECE_BYTES: usize = 512;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a text is made of.
pub(super) struct Letters {
    letters: Vec<char>,
    /// How many letters can be had before a fault, and the fault.
    fault: Option<(usize, &'static str)>,
}

impl Letters {
    /// Decodes UTF-8, or UTF-16 where its mark comes first.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let (encoding, mark) = match bytes {
            [0xff, 0xfe, ..] => (Encoding::Utf16(u16::from_le_bytes), 2),
            [0xfe, 0xff, ..] => (Encoding::Utf16(u16::from_be_bytes), 2),
            _ if bytes.starts_with(BYTE_ORDER_MARK) => (Encoding::Utf8, BYTE_ORDER_MARK.len()),
            _ => (Encoding::Utf8, 0),
        };
        let (mut at, mut end) = (mark, PIECE_BYTES);
        let (mut letters, mut had) = (Vec::with_capacity(bytes.len()), 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let next = encoding.first(rest);
            let width = match &next {
                Ok((_, width)) => *width,
                Err(Malformed { seen, .. }) => *seen,
            };
            if at + width > end {
                (had, end) = (letters.len(), at + PIECE_BYTES);
            }
            match next {
                Ok((letter, _)) if is_allowed(letter) => letters.push(letter),
                Ok(_) => return Self { letters, fault: Some((had, "control characters are not allowed")) },
                Err(Malformed { why, .. }) => return Self { letters, fault: Some((had, why)) },
            }
            at += width;
        }
        Self { letters, fault: None }
    }

    /// The letter at a place; the one that no text has behind its end.
    pub(super) fn at(&self, place: usize) -> char {
        self.letters.get(place).copied().unwrap_or('\0')
    }

    /// Whether so many letters can be had, or the text ends before.
    pub(super) fn have(&self, count: usize) -> Result<(), &'static str> {
        match self.fault {
            Some((had, why)) if count > had => Err(why),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
}

/// Bytes that are no letter.
struct Malformed {
    /// How many of them it takes to notice.
    seen: usize,
    why: &'static str,
}

impl Encoding {
    /// The first letter, and how many bytes it takes.
    fn first(self, rest: &[u8]) -> Result<(char, usize), Malformed> {
        match self {
            Self::Utf8 => first_of_utf8(rest),
            Self::Utf16(unit) => first_of_utf16(rest, unit),
        }
    }
}

fn first_of_utf8(rest: &[u8]) -> Result<(char, usize), Malformed> {
    let lead = rest.first().copied().unwrap_or_default();
    let width = match lead {
        0..=0x7f => return Ok((char::from(lead), 1)),
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => return Err(Malformed { seen: 1, why: "invalid leading UTF-8 octet" }),
    };
    let Some(octets) = rest.get(..width) else {
        // That is known only when no more can be read.
        return Err(Malformed { seen: PIECE_BYTES, why: "incomplete UTF-8 octet sequence" });
    };
    if let Some(letter) = std::str::from_utf8(octets).ok().and_then(|text| text.chars().next()) {
        return Ok((letter, width));
    }
    let behind = octets.get(1..).unwrap_or_default();
    let code =
        behind.iter().fold(u32::from(lead) & (0x7f >> width), |code, octet| (code << 6) | u32::from(octet & 0x3f));
    let least = match width {
        2 => 0x80,
        3 => 0x800,
        _ => 0x1_0000,
    };
    let why = if behind.iter().any(|octet| octet & 0xc0 != 0x80) {
        "invalid trailing UTF-8 octet"
    } else if code < least {
        "invalid length of a UTF-8 sequence"
    } else {
        "invalid Unicode character"
    };
    Err(Malformed { seen: width, why })
}

fn first_of_utf16(rest: &[u8], unit: fn([u8; 2]) -> u16) -> Result<(char, usize), Malformed> {
    let mut units = rest.chunks(2).take(2).map(|pair| <[u8; 2]>::try_from(pair).ok().map(unit));
    let Some(Some(first)) = units.next() else {
        return Err(Malformed { seen: PIECE_BYTES, why: "incomplete UTF-16 character" });
    };
    match first {
        0xdc00..=0xdfff => Err(Malformed { seen: 2, why: "unexpected low surrogate area" }),
        0xd800..=0xdbff => match units.next() {
            Some(Some(second)) => {
                let letter = char::decode_utf16([first, second]).next().and_then(Result::ok);
                letter.map(|letter| (letter, 4)).ok_or(Malformed { seen: 4, why: "expected low surrogate area" })
            }
            _ => Err(Malformed { seen: PIECE_BYTES, why: "incomplete UTF-16 surrogate pair" }),
        },
        other => Ok((char::from_u32(u32::from(other)).unwrap_or_default(), 2)),
    }
}

/// What a YAML text may hold (YAML 1.1, 5.1).
pub(super) fn is_allowed(letter: char) -> bool {
    matches!(letter,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
        | '\u{10000}'..='\u{10ffff}')
}
