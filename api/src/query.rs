//! The query of a request: decoded once, asked by name.

/// Decoded pairs of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    raw: String,
}

impl Query {
    /// Decodes all of `raw` (without the question mark). Broken escapes are kept as they are. Nothing is left out, so that
    /// who judges a request and who carries it out see the same; whoever reads requests bounds their length.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|part| !part.is_empty())
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

    /// Whether the flag `name` is set.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.flag(name) == Some(true)
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

/// Percent-encodes `text` as a name or value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
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

    #[test]
    fn no_pair_is_too_far_back_to_be_seen() {
        let query = Query::parse(&format!("{}command=sh&command=-c", "x&".repeat(8_000)));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c"]);
    }

    #[test]
    fn a_flag_is_set_unless_it_is_denied() {
        let query = Query::parse("a&b=&c=True&d=yes&e=0&f=False&c=false");
        let set: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|name| query.is_set(name)).collect();
        assert_eq!(set, ["a", "b", "c", "d"]);
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_it_panic(text in ".{0,200}") {
            proptest::prop_assert!(Query::parse(&text).pairs.len() <= text.len() + 1);
            proptest::prop_assert_eq!(decode(&encode(&text), true), text);
        }
    }
}
