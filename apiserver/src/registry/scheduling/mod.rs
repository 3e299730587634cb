//! Kinds of `scheduling.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod group_rules;
pub mod pod_group;
pub mod priority_class;
pub mod workload;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(priority_class::PriorityClasses),
        Kind::unstable(pod_group::PodGroups, Lifecycle::Alpha(None)),
        Kind::unstable(workload::Workloads, Lifecycle::Alpha(None)),
    ]
}
