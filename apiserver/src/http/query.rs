//! The query of a request: decoded once, asked by name.

/// Decoded pairs of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    raw: String,
}

/// Most pairs a query may have; more is a mistake or an attack.
const MAX_PAIRS: usize = 256;

impl Query {
    /// Decodes `raw` (without the question mark). Broken escapes are kept as they are.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|part| !part.is_empty())
            .take(MAX_PAIRS)
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                (decode(name, true), decode(value, true))
            })
            .collect();
        Self { pairs, raw: raw.to_owned() }
    }

    /// As it was sent.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The first value of `name`; empty when there is none, as in Kubernetes.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether `name` is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A flag as upstream reads it: absent is none; an empty value, or anything but `false` and `0`, is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.has(name).then(|| self.get(name) != "0" && !self.get(name).eq_ignore_ascii_case("false"))
    }

    /// Names of all pairs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(key, _)| key.as_str())
    }
}

/// Percent-decodes `text`; in a query (`plus`) a plus is a blank.
#[must_use]
pub fn decode(text: &str, plus: bool) -> String {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                match (ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                    (Some(high), Some(low)) => {
                        out.push(high << 4 | low);
                        bytes = ahead;
                    }
                    _ => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        let query = Query::parse("labelSelector=a%3D1%2Cb&x=+y&watch&z=%zz");
        assert_eq!(query.get("labelSelector"), "a=1,b");
        assert_eq!(query.get("x"), " y");
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.get("z"), "%zz");
        assert_eq!(query.get("missing"), "");
    }
}
