//! `metav1.Time` and `metav1.MicroTime`: RFC 3339 in, UTC out, errors as Go's `time.Parse` words them.

use std::str::FromStr;

use jiff::{SignedDuration, civil::DateTime, tz::TimeZone};

use crate::go::quoted_time;

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";
const MICRO_PART: &str = ".000000";
const ZONE: &str = "Z07:00";

/// Since when times are counted on the wire. They are civil ones, in UTC.
pub(super) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The time as it is written: UTC, in whole seconds, or with six digits where `micro`.
///
/// # Errors
/// What could not be read as what, in Go's words.
pub fn canonical(text: &str, micro: bool) -> Result<String, String> {
    let mut reader = Reader { text, rest: text, layout: if micro { MICROS } else { SECONDS } };
    let year: i16 = reader.number("2006", 4, 4)?;
    reader.literal("-")?;
    let month: i8 = reader.number_of("01", 2, "month", |month| (1..=12).contains(&month))?;
    reader.literal("-")?;
    let day: i8 = reader.number("02", 2, 2)?;
    reader.literal("T")?;
    let hour: i8 = reader.number_of("15", 1, "hour", |hour| hour < 24)?;
    reader.literal(":")?;
    let minute: i8 = reader.number_of("04", 2, "minute", |minute| minute < 60)?;
    reader.literal(":")?;
    let second: i8 = reader.number_of("05", 2, "second", |second| second < 60)?;
    let micros = if micro {
        reader.micros()?
    } else {
        reader.skip_fraction();
        0
    };
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quoted_time(text), quoted_time(reader.rest)));
    }
    let local = DateTime::new(year, month, day, hour, minute, second, micros * 1000);
    let time = local.and_then(|local| local.checked_sub(offset)).map_err(|_| reader.out_of_range("day"))?;
    written(time, micro).ok_or_else(|| reader.out_of_range("day"))
}

/// A time, in UTC, as Kubernetes writes it. None for one that typed clients in Rust can't read, our own components among them,
/// who would wait for a whole kind because of one object: before the year 0, or after 9999-12-30T22:00:00Z, the last moment that
/// a `jiff::Timestamp` holds.
pub(super) fn written(time: DateTime, micro: bool) -> Option<String> {
    if time.year() < 0 || time.to_zoned(TimeZone::UTC).is_err() {
        return None;
    }
    Some(time.strftime(if micro { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" }).to_string())
}

/// Whether a time, as it is written, is the first that there is: Go takes that for none.
pub(super) fn is_none(written: &str) -> bool {
    matches!(written, "0001-01-01T00:00:00Z" | "0001-01-01T00:00:00.000000Z")
}

/// How long after [`EPOCH`] a time is that was written so.
pub(super) fn since_epoch(text: &str) -> Option<SignedDuration> {
    let time: DateTime = text.strip_suffix('Z')?.parse().ok()?;
    Some(time.duration_since(EPOCH))
}

/// Reads a time from its start to its end, as Go does: what comes first that is wrong is what is told.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.mismatch(literal))?;
        Ok(())
    }

    /// A number of so many digits, the part of the layout that is named.
    fn number<N: FromStr + Default>(&mut self, part: &str, least: usize, most: usize) -> Result<N, String> {
        let digits = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let found = self.rest.split_at_checked(digits).filter(|_| digits >= least);
        let (number, rest) = found.ok_or_else(|| self.mismatch(part))?;
        self.rest = rest;
        Ok(number.parse().unwrap_or_default())
    }

    /// A number of two digits at most within its range.
    fn number_of(&mut self, part: &str, least: usize, name: &str, fits: fn(i8) -> bool) -> Result<i8, String> {
        let number = self.number(part, least, 2)?;
        if fits(number) { Ok(number) } else { Err(self.out_of_range(name)) }
    }

    /// Six digits behind a point or comma.
    fn micros(&mut self) -> Result<i32, String> {
        let found = self.rest.split_at_checked(MICRO_PART.len()).and_then(|(part, rest)| {
            let digits = part.strip_prefix(['.', ','])?;
            let number =
                digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or_default())?;
            Some((number, rest))
        });
        let (number, rest) = found.ok_or_else(|| self.mismatch(MICRO_PART))?;
        self.rest = rest;
        Ok(number)
    }

    /// A fraction that the layout doesn't have is passed over.
    fn skip_fraction(&mut self) {
        if let Some(after) = self.rest.strip_prefix(['.', ','])
            && after.starts_with(|first: char| first.is_ascii_digit())
        {
            self.rest = after.trim_start_matches(|next: char| next.is_ascii_digit());
        }
    }

    /// How far ahead of UTC the time is. Some write offsets of 24 hours or of 60 minutes.
    fn offset(&mut self) -> Result<SignedDuration, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(SignedDuration::ZERO);
        }
        let two = |first: u8, second: u8| {
            let digits = first.is_ascii_digit() && second.is_ascii_digit();
            digits.then(|| i64::from(first - b'0') * 10 + i64::from(second - b'0'))
        };
        let found = self.rest.split_at_checked("+00:00".len()).and_then(|(zone, rest)| match *zone.as_bytes() {
            [sign, a, b, b':', c, d] => Some((sign, two(a, b)?, two(c, d), rest)),
            _ => None,
        });
        let (sign, hours, minutes, rest) = found.ok_or_else(|| self.mismatch(ZONE))?;
        if minutes.is_some_and(|minutes| minutes > 60) {
            return Err(self.out_of_range("time zone offset minute"));
        }
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        let ahead = minutes.map(|minutes| SignedDuration::from_secs((hours * 60 + minutes) * 60));
        let offset = match (sign, ahead) {
            (b'+', Some(ahead)) => ahead,
            (b'-', Some(ahead)) => -ahead,
            _ => return Err(self.mismatch(ZONE)),
        };
        self.rest = rest;
        Ok(offset)
    }

    fn mismatch(&self, part: &str) -> String {
        let [text, rest, layout, part] = [self.text, self.rest, self.layout, part].map(quoted_time);
        format!("parsing time {text} as {layout}: cannot parse {rest} as {part}")
    }

    fn out_of_range(&self, part: &str) -> String {
        format!("parsing time {}: {part} out of range", quoted_time(self.text))
    }
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
        for (text, part) in [
            ("2026-13-41T25:61:61Z", "month"),
            ("2026-01-32T25:00:00Z", "hour"),
            ("2026-11-22T10:60:00Z", "minute"),
            ("2026-11-22T10:00:60Z", "second"),
            ("2026-02-29T00:00:00Z", "day"),
            ("2026-01-00T00:00:00Z", "day"),
            ("2026-02-30T10:00:00+25:00", "time zone offset hour"),
            ("2026-11-22T10:00:00+26:61", "time zone offset minute"),
        ] {
            assert_eq!(error(text, false), format!("parsing time {text:?}: {part} out of range"));
        }
        for rest in [".Z", "z", "+1:00", "*01:00", "+01:0x"] {
            let text = format!("2026-11-22T10:00:00{rest}");
            assert!(error(&text, false).ends_with(&format!("cannot parse {rest:?} as \"Z07:00\"")), "{text}");
        }
    }

    #[test]
    fn times_that_components_can_read_are_read_as_go_reads_them() {
        for (given, written) in [
            ("9999-12-30T21:59:59Z", "9999-12-30T21:59:59Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2026-11-22T1:00:00Z", "2026-11-22T01:00:00Z"),
            ("2026-11-22T10:00:00,5Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00:00+24:60", "2026-11-21T09:00:00Z"),
        ] {
            assert_eq!(canonical(given, false).as_deref(), Ok(written));
            assert!(written.parse::<jiff::Timestamp>().is_ok(), "{written}");
        }
        for beyond in ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00+01:00"] {
            assert_eq!(canonical(beyond, false), Err(format!("parsing time {beyond:?}: day out of range")));
        }
        let first = ["0001-01-01T00:00:00Z", "0001-01-01T01:00:00+01:00"].map(|text| canonical(text, false).unwrap());
        assert!(first.iter().all(|first| is_none(first)) && !is_none("0001-01-01T00:00:01Z"));
        let last = "9999-12-30T21:59:59.999999Z";
        assert_eq!(canonical(last, true).as_deref(), Ok(last));
    }

    #[test]
    fn times_are_counted_from_the_epoch() {
        assert_eq!(since_epoch("9999-12-31T23:59:59Z"), Some(SignedDuration::from_secs(253_402_300_799)));
        assert_eq!(since_epoch("1969-12-31T23:59:59.500000Z"), Some(SignedDuration::from_millis(-500)));
        assert_eq!(since_epoch("later"), None);
    }
}
