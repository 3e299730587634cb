//! Kinds of the group `internal.apiserver.k8s.io`: what API servers tell each other.

use super::kind::{Kind, Lifecycle};

pub mod storage_version;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::unstable(storage_version::StorageVersions, Lifecycle::Alpha(None))]
}
