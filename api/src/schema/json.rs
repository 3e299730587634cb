//! Reads JSON into a tree that keeps what strict decoding needs: duplicate keys and the text of numbers.
//!
//! Errors read as Go's `encoding/json` words them, since clients see them.

use std::borrow::Cow;

/// Values nested deeper than this are refused, so that no body can exhaust the stack; real objects stay below 40.
pub const MAX_DEPTH: usize = 256;

/// Malformed JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text stops in the middle of a value.
    #[error("unexpected end of JSON input")]
    End,
    /// A character where none like it may stand.
    #[error("invalid character {} {place}", quoted(*.found))]
    Character {
        /// The character.
        found: char,
        /// Where, in Go's words.
        place: &'static str,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("exceeded max depth")]
    Depth,
}

/// A parsed but not yet typed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As it was written.
    Number(Cow<'a, str>),
    /// Unescaped.
    String(Cow<'a, str>),
    /// In order.
    List(Vec<Self>),
    /// In order, duplicates included.
    Map(Vec<(Cow<'a, str>, Self)>),
}

/// Parses one JSON value and nothing after it.
///
/// # Errors
/// The first thing that is malformed.
pub fn parse(bytes: &[u8]) -> Result<Raw<'_>, JsonError> {
    let mut parser = Parser { bytes, at: 0 };
    let value = parser.value(0)?;
    parser.blank();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.wrong("after top-level value")),
    }
}

fn quoted(found: char) -> String {
    match found {
        '\'' => "'\\''".into(),
        '"' => "'\"'".into(),
        other if other.is_control() && u32::from(other) < 0x80 && !"\n\r\t".contains(other) => {
            format!("'\\x{:02x}'", u32::from(other))
        }
        other => format!("'{}'", other.escape_debug()),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn wrong(&self, place: &'static str) -> JsonError {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.first() {
            None => JsonError::End,
            Some(byte) => JsonError::Character { found: char::from(*byte), place },
        }
    }

    fn value(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::Depth);
        }
        self.blank();
        match self.peek() {
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
                    let text = String::from_utf8_lossy(self.bytes.get(start..self.at).unwrap_or_default());
                    self.at += 1;
                    return Ok(text);
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
                    let text = String::from_utf8(text)
                        .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned());
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

impl Raw<'_> {
    /// The text of a field of a map.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let Self::Map(entries) = self else { return None };
        entries.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| match value {
            Raw::String(text) => Some(&**text),
            _ => None,
        })
    }

    /// What it is, as Go's decoding errors say it.
    pub(super) fn go_kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// As a plain value; of duplicate keys the last wins.
    #[must_use]
    pub fn into_value(self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(text) => number(&text),
            Self::String(text) => Value::String(text.into_owned()),
            Self::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Self::Map(entries) => {
                Value::Object(entries.into_iter().map(|(key, value)| (key.into_owned(), value.into_value())).collect())
            }
        }
    }
}

/// A whole number where it fits 64 bits, else a float, as Go's untyped decoding has it.
pub(super) fn number(text: &str) -> serde_json::Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    text.parse::<f64>().map_or(serde_json::Value::Null, serde_json::Value::from)
}

impl From<serde_json::Value> for Raw<'static> {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => Self::Number(Cow::Owned(number.to_string())),
            Value::String(text) => Self::String(Cow::Owned(text)),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (Cow::Owned(key), Self::from(value))).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn errors_read_as_go_words_them() {
        assert_eq!(error(""), "unexpected end of JSON input");
        assert_eq!(error("{\"a\":"), "unexpected end of JSON input");
        assert_eq!(error("{} {"), "invalid character '{' after top-level value");
        assert_eq!(error("{\"a\" 1}"), "invalid character '1' after object key");
        assert_eq!(error("{\"a\":1,}"), "invalid character '}' looking for beginning of object key string");
        assert_eq!(error("[1 2]"), "invalid character '2' after array element");
        assert_eq!(error("nul1"), "invalid character '1' in literal null (expecting 'l')");
        assert_eq!(error("'a'"), "invalid character '\\'' looking for beginning of value");
        assert_eq!(error("\"a\nb\""), "invalid character '\\n' in string literal");
        assert_eq!(error(&"[".repeat(300)), "exceeded max depth");
    }

    #[test]
    fn escapes_and_broken_surrogates_are_read_as_go_reads_them() {
        let Raw::String(text) = parse(br#""a\u00e9\ud83d\ude00\ud800x\n""#).unwrap() else { panic!("text") };
        assert_eq!(text, "aé😀\u{fffd}x\n");
    }

    proptest! {
        #[test]
        fn whatever_serde_reads_is_read_alike(text in "[\\[\\]{}:, \"a0-9.e\\-\\\\untrf]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).ok();
            let ours = parse(text.as_bytes()).ok().map(Raw::into_value);
            prop_assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(theirs)) = (ours, theirs) && !text.contains(['.', 'e']) {
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _outcome = parse(&bytes);
        }
    }
}
