//! Kinds of the group `apps`.

use super::kind::Kind;

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod share;
pub mod stateful_set;
pub mod workload;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(controller_revision::ControllerRevisions),
        Kind::new(daemon_set::DaemonSets),
        Kind::new(deployment::Deployments),
        Kind::new(replica_set::ReplicaSets),
        Kind::new(stateful_set::StatefulSets),
    ]
}
