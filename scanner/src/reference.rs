//! Image references as users of Kubernetes write them, normalized to one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError};

/// The registry meant by a reference that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The namespace of that registry's official images.
const OFFICIAL: &str = "library";
/// The tag meant by a reference without tag and digest.
const DEFAULT_TAG: &str = "latest";
/// Longest repository with its registry: the distribution spec asks clients to hold to 255.
const MAX_NAME: usize = 255;
/// Longest tag: the distribution spec's grammar allows 128.
const MAX_TAG: usize = 128;

/// A parsed reference: registry, repository, and a tag or a digest or both (the digest decides).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// There is nothing.
    #[error("the image reference is empty")]
    Empty,
    /// Registry and repository are too long together.
    #[error("the image name is {0} bytes long; at most {MAX_NAME} are allowed")]
    TooLong(usize),
    /// The registry is no host name or address with an optional port.
    #[error("{0:?} is no registry host (with an optional port)")]
    Registry(String),
    /// A part of the repository breaks the grammar.
    #[error("repository {0:?} must be lower-case letters and digits, parted by '/', '.', '_', '__' or '-'")]
    Repository(String),
    /// The tag breaks the grammar.
    #[error("tag {0:?} must be at most {MAX_TAG} letters, digits, '_', '.' or '-', and not start with '.' or '-'")]
    Tag(String),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// The registry's host with its port, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, such as `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the reference has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at `digest`, as Kubernetes shows it in a container's `imageID`.
    pub fn at(&self, digest: Digest) -> Self {
        Self { registry: self.registry.clone(), repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// Does a container without `imagePullPolicy` pull this image every time? (Tag `latest`, no digest.)
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon after the last slash parts the tag; one before it belongs to the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
            _ => (name, None),
        };
        if name.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (registry, repository) = split_registry(name);
        if !valid_registry(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        if !repository.split('/').all(valid_component) {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) if !valid_tag(tag) => {
                return Err(ReferenceError::Tag(tag.chars().take(MAX_TAG + 1).collect()));
            }
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let repository = if official { format!("{OFFICIAL}/{repository}") } else { repository.to_owned() };
        // As it will be written: what is only accepted without its registry could not be read back.
        let length = registry.len() + 1 + repository.len();
        if length > MAX_NAME {
            return Err(ReferenceError::TooLong(length));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// Parts the registry from the repository: the first component is a registry when it can't be anything
/// else, that is, when it has a dot or a colon, is `localhost`, or has capitals.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            let first = if first == "index.docker.io" { DEFAULT_REGISTRY } else { first };
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn valid_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if rest.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let port_ok = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0));
    port_ok
        && !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// One component of a repository: runs of lower-case letters and digits with single separators between
/// them, where a separator is `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| alnum(*first) && alnum(*last));
    ends && bytes.iter().all(|b| alnum(*b) || matches!(b, b'.' | b'_' | b'-'))
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn valid_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_what_docker_users_expect() {
        let at = format!("localhost:5000/x@sha256:{HEX}");
        for (written, canonical) in [
            ("myapp:1.2.0", "docker.io/library/myapp:1.2.0"),
            ("busybox", "docker.io/library/busybox:latest"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/app:1", "docker.io/library/app:1"),
            ("index.docker.io/library/app:1", "docker.io/library/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("registry.example.com/team/a__b.c-d---e:V_1", "registry.example.com/team/a__b.c-d---e:V_1"),
            (at.as_str(), at.as_str()),
        ] {
            assert_eq!(written.parse::<Reference>().unwrap().to_string(), canonical, "{written}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "@",
            "app:",
            "app@",
            "UPPER/app:1/",
            "App",
            "a//b",
            "/a",
            "a/",
            "a:b:c/d",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a b",
            "a:.t",
            "a:-t",
            "x.y:99999/a",
            "x.y:/a",
            "-x.y/a",
            "..:1",
            "../a",
            "a/../b",
            "[zz]:1/a",
            "a@sha256:00",
            "a@sha512:00",
            "é",
            "a:é",
            long.as_str(),
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_latest_without_digest_is_latest() {
        assert!("a".parse::<Reference>().unwrap().is_latest());
        assert!(!"a:1".parse::<Reference>().unwrap().is_latest());
        assert!(!format!("a:latest@sha256:{HEX}").parse::<Reference>().unwrap().is_latest());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            drop(text.parse::<Reference>());
        }

        #[test]
        fn the_canonical_form_parses_to_itself(text in "[a-z0-9.:/@_A-Z-]{1,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
