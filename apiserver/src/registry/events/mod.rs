//! Events: kept once, seen in two groups.

use super::kind::Kind;

pub mod core;
pub mod lifetime;
pub mod new;
pub mod rules;

/// All of the group `events.k8s.io`; the core group lists its own.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(new::Events)]
}
