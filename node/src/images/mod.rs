//! What the agent asks of the image side: an image made ready, and a verdict on its exact bytes.

mod scanner;

use std::time::Duration;

use futures::future::BoxFuture;
use martello_scanner::{LayerRef, credentials::Origin};

pub use self::scanner::Scanned;

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// The reference is resolved anew at each start.
    Always,
    /// What is on the node is used.
    IfNotPresent,
    /// Only what is on the node is used.
    Never,
}

impl PullPolicy {
    /// The policy of a container, with upstream's default: `Always` for `:latest` or no tag.
    #[must_use]
    pub fn of(policy: Option<&str>, image: &str) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ => {
                let last = image.rsplit('/').next().unwrap_or(image);
                let floats = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
                if floats { Self::Always } else { Self::IfNotPresent }
            }
        }
    }
}

/// An image to be made ready.
#[derive(Clone, Debug)]
pub struct Request {
    /// As in the container's spec.
    pub reference: String,
    /// When it's fetched.
    pub policy: PullPolicy,
    /// The pod's pull secrets.
    pub credentials: Vec<Credentials>,
}

/// One pull secret.
#[derive(Clone)]
pub struct Credentials {
    /// Which one.
    pub origin: Origin,
    /// Its content.
    pub content: Vec<u8>,
    /// Whether the content is of the older form (`kubernetes.io/dockercfg`).
    pub is_old: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials {{ {}/{}, [redacted] }}", self.origin.namespace, self.origin.name)
    }
}

/// An image on this node.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Digest of the platform's manifest, `sha256:…`.
    pub digest: String,
    /// What `imageID` shows: repository and digest.
    pub id: String,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// What the image says about how it runs.
    pub config: RunConfig,
    /// How it was fetched; nothing if it was on the node.
    pub pulled: Option<Pulled>,
}

/// What an image says about how it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub command: Vec<String>,
    /// `Env`.
    pub env: Vec<(String, String)>,
    /// `WorkingDir`.
    pub directory: String,
    /// `User`.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
}

/// How an image was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// How long it took.
    pub took: Duration,
    /// How large it is.
    pub bytes: u64,
}

/// Why an image isn't ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference isn't one.
    #[error("couldn't parse image name {reference:?}: {why}")]
    Invalid {
        /// As in the spec.
        reference: String,
        /// Why.
        why: String,
    },
    /// It may not be fetched and isn't there, or isn't there for this pod.
    #[error("Container image {reference:?} is not present with pull policy of Never")]
    Never {
        /// As in the spec.
        reference: String,
    },
    /// It couldn't be fetched.
    #[error("{0}")]
    Pull(String),
    /// It was fetched and refused: its bytes are hostile, or can't be inventoried.
    #[error("{0}")]
    Refused(String),
}

impl ImageError {
    /// The reason as a container's state shows it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidImageName",
            Self::Never { .. } => "ErrImageNeverPull",
            Self::Pull(_) => "ErrImagePull",
            Self::Refused(_) => NOT_INVENTORIED,
        }
    }
}

/// The reason of a container that doesn't start because nobody vouches for its image's bytes.
pub const NOT_INVENTORIED: &str = "ImageNotInventoried";

/// What the agent needs of the image side.
pub trait Images: Send + Sync {
    /// Whether [`Images::ensure`] would have to ask a registry.
    fn will_pull<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, bool>;
    /// Fetches, verifies and inventories an image, or finds all that done.
    fn ensure(&self, request: Request) -> BoxFuture<'_, Result<Ready, ImageError>>;
    /// Asked before every start: whether these exact bytes were inventoried and judged; otherwise why not.
    fn verdict<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<(), String>>;
    /// The `ImageInventory` object of an image, to be published.
    fn inventory<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Option<serde_json::Value>>;
    /// The images on this node: names and size, for the node's status.
    fn list(&self) -> BoxFuture<'_, Vec<(Vec<String>, u64)>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_floats_is_resolved_anew() {
        assert_eq!(PullPolicy::of(None, "web"), PullPolicy::Always);
        assert_eq!(PullPolicy::of(None, "host:5000/web"), PullPolicy::Always);
        assert_eq!(PullPolicy::of(None, "web:latest"), PullPolicy::Always);
        assert_eq!(PullPolicy::of(None, "web:1.2"), PullPolicy::IfNotPresent);
        assert_eq!(PullPolicy::of(None, "web@sha256:00"), PullPolicy::IfNotPresent);
        assert_eq!(PullPolicy::of(Some("Never"), "web"), PullPolicy::Never);
    }
}
