//! Kinds of the group `policy`.

use super::kind::Kind;

pub mod disruption_budget;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(disruption_budget::DisruptionBudgets)]
}
