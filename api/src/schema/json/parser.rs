//! A parser of JSON that goes down with the text, never deeper than [`MAX_DEPTH`].

use std::borrow::Cow;

use super::{JsonError, MAX_DEPTH, Raw, lossy};

/// Where reading is.
pub(super) struct Parser<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// How many values have begun.
    pub(super) values: usize,
    /// How many may.
    pub(super) most_values: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    pub(super) fn wrong(&self, place: &'static str) -> JsonError {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.first() {
            None => JsonError::End,
            Some(byte) => JsonError::Character { found: char::from(*byte), place },
        }
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        self.values += 1;
        if self.values > self.most_values {
            return Err(JsonError::Many(self.most_values));
        }
        self.blank();
        match self.peek() {
            Some(bracket @ (b'{' | b'[')) if depth >= MAX_DEPTH => Err(JsonError::Depth(char::from(bracket))),
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Raw::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => {
                let places = [
                    "",
                    "in literal true (expecting 'r')",
                    "in literal true (expecting 'u')",
                    "in literal true (expecting 'e')",
                ];
                self.literal(b"true", &places).map(|()| Raw::Bool(true))
            }
            Some(b'f') => {
                let places = [
                    "",
                    "in literal false (expecting 'a')",
                    "in literal false (expecting 'l')",
                    "in literal false (expecting 's')",
                    "in literal false (expecting 'e')",
                ];
                self.literal(b"false", &places).map(|()| Raw::Bool(false))
            }
            Some(b'n') => {
                let places = [
                    "",
                    "in literal null (expecting 'u')",
                    "in literal null (expecting 'l')",
                    "in literal null (expecting 'l')",
                ];
                self.literal(b"null", &places).map(|()| Raw::Null)
            }
            _ => Err(self.wrong("looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &[u8], places: &[&'static str]) -> Result<(), JsonError> {
        for (byte, place) in word.iter().zip(places) {
            if self.peek() != Some(*byte) {
                return Err(self.wrong(place));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn map(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Raw::Map(entries));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.blank();
            if self.peek() != Some(b':') {
                return Err(self.wrong("after object key"));
            }
            self.at += 1;
            entries.push((key, self.value(depth + 1)?));
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Raw::Map(entries));
                }
                _ => return Err(self.wrong("after object key:value pair")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Raw::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Raw::List(items));
                }
                _ => return Err(self.wrong("after array element")),
            }
        }
    }

    fn digits(&mut self, place: &'static str) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.wrong(place));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Raw<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(Raw::Number(String::from_utf8_lossy(self.bytes.get(start..self.at).unwrap_or_default())))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(JsonError::End),
                Some(b'"') => {
                    let bytes = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(lossy(bytes)), Cow::Borrowed));
                }
                Some(b'\\') => break,
                Some(0..=0x1f) => return Err(self.wrong("in string literal")),
                Some(_) => self.at += 1,
            }
        }
        let mut text: Vec<u8> = self.bytes.get(start..self.at).unwrap_or_default().to_vec();
        loop {
            match self.peek() {
                None => return Err(JsonError::End),
                Some(b'"') => {
                    self.at += 1;
                    let text = String::from_utf8(text).unwrap_or_else(|bad| lossy(bad.as_bytes()));
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    let found = self.escape()?;
                    text.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(0..=0x1f) => return Err(self.wrong("in string literal")),
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let found = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong("in string escape code")),
        };
        self.at += 1;
        Ok(found)
    }

    /// A lone surrogate becomes the replacement character, as in Go.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..self.at + 2) == Some(b"\\u") {
            let back = self.at;
            self.at += 1;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Four hexadecimal digits after the `u` that stands here.
    fn hex(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.wrong("in \\u hexadecimal character escape")) };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}
