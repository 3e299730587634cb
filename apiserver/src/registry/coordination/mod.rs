//! Kinds of the group `coordination.k8s.io`.

use super::kind::Kind;

pub mod lease;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(lease::Leases)]
}
