//! `os-release`: which distribution an image says it is (os-release(5)).

/// The fields that identify a distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`.
    pub version_id: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: Option<String>,
}

impl OsRelease {
    /// Reads the fields; `None` if there is no proper `ID`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let field = |key: &str| {
            text.lines().find_map(|line| {
                let value = line.trim().strip_prefix(key)?.strip_prefix('=')?;
                Some(unquote(value)).filter(|v| !v.is_empty())
            })
        };
        let plain = |v: &String| v.len() <= 64 && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        Some(Self {
            id: field("ID").filter(plain)?,
            version_id: field("VERSION_ID").filter(plain),
            pretty_name: field("PRETTY_NAME").map(|v| v.chars().filter(|c| !c.is_control()).take(100).collect()),
        })
    }
}

/// Takes shell quoting away, as far as os-release(5) allows it.
fn unquote(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_plain_values_are_read() {
        let os =
            OsRelease::parse(b"NAME=x\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian \\\"12\\\"\"\n").unwrap();
        assert_eq!((os.id.as_str(), os.version_id.as_deref()), ("debian", Some("12")));
        assert_eq!(os.pretty_name.as_deref(), Some("Debian \"12\""));
        assert_eq!(OsRelease::parse(b"ID=../../x\n"), None);
        assert_eq!(OsRelease::parse(b"\xff\xfe"), None);
    }
}
