//! `metav1.Time` and `metav1.MicroTime`: RFC 3339 in, UTC out, errors as Go's `time.Parse` words them.

use jiff::Timestamp;

use crate::clock::{rfc3339_micros, rfc3339_seconds};

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The time as it is written: UTC, in whole seconds, or with six digits where `micro`.
///
/// # Errors
/// What could not be read as what, in Go's words.
pub(super) fn canonical(text: &str, micro: bool) -> Result<String, String> {
    let layout = if micro { MICROS } else { SECONDS };
    let fail =
        |rest: &str, part: &str| Err(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}"));
    let mut rest = text;
    for (digits, part, separator) in
        [(4, "2006", "-"), (2, "01", "-"), (2, "02", "T"), (2, "15", ":"), (2, "04", ":"), (2, "05", "")]
    {
        match rest.split_at_checked(digits) {
            Some((number, after)) if number.bytes().all(|b| b.is_ascii_digit()) => rest = after,
            _ => return fail(rest, part),
        }
        match rest.strip_prefix(separator) {
            Some(after) => rest = after,
            None => return fail(rest, separator),
        }
    }
    let fraction =
        rest.strip_prefix(['.', ',']).map_or(0, |after| after.bytes().take_while(u8::is_ascii_digit).count());
    if micro {
        if fraction < 6 || !rest.starts_with('.') {
            return fail(rest, ".000000");
        }
        rest = rest.get(7..).unwrap_or_default();
    } else if fraction > 0 {
        rest = rest.get(1 + fraction..).unwrap_or_default();
    }
    let length = if rest.starts_with('Z') { 1 } else { rest.len().min("+00:00".len()) };
    let (offset, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
    if !zone(offset) {
        return fail(rest, "Z07:00");
    }
    if !behind.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {behind:?}"));
    }
    let time: Timestamp = text.replacen(',', ".", 1).parse().map_err(|_| out_of_range(text))?;
    Ok(if micro { rfc3339_micros(time) } else { rfc3339_seconds(time) })
}

fn zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [b'Z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

fn out_of_range(text: &str) -> String {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    let part = match (number(5, 7), number(11, 13), number(14, 16), number(17, 19)) {
        (month, ..) if !(1..=12).contains(&month) => "month",
        (_, hour, ..) if hour > 23 => "hour",
        (_, _, minute, _) if minute > 59 => "minute",
        (_, _, _, second) if second > 59 => "second",
        _ => "day",
    };
    format!("parsing time {text:?}: {part} out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(canonical("2026-01-02T03:04:05+01:00", false), Ok("2026-01-02T02:04:05Z".into()));
        assert_eq!(canonical("2026-01-02T03:04:05.9Z", false), Ok("2026-01-02T03:04:05Z".into()));
        assert_eq!(canonical("2026-01-02T03:04:05.123456Z", true), Ok("2026-01-02T03:04:05.123456Z".into()));
    }

    #[test]
    fn errors_read_as_go_words_them() {
        let error = |text: &str, micro| canonical(text, micro).unwrap_err();
        assert_eq!(
            error("yesterday", false),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""
        );
        assert_eq!(
            error("2026-01-01T00:00:00.5Z", true),
            "parsing time \"2026-01-01T00:00:00.5Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \".5Z\" as \".000000\""
        );
        assert_eq!(
            error("2026-01-02T03:04:05.123456ZZ", true),
            "parsing time \"2026-01-02T03:04:05.123456ZZ\": extra text: \"Z\""
        );
        assert_eq!(error("2026-13-01T00:00:00Z", false), "parsing time \"2026-13-01T00:00:00Z\": month out of range");
    }
}
