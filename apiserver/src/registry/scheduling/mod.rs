//! Kinds of `scheduling.k8s.io`.

use super::kind::Kind;

pub mod priority_class;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(priority_class::PriorityClasses)]
}
