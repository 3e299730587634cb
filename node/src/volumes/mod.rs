//! A pod's volumes: what each holds (pure), how it's put in place at once, and where containers see it.

pub mod atomic;
pub mod mounts;
pub mod payload;
pub mod place;

use super::pods::{downward::DownwardError, env::EnvError};

/// Why a volume can't be set up; where upstream has a text for it, it's upstream's.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A referenced object or key is missing.
    #[error(transparent)]
    Reference(#[from] EnvError),
    /// A field can't be shown.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// A key that the volume names isn't in the object.
    #[error("references non-existent {kind} key: {key}")]
    NoKey {
        /// `config` or `secret`.
        kind: &'static str,
        /// The missing key.
        key: String,
    },
    /// A path leads out of the volume.
    #[error("path {path:?} must be relative and must not contain \"..\"")]
    Path {
        /// The path.
        path: String,
    },
    /// A part of a volume is named by an absolute path.
    #[error("error SubPath `{path}` must not be an absolute path")]
    AbsoluteSubPath {
        /// The path.
        path: String,
    },
    /// The path to a part of a volume leads upwards.
    #[error("unable to provision SubPath `{path}`: must not contain '..'")]
    BackSteps {
        /// The path.
        path: String,
    },
    /// The path to a part of a volume names variables that are empty or missing.
    #[error("missing value for {names}")]
    NoVariable {
        /// Their names.
        names: String,
    },
    /// Two sources of a projected volume write one path.
    #[error("conflicting duplicate paths: {path:?} is written by two sources of the projected volume")]
    Conflict {
        /// The path.
        path: String,
    },
    /// This node has no such volumes.
    #[error(
        "volumes of kind {kind} are not supported on this node; use emptyDir, configMap, secret, projected or downwardAPI"
    )]
    Unsupported {
        /// The field of the spec.
        kind: &'static str,
    },
    /// The volume holds more than a volume may.
    #[error("the volume would hold {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// What it would hold.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A container mounts what the pod doesn't have.
    #[error("volume {name:?} is mounted by container {container:?} but the pod has no such volume")]
    NoVolume {
        /// Name of the volume.
        name: String,
        /// The container.
        container: String,
    },
    /// A service-account token was refused.
    #[error("failed to fetch token for service account {account:?}: {why}")]
    Token {
        /// The account.
        account: String,
        /// What the API server said.
        why: String,
    },
    /// Input or output failed.
    #[error("{attempt}")]
    Io {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The runtime refused.
    #[error("give a volume's files to the pod's users")]
    Runtime(#[from] crate::runtime::RuntimeError),
}

impl VolumeError {
    /// An operation on `path` that failed.
    pub(crate) fn io(attempt: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { attempt: format!("{attempt} {}", path.display()), source }
    }

    /// The text with that of its causes: what an event shows.
    #[must_use]
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
