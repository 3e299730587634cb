//! Kinds of the group `storagemigration.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod migration;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::unstable(migration::Migrations, Lifecycle::Beta(35))]
}
