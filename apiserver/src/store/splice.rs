//! Finding the place in an encoded object where its revision goes, without decoding it.

use std::ops::Range;

/// Where `metadata.resourceVersion` of the JSON object `json` has its value, quotes excluded, or where it would
/// have to be inserted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The value is here.
    Value(Range<usize>),
    /// There is none; a member can be inserted here, as the first of `metadata`, which is empty or not.
    Member { at: usize, empty: bool },
}

/// `None` when `json` isn't an object with an object `metadata`.
pub(super) fn find(json: &[u8]) -> Option<Place> {
    let mut scan = Scan { json, at: 0 };
    scan.enter(b'{')?;
    if !scan.seek_member(b"metadata")? {
        return None;
    }
    scan.enter(b'{')?;
    scan.space();
    let (at, empty) = (scan.at, scan.peek() == Some(b'}'));
    if !scan.seek_member(b"resourceVersion")? {
        return Some(Place::Member { at, empty });
    }
    scan.string().map(Place::Value)
}

/// Where the value of `metadata` of the JSON object `json` is.
pub(super) fn metadata(json: &[u8]) -> Option<Range<usize>> {
    let mut scan = Scan { json, at: 0 };
    scan.enter(b'{')?;
    if !scan.seek_member(b"metadata")? {
        return None;
    }
    let start = scan.at;
    scan.skip_value()?;
    Some(start..scan.at)
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn enter(&mut self, expected: u8) -> Option<()> {
        self.space();
        (self.peek()? == expected).then(|| self.at += 1)
    }

    /// From inside an object: goes to the value of the member `name`; false at the object's end.
    fn seek_member(&mut self, name: &[u8]) -> Option<bool> {
        loop {
            self.space();
            match self.peek()? {
                b'}' => return Some(false),
                b',' => self.at += 1,
                _ => {
                    let key = self.string()?;
                    self.enter(b':')?;
                    self.space();
                    if self.json.get(key)? == name {
                        return Some(true);
                    }
                    self.skip_value()?;
                }
            }
        }
    }

    /// Passes a string; answers where its content is.
    fn string(&mut self) -> Option<Range<usize>> {
        self.enter(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(start..self.at - 1)
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth == 0 => return Some(()),
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' if depth == 0 => return Some(()),
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Option<&str> {
        match find(json.as_bytes())? {
            Place::Value(range) => json.get(range),
            Place::Member { .. } => None,
        }
    }

    #[test]
    fn the_revision_is_found_in_the_object_s_own_metadata_only() {
        let json = r#"{"a":{"resourceVersion":"1"},"b":["]",{"x":"}\""}],"metadata":{"annotations":{"resourceVersion":"2"},"name":"n","resourceVersion":"3"},"z":1}"#;
        assert_eq!(value(json), Some("3"));
        assert_eq!(value(r#"{ "metadata" : { "resourceVersion" : "" } }"#), Some(""));
    }

    #[test]
    fn a_quoted_object_in_a_string_is_not_entered() {
        let json = r#"{"a":"\\\"metadata\":{\"resourceVersion\":\"1\"}","metadata":{"resourceVersion":"9"}}"#;
        assert_eq!(value(json), Some("9"));
    }

    #[test]
    fn a_missing_revision_has_a_place() {
        assert_eq!(find(br#"{"metadata":{}}"#), Some(Place::Member { at: 13, empty: true }));
        assert_eq!(find(br#"{"metadata":{"name":"x"}}"#), Some(Place::Member { at: 13, empty: false }));
    }

    #[test]
    fn metadata_is_cut_out_whole() {
        let cut = |json: &'static str| metadata(json.as_bytes()).and_then(|range| json.get(range));
        let json = r#"{"kind":"A","metadata":{"name":"}","labels":{"a":"b"}},"spec":{"metadata":{}}}"#;
        assert_eq!(cut(json), Some(r#"{"name":"}","labels":{"a":"b"}}"#));
        assert_eq!(cut(r#"{"spec":{"metadata":{}}}"#), None);
        assert_eq!(cut(r#"{"metadata":{"name":"x""#), None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in
            ["", "[]", "{}", "null", r#"{"metadata":1}"#, r#"{"metadata":{"resourceVersion":7}}"#, r#"{"metadata""#]
        {
            assert_eq!(find(json.as_bytes()), None, "{json}");
        }
    }
}
