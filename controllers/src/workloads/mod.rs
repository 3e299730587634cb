//! Controllers of workloads: what keeps the asked-for pods there.

pub mod autoscaler;
pub mod claim;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod hash;
pub mod history;
pub mod job;
pub mod pod_control;
pub mod pods;
pub mod replicaset;
pub mod replication_controller;
pub mod rollout;
mod stale_disruption;
pub mod stateful_set;

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::{Resource, core::Selector};

pub use crate::runtime::controller_of;

/// The label by which a ReplicaSet and its pods carry the hash of their template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A selector that can be asked; one that does not parse selects nothing.
#[must_use]
pub fn selector(selector: &LabelSelector) -> Option<Selector> {
    let empty = selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty { None } else { Selector::try_from(selector.clone()).ok() }
}

/// The reference of a controlling owner that blocks its owner's foreground deletion.
#[must_use]
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of a pod that is made from `template` for an owner.
fn pod_metadata(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> ObjectMeta {
    let from = template.metadata.clone().unwrap_or_default();
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        generate_name: Some(format!("{}-", owner.name)),
        labels: from.labels,
        annotations: from.annotations,
        finalizers: from.finalizers,
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}
