//! A place inside an image: validated bytes, relative to its root.

use super::LayerError;

/// Longest path: Linux's `PATH_MAX` with its final NUL.
const MAX_PATH: usize = 4095;
/// Longest component: Linux's `NAME_MAX`.
const MAX_COMPONENT: usize = 255;
/// Deepest path. Honest images stay under 40; deeper ones only cost the kernel's and our time.
const MAX_DEPTH: usize = 256;

/// A path relative to the image's root, without `.`, `..`, empty components and NUL; empty for the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// The image's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes a name as it stands in a tar header.
    ///
    /// # Errors
    /// On an absolute name, on `..`, NUL, and on what Linux could not hold.
    pub fn parse(name: &[u8]) -> Result<Self, LayerError> {
        let refuse = |why: &str| LayerError::refused(name, why);
        if name.starts_with(b"/") {
            return Err(refuse("absolute name; build the layer with names relative to its root"));
        }
        if name.contains(&0) {
            return Err(refuse("the name holds a NUL byte"));
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for component in name.split(|b| *b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("the name climbs by '..'")),
                long if long.len() > MAX_COMPONENT => return Err(refuse("a name is longer than 255 bytes")),
                component => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                    depth += 1;
                }
            }
        }
        if path.len() > MAX_PATH {
            return Err(refuse("the path is longer than 4095 bytes"));
        }
        if depth > MAX_DEPTH {
            return Err(refuse("the path is deeper than 256 directories"));
        }
        Ok(Self(path))
    }

    /// Is this the image's root?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path's bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parent and the last component; `None` for the root.
    pub fn split_last(&self) -> Option<(LayerPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => Some((Self(self.0.get(..at)?.to_vec()), self.0.get(at + 1..)?)),
            None => Some((Self::root(), &self.0)),
        }
    }

    /// The components from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// This path with one more component, which the caller has checked.
    pub(super) fn join(&self, component: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + component.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
        Self(path)
    }

    /// The bounds between which exactly the paths below this one sort (`/` is followed by `0`).
    pub(super) fn below(&self) -> (LayerPath, Option<LayerPath>) {
        if self.is_root() {
            return (Self(vec![1]), None);
        }
        let with = |last: u8| {
            let mut path = self.0.clone();
            path.push(last);
            Self(path)
        };
        (with(b'/'), Some(with(b'/' + 1)))
    }
}

impl std::fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"/{}\"", self.0.escape_ascii())
    }
}
