//! Pax extended headers (POSIX.1-2017, pax interchange format), read by their declared lengths.

use super::LayerError;

/// What a pax header says about the entry that follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extended attributes live under this key in Go's and GNU's archives.
const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Parses the records `LENGTH KEY=VALUE\n`.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, LayerError> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or_else(|| bad("a record breaks its declared length"))?;
            data = rest;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(|| bad("a record has no '='"))?;
            let (key, value) = record.split_at(equals);
            pax.set(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        match key {
            b"path" => once(&mut self.path, value.to_vec())?,
            b"linkpath" => once(&mut self.linkpath, value.to_vec())?,
            b"size" => once(&mut self.size, number(value)?)?,
            b"uid" => once(&mut self.uid, number(value)?)?,
            b"gid" => once(&mut self.gid, number(value)?)?,
            b"mtime" => once(&mut self.mtime, seconds(value)?)?,
            key if key.starts_with(b"GNU.sparse.") => return Err(bad("sparse files are not accepted")),
            key if key.starts_with(XATTR) => {
                let name = key.get(XATTR.len()..).unwrap_or_default();
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            // Times of access, names of users, comments and vendors' keys change nothing that is unpacked.
            _ => {}
        }
        Ok(())
    }
}

/// The first record's `KEY=VALUE`, and what follows its newline.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let digits = data.get(..space)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, data.get(length..)?))
}

/// A key that stands twice has two readings: refused.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), LayerError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad("a key stands twice")),
    }
}

fn number(value: &[u8]) -> Result<u64, LayerError> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|t| t.parse().ok()).ok_or_else(|| bad("a number is malformed"))
}

/// Whole seconds of a time such as `1700000000.25` or `-1.5`.
fn seconds(value: &[u8]) -> Result<i64, LayerError> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|t| t.split('.').next()).and_then(|t| t.parse().ok()).ok_or_else(|| bad("a time is malformed"))
}

fn bad(why: &str) -> LayerError {
    LayerError::refused(b"pax header", why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_may_hold_newlines_without_making_records() {
        let pax = Pax::parse(b"27 SCHILY.xattr.user.a=x\ny\n14 size=12345\n").unwrap();
        assert_eq!(pax.xattrs, vec![(b"user.a".to_vec(), b"x\ny".to_vec())]);
        assert_eq!(pax.size, Some(12345));
    }

    #[test]
    fn lying_lengths_and_doubled_keys_are_refused() {
        for bad in [
            &b"99 path=a\n"[..],
            b"9 path=a\n9 path=b\n ",
            b"10 path=a\n10 path=b\n",
            b"x path=a\n",
            b" path=a\n",
            b"8 path=a\n",
            b"18 GNU.sparse.a=b\n",
            b"11 size=-1\n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Pax::parse(&data));
        }
    }
}
