//! How texts read as instants, spans and bytes, and how those are written.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use martello_api::go;

use super::{
    schema::Shape,
    value::{Text, Value},
};

const SECOND: i128 = 1_000_000_000;
/// Start of the year 1: there is no instant before it.
pub(crate) const FIRST_SECOND: i64 = -62_135_596_800;

/// Text as its schema reads it.
pub(crate) fn text<'a>(text: &'a str, shape: &Shape) -> Value<'a> {
    let broken = |what: &str| Value::Broken(format!("Invalid {what} {text}").into());
    match shape {
        Shape::Timestamp => timestamp(text).map_or_else(|| broken("date-time formatted string"), Value::Timestamp),
        Shape::Date => {
            timestamp(&format!("{text}T00:00:00Z")).map_or_else(|| broken("date formatted string"), Value::Timestamp)
        }
        Shape::Duration => duration(text).map_or_else(|| broken("duration"), Value::Duration),
        Shape::Bytes => match STANDARD.decode(text) {
            Ok(data) => Value::Bytes(data.into()),
            Err(_) => broken("byte formatted string"),
        },
        _ => Value::String(Text::Borrowed(text)),
    }
}

/// A number without fraction, as JSON may write it with a point.
pub(crate) fn whole(number: &serde_json::Number) -> Option<i64> {
    let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e18)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in bounds")]
    let whole = number as i64;
    Some(whole)
}

/// An instant in RFC 3339.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let shaped = text.len() >= 20 && text.is_ascii() && matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    if !shaped {
        return None;
    }
    // Digits of a fraction behind the ninth say nothing.
    let fraction = text.get(19..).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    match (text.get(..29), text.get(20 + digits..)) {
        (Some(kept), Some(zone)) if digits > 9 => [kept, zone].concat().parse().ok(),
        _ => text.parse().ok(),
    }
}

/// An instant as `timestamp(text)` reads it: with large letters only, and without a second that leaps.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    let plain = !text.contains(['t', 'z']) && text.get(17..19) != Some("60");
    timestamp(text).filter(|_| plain)
}

/// A number as `double(text)` reads it: digits may be set apart by `_`, and it may not be too large.
pub(crate) fn double(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let mut places = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').map(|(at, _)| at);
    if !places.all(|at| is_digit(at.checked_sub(1)) && is_digit(at.checked_add(1))) {
        return None;
    }
    let number: f64 = text.replace('_', "").parse().ok()?;
    let fits = number.is_finite() || !bytes.iter().any(u8::is_ascii_digit);
    fits.then_some(number)
}

/// A span as `1h2m3.5s`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..fraction.len().min(15)).unwrap_or_default();
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.checked_mul(unit)?.checked_add(part * unit / places)
}

/// A span in seconds, as `string(duration)` writes it.
pub(crate) fn seconds(nanos: i64) -> Arc<str> {
    #[expect(clippy::cast_precision_loss, reason = "upstream writes the seconds as a floating number")]
    let seconds = (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9;
    format!("{seconds}s").into()
}

/// A number as `string(double)` writes it: with an exponent below four zeros and from seven digits on.
pub(crate) fn shortest(number: f64) -> String {
    if number.is_finite() { go::float(number) } else { self::number(number) }
}

/// A number as `format` and messages write it: with an exponent where it would be long otherwise.
pub(crate) fn number(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if number == 0.0 { 0.0 } else { number.abs().log10().floor() };
    if (-5.0..21.0).contains(&exponent) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("-1.5s"), Some(-1_500_000_000));
        assert_eq!(duration("1d"), None);
        assert_eq!(duration(""), None);
        assert_eq!(&*seconds(5_400_000_000_000), "5400s");
        assert_eq!(&*seconds(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (number, written) in
            [(1e6, "1e+06"), (123_456.0, "123456"), (1_234_567.5, "1.2345675e+06"), (1e-5, "1e-05")]
        {
            assert_eq!(shortest(number), written);
        }
        assert_eq!([f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(shortest), ["+Inf", "-Inf", "NaN"]);
        assert_eq!(number(1.0), "1");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(1e21), "1e+21");
        assert_eq!(number(1e-7), "1e-07");
    }
}
