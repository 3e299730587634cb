//! Base64 as Go's standard encoding reads it: line breaks are skipped, errors name the byte.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Go accepts bits beyond the last byte.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&ALPHABET, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The text as Go would write the bytes that it stands for.
///
/// # Errors
/// The place of the first byte that is wrong, in Go's words.
pub fn canonical(text: Cow<'_, str>) -> Result<String, String> {
    if !text.contains(['\n', '\r']) && LENIENT.decode(&*text).is_ok_and(|bytes| last_is_canonical(&text, &bytes)) {
        return Ok(text.into_owned());
    }
    if let Some(at) = first_wrong(text.as_bytes()) {
        return Err(format!("illegal base64 data at input byte {at}"));
    }
    let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let bytes = LENIENT.decode(&joined).map_err(|_| format!("illegal base64 data at input byte {}", text.len()))?;
    Ok(LENIENT.encode(bytes))
}

fn last_is_canonical(text: &str, bytes: &[u8]) -> bool {
    let tail = bytes.len() - bytes.len() % 3;
    let written = LENIENT.encode(bytes.get(tail..).unwrap_or_default());
    text.ends_with(&written)
}

/// Where Go's decoder stops: at a foreign character, at padding that comes too early or too late, or at a short end.
fn first_wrong(bytes: &[u8]) -> Option<usize> {
    let mut quantum = 0;
    let mut places = bytes.iter().enumerate().filter(|(_, byte)| !matches!(byte, b'\n' | b'\r')).peekable();
    while let Some((at, byte)) = places.next() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => quantum = (quantum + 1) % 4,
            b'=' if quantum == 2 => match places.next() {
                None => return Some(bytes.len()),
                Some((second, other)) if *other != b'=' => return Some(second),
                Some(_) => return places.peek().map(|(after, _)| *after),
            },
            b'=' if quantum == 3 => return places.peek().map(|(after, _)| *after),
            _ => return Some(at),
        }
    }
    (quantum != 0).then(|| bytes.len() - quantum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_byte_as_go_does() {
        let error = |text: &str| canonical(text.into()).unwrap_err();
        assert_eq!(error("!!"), "illegal base64 data at input byte 0");
        assert_eq!(error("abc!"), "illegal base64 data at input byte 3");
        assert_eq!(error("YQ"), "illegal base64 data at input byte 0");
        assert_eq!(error("YWJjZ"), "illegal base64 data at input byte 4");
        assert_eq!(error("YQ==YQ=="), "illegal base64 data at input byte 4");
    }

    #[test]
    fn bytes_are_written_again_in_one_line() {
        assert_eq!(canonical("YW\nJj\n".into()), Ok("YWJj".into()));
        assert_eq!(canonical("YR==".into()), Ok("YQ==".into()));
        assert_eq!(canonical("".into()), Ok(String::new()));
    }
}
