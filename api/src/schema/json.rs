//! Reads JSON into a tree that keeps what strict decoding needs: duplicate keys and the text of numbers.
//!
//! Errors read as Go's `encoding/json` words them, since clients see them.

mod parser;

use std::borrow::Cow;

use parser::Parser;

/// Values nested deeper than this are refused, so that no body can exhaust the stack; real objects stay below 40.
pub const MAX_DEPTH: usize = 256;
/// An object of more values than this is refused, whatever form it comes in: an empty one takes two or three bytes of a body,
/// and a hundred and more in memory. One that is small enough to be stored could have more only if it had hardly anything but
/// numbers and empty values in it, of which upstream has no limit.
pub const MAX_VALUES: usize = 400_000;

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
    #[error("invalid character {} exceeded max depth", quoted(*.0))]
    Depth(char),
    /// More values than may be read: [`MAX_VALUES`] of one object.
    #[error("more than {0} values, which is more than an object may have")]
    Many(usize),
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
    parse_up_to(MAX_VALUES, bytes)
}

/// The same, of so many values at most: for what holds more than one object.
///
/// # Errors
/// The first thing that is malformed.
pub fn parse_up_to(most_values: usize, bytes: &[u8]) -> Result<Raw<'_>, JsonError> {
    let mut parser = Parser { bytes, at: 0, values: 0, most_values };
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
        '\u{7}' => "'\\a'".into(),
        '\u{8}' => "'\\b'".into(),
        '\u{b}' => "'\\v'".into(),
        '\u{c}' => "'\\f'".into(),
        other if other.is_control() && u32::from(other) < 0x80 && !"\n\r\t".contains(other) => {
            format!("'\\x{:02x}'", u32::from(other))
        }
        other if other.is_control() && u32::from(other) >= 0x80 => format!("'\\u{:04x}'", u32::from(other)),
        other => format!("'{}'", other.escape_debug()),
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

    /// Puts the keys of all maps in order.
    pub(crate) fn sort_keys(&mut self) {
        match self {
            Self::Map(entries) => {
                entries.sort_by(|(one, _), (other, _)| one.cmp(other));
                entries.iter_mut().for_each(|(_, value)| value.sort_keys());
            }
            Self::List(items) => items.iter_mut().for_each(Self::sort_keys),
            _ => {}
        }
    }

    /// What it is, as Go's decoding errors say it.
    #[must_use]
    pub fn go_kind(&self) -> &'static str {
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

/// Up to here every whole float is the same number as an integer, and is written like one.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number where it fits 64 bits, else a float; a whole float is written as Go writes it, without a fraction.
pub(super) fn number(text: &str) -> serde_json::Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    match text.parse::<f64>() {
        Ok(float) if float.fract() == 0.0 && float.abs() < EXACT => (float as i64).into(),
        Ok(float) => float.into(),
        Err(_) => serde_json::Value::Null,
    }
}

/// The same as a float, whatever it looks like; none where it is too large for one.
pub(super) fn double(text: &str) -> Option<serde_json::Value> {
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite())?;
    Some(if float.fract() == 0.0 && float.abs() < EXACT { (float as i64).into() } else { float.into() })
}

/// Text of bytes as Go reads it: what is no letter becomes the mark of that, byte by byte.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
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
        assert_eq!(
            parse(b"\x81").unwrap_err().to_string(),
            "invalid character '\\u0081' looking for beginning of value",
            "a byte is told as the letter of its number"
        );
        assert_eq!(error(&"[".repeat(300)), "invalid character '[' exceeded max depth");
    }

    #[test]
    fn a_body_of_very_many_values_is_refused() {
        let list = |values: usize| format!("[{}]", vec!["{}"; values].join(","));
        assert!(parse(list(MAX_VALUES - 1).as_bytes()).is_ok());
        assert_eq!(parse(list(MAX_VALUES).as_bytes()), Err(JsonError::Many(MAX_VALUES)));
        assert!(parse_up_to(MAX_VALUES + 1, list(MAX_VALUES).as_bytes()).is_ok());
        let map = format!("{{{}}}", vec!["\"\":0"; MAX_VALUES].join(","));
        assert_eq!(parse(map.as_bytes()), Err(JsonError::Many(MAX_VALUES)));
    }

    #[test]
    fn escapes_and_broken_surrogates_are_read_as_go_reads_them() {
        let Raw::String(text) = parse(br#""a\u00e9\ud83d\ude00\ud800x\n""#).unwrap() else { panic!("text") };
        assert_eq!(text, "aé😀\u{fffd}x\n");
        for bytes in [&b"\"a\xe2\x82b\""[..], b"\"a\xe2\x82\\u0062\""] {
            assert_eq!(parse(bytes).unwrap(), Raw::String("a\u{fffd}\u{fffd}b".into()), "a mark for each byte");
        }
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
