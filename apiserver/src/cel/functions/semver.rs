//! Semantic versions (semver.org 2.0.0).

use std::{cmp::Ordering, sync::Arc};

use super::{Fault, Library, Outcome, fail};
use crate::cel::{opaque::Opaque, value::Value};

/// A version.
#[derive(Debug)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<String>,
}

pub(super) const LIBRARY: Library = &[
    ("semver", &["string_to_semver: (string) -> Semver", "string_bool_to_semver: (string, bool) -> Semver"], |args| {
        match parse(args)? {
            Ok(version) => Ok(Value::Opaque(Opaque::Semver(Arc::new(version)))),
            Err(why) => fail(why),
        }
    }),
    ("isSemver", &["is_semver_string: (string) -> bool", "is_semver_string_bool: (string, bool) -> bool"], |args| {
        Ok(Value::Bool(parse(args)?.is_ok()))
    }),
    ("major", &["semver_major: Semver.() -> int"], |args| number(args, 0)),
    ("minor", &["semver_minor: Semver.() -> int"], |args| number(args, 1)),
    ("patch", &["semver_patch: Semver.() -> int"], |args| number(args, 2)),
];

fn number<'a>(args: &[Value<'a>], at: usize) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Semver(own))] => {
            let number = own.numbers.get(at).copied().unwrap_or(0);
            Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn parse(args: &[Value<'_>]) -> Result<Result<Semver, String>, Fault> {
    match args {
        [Value::String(text)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(normalize)] => {
            Ok(Semver::parse(&if *normalize { normalized(text) } else { text.to_string() }))
        }
        _ => Err(Fault::NoOverload),
    }
}

/// Without a leading `v` and leading zeros, with three numbers.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let mut parts: Vec<String> = numbers
        .splitn(3, '.')
        .map(|part| {
            let plain = part.trim_start_matches('0');
            let is_number = plain.starts_with(|c: char| c.is_ascii_digit()) || part.is_empty();
            if is_number { plain.to_owned() } else { format!("0{plain}") }
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    format!("{}{rest}", parts.join("."))
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, before) = rest.split_once('-').map_or((rest, None), |(rest, before)| (rest, Some(before)));
        let numbers = [Self::number(major, "major")?, Self::number(minor, "minor")?, Self::number(patch, "patch")?];
        let before = before.map_or(Ok(Vec::new()), |before| identifiers(before, "Prerelease", true))?;
        build.map_or(Ok(Vec::new()), |build| identifiers(build, "Build meta data", false))?;
        Ok(Self { numbers, before })
    }

    fn number(text: &str, which: &str) -> Result<u64, String> {
        if text.is_empty() {
            return Err("strconv.ParseUint: parsing \"\": invalid syntax".to_owned());
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Invalid character(s) found in {which} number {text:?}"));
        }
        if text.len() > 1 && text.starts_with('0') {
            let which: String =
                which.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }).collect();
            return Err(format!("{which} number must not contain leading zeroes {text:?}"));
        }
        text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
    }

    /// Which comes first; build data does not count.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let mut pairs = self.before.iter().zip(&other.before).map(|(a, b)| part(a, b));
                pairs.find(|order| order.is_ne()).unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
            }
        })
    }
}

fn identifiers(text: &str, which: &str, numbers: bool) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    for part in text.split('.') {
        if part.is_empty() {
            return Err(format!("{which} is empty"));
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("Invalid character(s) found in {} {part:?}", which.to_lowercase()));
        }
        if numbers && part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
        }
        parts.push(part.to_owned());
    }
    Ok(parts)
}

fn part(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_standard_says() {
        let ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0"];
        for pair in ordered.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|text| Semver::parse(text).unwrap());
            assert_eq!(a.precedence(&b), Ordering::Less, "{pair:?}");
        }
        for bad in ["", "1.0", "01.0.0", "1.0.0-", "v1.0.0"] {
            assert!(Semver::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(normalized("v01.0"), "1.0.0");
    }
}
