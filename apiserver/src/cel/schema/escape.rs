//! Names of fields as expressions write them.

use crate::cel::words::is_no_name;

const ESCAPES: [(&str, &str); 4] = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name of a field as expressions write it; none where they can't.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if is_no_name(name) {
        return Some(format!("__{name}__"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fine) {
        return None;
    }
    let mut escaped = name.to_owned();
    for (plain, written) in ESCAPES {
        escaped = escaped.replace(plain, written);
    }
    Some(escaped)
}

/// The name that was escaped.
pub(super) fn unescape(name: &str) -> String {
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = inner.filter(|word| is_no_name(word)) {
        return word.to_owned();
    }
    let mut plain = name.to_owned();
    for (sign, written) in ESCAPES.into_iter().rev() {
        plain = plain.replace(written, sign);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_back() {
        for (name, escaped) in [
            ("namespace", Some("__namespace__")),
            ("a-b.c/d", Some("a__dash__b__dot__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("plain", Some("plain")),
            ("1a", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
            if let Some(escaped) = escaped {
                assert_eq!(unescape(escaped), name);
            }
        }
    }
}
