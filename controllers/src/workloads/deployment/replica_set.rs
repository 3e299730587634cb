//! The ReplicaSet of one version of a Deployment's template: its name, labels and annotations.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::ResourceExt;

use crate::workloads::{
    POD_TEMPLATE_HASH, controller_reference, hash,
    rollout::{Bounds, DESIRED_REPLICAS, MAX_REPLICAS, REVISION},
};

/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// A short name for `template`; `collisions` makes another one where that name was taken.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    hash::short(&serde_json::to_vec(template).unwrap_or_default(), collisions)
}

/// Whether `set` was made from the present template of `deployment`.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| without_hash(spec.template.clone()));
    let present = set.spec.as_ref().and_then(|spec| spec.template.clone()).map(without_hash);
    wanted.is_some() && wanted == present
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let labels = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut());
    if let Some(labels) = labels {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// The newest of `sets` that was made from the present template; the oldest where there are several, as upstream.
pub(super) fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    sets.iter()
        .filter(|set| same_template(deployment, set))
        .min_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name_any()))
        .cloned()
}

/// The number of the rollout that last used `set`.
pub(super) fn revision_number(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Annotations that `set` should have: the Deployment's own, and the three by which a rollout keeps its count.
pub(super) fn annotations(deployment: &Deployment, bounds: Bounds, revision: i64) -> BTreeMap<String, String> {
    let own = deployment.annotations().iter().filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()));
    let mut all: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.insert(REVISION.to_owned(), revision.to_string());
    all.insert(DESIRED_REPLICAS.to_owned(), bounds.replicas.to_string());
    all.insert(MAX_REPLICAS.to_owned(), bounds.most().to_string());
    all
}

/// A new ReplicaSet for the present template.
pub(super) fn make(deployment: &Deployment, bounds: Bounds, replicas: i32, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template;
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = metadata.labels.clone();
    let mut match_labels = spec.selector.match_labels.unwrap_or_default();
    match_labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels,
            annotations: Some(annotations(deployment, bounds, revision)),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector {
                match_labels: Some(match_labels),
                match_expressions: spec.selector.match_expressions,
            },
            template: Some(template),
        }),
        status: None,
    }
}
