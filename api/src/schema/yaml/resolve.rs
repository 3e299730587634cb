//! What scalars stand for, as upstream's reader of YAML 1.1 sees it.

use std::fmt::Write as _;

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use crate::{go, schema::json::lossy};

/// How the tags of YAML's own types begin.
pub(super) const COMMON: &str = "tag:yaml.org,2002:";
/// Bits behind the last byte are passed over.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A value, its type being one of Go's.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    List(Vec<Made>),
    Map(Vec<(Made, Made)>),
}

/// What a scalar stands for.
///
/// # Errors
/// It is not of the type that its tag says.
pub(super) fn resolve(tag: &str, text: &str) -> Result<Made, String> {
    let short = tag.strip_prefix(COMMON);
    match (tag, short) {
        ("", _) | (_, Some("bool" | "int" | "float" | "null" | "timestamp")) => {}
        (_, Some("binary")) => {
            let kept: String = text.chars().filter(|letter| !matches!(letter, '\n' | '\r')).collect();
            let bytes = BASE64.decode(kept).map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            return Ok(Made::Text(lossy(&bytes)));
        }
        _ => return Ok(Made::Text(text.to_owned())),
    }
    let wanted = short.unwrap_or_default();
    if matches!(wanted, "timestamp") && is_timestamp(text) {
        return Ok(Made::Text(text.to_owned()));
    }
    let found = untagged(text);
    let kind = match &found {
        Made::Null => "null",
        Made::Bool(_) => "bool",
        Made::Int(_) | Made::Uint(_) => "int",
        Made::Float(_) => "float",
        _ => "str",
    };
    match (wanted, found) {
        ("float", Made::Int(whole)) => Ok(Made::Float(whole as f64)),
        (_, found) if wanted.is_empty() || wanted == kind => Ok(found),
        _ => Err(format!("cannot decode !!{kind} `{text}` as a !!{wanted}")),
    }
}

fn untagged(text: &str) -> Made {
    let number = |float| Made::Float(float);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Made::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Made::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Made::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return number(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return number(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return number(f64::NEG_INFINITY),
        _ => {}
    }
    let found = match text.as_bytes().first() {
        Some(b'.') => separated(text).and_then(|digits| decimal(&digits)).map(number),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = text.replace('_', "");
            whole(&plain).or_else(|| decimal(&plain).map(number))
        }
        _ => None,
    };
    found.unwrap_or_else(|| Made::Text(text.to_owned()))
}

/// A whole number in Go's notation: a prefix tells its base, and a zero before others is one.
fn whole(text: &str) -> Option<Made> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", text.get(1..)?),
        b'+' => ("+", text.get(1..)?),
        _ => ("", text),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let signed = if sign == "-" { format!("-{digits}") } else { digits.to_owned() };
    match i64::from_str_radix(&signed, base) {
        Ok(small) => Some(Made::Int(small)),
        Err(_) if sign.is_empty() => u64::from_str_radix(digits, base).ok().map(Made::Uint),
        Err(_) => None,
    }
}

/// A number with a fraction or an exponent that is not too large.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, power) = digits.split_once(['e', 'E']).map_or((digits, None), |(digits, power)| (digits, Some(power)));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_power = power.is_none_or(|power| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        !power.is_empty() && are_digits(power)
    });
    let is_number = are_digits(whole) && are_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    (is_number && has_power).then(|| text.parse().ok()).flatten().filter(|float: &f64| float.is_finite())
}

/// Without the low lines between its digits, where they stand nowhere else.
fn separated(text: &str) -> Option<String> {
    let odd = |pair: &[u8]| match pair {
        [b'_', other] | [other, b'_'] => !other.is_ascii_digit(),
        _ => false,
    };
    let is_sound = !text.ends_with('_') && !text.as_bytes().windows(2).any(odd);
    is_sound.then(|| text.replace('_', ""))
}

/// A date, or a date and a time of day.
fn is_timestamp(text: &str) -> bool {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at..)),
        None => (text, None),
    };
    let mut parts = date
        .split('-')
        .map(|part| part.parse::<i8>().ok().filter(|_| matches!(part.len(), 1 | 2) && !part.starts_with('+')));
    let year = date.split('-').next().filter(|year| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()));
    let (Some(year), Some(None), Some(Some(month)), Some(Some(day)), None) =
        (year.and_then(|year| year.parse::<i16>().ok()), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    if jiff::civil::Date::new(year, month, day).is_err() {
        return false;
    }
    match time.and_then(|time| time.split_at_checked(1)) {
        None => true,
        Some((" ", clock)) => is_clock(clock),
        Some((_, rest)) => {
            let zone = rest.find(['Z', '+', '-']);
            let (clock, zone) = rest.split_at_checked(zone.unwrap_or(rest.len())).unwrap_or_default();
            is_clock(clock) && is_zone(zone)
        }
    }
}

fn is_clock(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let below = |part: &str, most: u8, lengths: &[usize]| {
        lengths.contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|number| number < most)
    };
    let parts: Vec<&str> = whole.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return false };
    let has_fraction =
        fraction.is_none_or(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    below(hour, 24, &[1, 2]) && below(minute, 60, &[1, 2]) && below(second, 60, &[1, 2]) && has_fraction
}

fn is_zone(text: &str) -> bool {
    let Some(clock) = text.strip_prefix(['+', '-']) else { return text == "Z" };
    let parts =
        clock.split_once(':').map(|(hours, minutes)| [hours, minutes].map(|part| (part.len(), part.parse::<u8>())));
    matches!(parts, Some([(2, Ok(0..=24)), (2, Ok(0..=60))]))
}

impl Made {
    /// As a key of JSON; none where it can't be one.
    pub(super) fn as_key(&self) -> Option<String> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::Float(float) => of_float_key(*float),
            _ => return None,
        })
    }

    /// As `%#v` prints it.
    pub(super) fn go_syntax(&self) -> String {
        match self {
            Self::Null => "<nil>".into(),
            Self::Bool(flag) => flag.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => format!("{number:#x}"),
            Self::Float(float) => of_float(*float, go::float),
            Self::Text(text) => go::quoted(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::within).collect();
                format!("[]interface {{}}{{{}}}", items.join(", "))
            }
            Self::Map(entries) => {
                let mut shown: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{}:{}", key.within(), value.within())).collect();
                shown.sort();
                format!("map[interface {{}}]interface {{}}{{{}}}", shown.join(", "))
            }
        }
    }

    fn within(&self) -> String {
        if *self == Self::Null { "interface {}(nil)".into() } else { self.go_syntax() }
    }

    /// The type that Go has for it.
    pub(super) fn go_type(&self) -> &'static str {
        match self {
            Self::Null => "%!s(<nil>)",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[interface {}]interface {}",
        }
    }
}

fn of_float(float: f64, finite: impl Fn(f64) -> String) -> String {
    let mut special = String::new();
    if float.is_nan() {
        special.push_str("NaN");
    } else if float.is_infinite() {
        let _infallible = write!(special, "{}Inf", if float > 0.0 { '+' } else { '-' });
    } else {
        return finite(float);
    }
    special
}

/// A float as a key: with as many digits as one of 32 bits takes.
fn of_float_key(float: f64) -> String {
    let short = |float: f64| {
        let single = float as f32;
        single.to_string().parse().map_or_else(|_| go::float(float), go::float)
    };
    match of_float(float, short).as_str() {
        "+Inf" => ".inf".into(),
        "-Inf" => "-.inf".into(),
        "NaN" => ".nan".into(),
        other => other.into(),
    }
}
