//! Kinds of the group `coordination.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod lease;
pub mod lease_candidate;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(lease::Leases),
        Kind::unstable(lease_candidate::LeaseCandidates, Lifecycle::Beta(33)),
        Kind::in_version(lease_candidate::LeaseCandidates, "v1alpha2", Lifecycle::Alpha(Some(35))),
    ]
}
