//! Formats of text that schemas may name. Names that are not known here demand nothing.

use std::sync::LazyLock;

use martello_api::names;
use regex::Regex;
use serde_json::Value;

use crate::registry::object;

/// A known format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(&'static str);

/// Of text, as schemas write them; dashes do not count.
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8s-short-name",
    "k8s-long-name",
];

/// Patterns by format; the rest is code.
static PATTERNS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let patterns = [
        ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
        (
            "address",
            r#"^[^@<>,;:()\[\]\\"\s.]+(\.[^@<>,;:()\[\]\\"\s.]+)*@[^@<>,;:()\[\]\\"\s.]+(\.[^@<>,;:()\[\]\\"\s.]+)*$"#,
        ),
        ("name of a person", r#"^([^@<>,;:()\[\]\\"]*|"[^"]*"\s*)$"#),
        // Of host names: one alone, a label of several, and the last one.
        ("only label", r"^[a-zA-Z0-9\p{S}\p{L}]-?[a-zA-Z0-9\p{S}\p{L}]*$"),
        ("label", r"^[a-zA-Z0-9\p{S}\p{L}]([a-zA-Z0-9\p{S}\p{L}-]*[a-zA-Z0-9\p{S}\p{L}])?$"),
        ("last label", r"^[a-zA-Z\p{L}]{2}[a-zA-Z\p{L}]*$"),
        (
            "mac",
            "^(([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2}[:-]){0,2}[0-9A-Fa-f]{2}|([0-9A-Fa-f]{4}[.]){2,3}[0-9A-Fa-f]{4})$",
        ),
        ("uuid", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        ("uuid3", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        ("uuid4", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        ("uuid5", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
        (
            "rgbcolor",
            r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
        ),
        ("byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"),
        // As Go writes it, or anywhere a number with the name of a unit.
        (
            "duration",
            r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$|(?i:[0-9]\s*(((ns|us|µs|ms|s|m|h|hr|d|w|wk)([^a-zµ]|$))|nano|micro|milli|sec|min|hour|day|week))",
        ),
        ("time", r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"),
    ];
    patterns.into_iter().filter_map(|(name, pattern)| Some((name, Regex::new(pattern).ok()?))).collect()
});

/// A name without its dashes.
fn plain(name: &str) -> String {
    name.replace('-', "")
}

/// Formats of a definition's schemas that demand nothing, since they are not known for the type they stand at.
#[must_use]
pub fn unrecognized(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in object::list(definition, &["spec", "versions"]) {
        if let Some(schema) = object::at(version, &["schema", "openAPIV3Schema"]) {
            collect(schema, &mut found);
        }
    }
    found
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    let Some(map) = schema.as_object() else { return };
    let name = object::text(schema, &["format"]);
    let seen = found.iter().any(|own| own == name);
    if !name.is_empty() && !seen && Format::named(object::text(schema, &["type"]), name).is_none() {
        found.push(name.to_owned());
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("items" | "not" | "additionalProperties", Value::Object(_)) => collect(value, found),
            ("items" | "allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter().for_each(|schema| collect(schema, found));
            }
            ("properties", Value::Object(properties)) => {
                properties.values().for_each(|schema| collect(schema, found));
            }
            _ => {}
        }
    }
}

impl Format {
    /// The format that a schema of a type names; none if it demands nothing.
    #[must_use]
    pub fn named(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "" | "string" if name == "date-time" => Some(Self("date-time")),
            "" | "string" => KNOWN.into_iter().find(|known| plain(known) == plain(name)).map(Self),
            "integer" => ["int32", "int64"].into_iter().find(|known| *known == name).map(Self),
            "number" => ["float", "double"].into_iter().find(|known| *known == name).map(Self),
            _ => None,
        }
    }

    /// As schemas write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0
    }

    /// Whether `text` has this format.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        match self.0 {
            "password" => true,
            "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
            "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
            "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
            "date" => date(text),
            "date-time" | "datetime" => date_time(text),
            "email" => email(text),
            "hostname" => hostname(text),
            "uri" => uri(text),
            "isbn" => isbn10(text) || isbn13(text),
            "isbn10" => isbn10(text),
            "isbn13" => isbn13(text),
            "creditcard" => luhn(text),
            "k8s-short-name" => names::dns1123_label(text).is_empty(),
            "k8s-long-name" => names::dns1123_subdomain(text).is_empty(),
            name => pattern(name).is_none_or(|pattern| pattern.is_match(text)),
        }
    }
}

fn pattern(name: &str) -> Option<&'static Regex> {
    PATTERNS.iter().find(|(known, _)| *known == name).map(|(_, pattern)| pattern)
}

fn date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// A day, and a time with its zone.
fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (day, time) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(found) = pattern("time").and_then(|pattern| pattern.captures(time)) else { return false };
    let within = |at: usize, limit: &str| found.get(at).is_some_and(|part| part.as_str() <= limit);
    date(day) && within(1, "23") && within(2, "59") && within(3, "59")
}

/// An address, or a name and an address in angle brackets.
fn email(text: &str) -> bool {
    let is = |name: &str, part: &str| pattern(name).is_some_and(|pattern| pattern.is_match(part));
    let text = text.trim();
    match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        Some((name, address)) => is("name of a person", name) && is("address", address),
        None => is("address", text),
    }
}

/// One label, or several that end in letters.
fn hostname(text: &str) -> bool {
    let is = |name: &str, label: &str| pattern(name).is_some_and(|pattern| pattern.is_match(label));
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    match text.rsplit_once('.') {
        None => is("only label", text),
        Some((labels, last)) => is("last label", last) && labels.split('.').all(|label| is("label", label)),
    }
}

/// What can stand in the first line of a request: an absolute path, or a reference with a scheme.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let scheme = text
        .split_once(':')
        .filter(|(scheme, _)| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(in_scheme));
    let rest = scheme.map_or(text, |(_, rest)| rest);
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !path.starts_with('/') {
        return scheme.is_some() || text == "*";
    }
    let Some(authority) = path.strip_prefix("//").filter(|_| scheme.is_some()) else { return well_escaped(path) };
    let (authority, path) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let in_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    let in_host = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port_counts = !host.ends_with(']');
    user.chars().all(in_user)
        && host.chars().all(in_host)
        && (!port_counts || port.bytes().all(|byte| byte.is_ascii_digit()))
        && well_escaped(path)
}

/// Whether two digits follow every percent sign.
fn well_escaped(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .all(|after| after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars()
        .filter(|c| !matches!(c, ' ' | '-'))
        .filter_map(|c| if c == 'X' { Some(10) } else { c.to_digit(10) })
        .collect()
}

fn isbn10(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().zip((1..=10).rev()).map(|(digit, weight)| digit * weight).sum();
    digits.len() == 10 && sum.is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().zip([1, 3].into_iter().cycle()).map(|(digit, weight)| digit * weight).sum();
    digits.len() == 13 && sum.is_multiple_of(10)
}

/// The check sum of numbers of cards.
fn luhn(text: &str) -> bool {
    let digits = digits(text);
    let doubled = |(at, digit): (usize, &u32)| match at % 2 {
        0 => *digit,
        _ if *digit > 4 => digit * 2 - 9,
        _ => digit * 2,
    };
    (13..=19).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_accept_what_they_name() {
        let accepts = |name: &str, text: &str| Format::named("string", name).unwrap().accepts(text);
        for (name, good, bad) in [
            ("date", "2024-02-29", "2023-02-29"),
            ("date-time", "2024-01-01T00:00:00Z", "2024-01-01"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7"),
            ("duration", "1h30m", "soon"),
            ("byte", "YWJj", "a"),
            ("uri", "https://example.com/a", "no uri"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("isbn13", "978-3-16-148410-0", "978-3-16-148410-1"),
            ("duration", "3 days", "3 parsecs"),
            ("duration", "-1.5h", "h1"),
            ("date-time", "2024-01-01t23:59:59.5+01:00", "2024-01-01T24:00:00Z"),
            ("email", "Bob <bob@example.com>", "bob"),
            ("email", "a.b@c", "a..b@c"),
            ("hostname", "a-b", "a_b"),
            ("hostname", "my-long-name.example.org", "a-b-c"),
            ("hostname", "münchen.de", "a.b"),
            ("uri", "/a b", "a"),
            ("uri", "mailto:a", "http://a b"),
            ("uri", "http://u:p@[::1]:80/x?y=%", "/%zz"),
        ] {
            assert!(accepts(name, good), "{name} {good}");
            assert!(!accepts(name, bad), "{name} {bad}");
        }
    }

    #[test]
    fn formats_are_known_for_the_type_they_stand_at() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "integer", "format": "int32"}, "b": {"type": "string", "format": "int32"},
            "c": {"type": "array", "format": "cidr", "items": {"type": "string", "format": "datetime"}},
            "d": {"type": "string", "format": "u-uid"}, "e": {"format": "semver"},
        }});
        let crd = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        assert_eq!(unrecognized(&crd), ["int32", "cidr", "semver"]);
    }
}
