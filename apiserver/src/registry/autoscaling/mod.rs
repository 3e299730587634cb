//! Kinds of the group `autoscaling`: one kind, kept as version 2 and seen in two versions.

use super::kind::Kind;

pub mod convert;
pub mod metrics;
pub mod rules;
pub mod shown;
pub mod v1;
pub mod v2;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(v1::Autoscalers), Kind::new(v2::Autoscalers)]
}
