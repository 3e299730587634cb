//! Kinds of the group `apps`.

use super::kind::Kind;

pub mod deployment;
pub mod replica_set;
pub mod workload;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(deployment::Deployments), Kind::new(replica_set::ReplicaSets)]
}
