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
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Annotation with the numbers of earlier rollouts of a set.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// As upstream.
const LONGEST_HISTORY: usize = 2000;

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

fn copied(deployment: &Deployment) -> BTreeMap<String, String> {
    let own = deployment.annotations().iter().filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The annotations that tell from what a set's replicas were counted.
pub(super) fn counted(bounds: Bounds) -> [(String, String); 2] {
    [(DESIRED_REPLICAS.to_owned(), bounds.replicas.to_string()), (MAX_REPLICAS.to_owned(), bounds.most().to_string())]
}

/// Annotations of the present template's set: the Deployment's own, the number of its rollout and, where it was rolled
/// out before, the numbers that it had.
pub(super) fn taken_over(deployment: &Deployment, set: &ReplicaSet, revision: i64) -> BTreeMap<String, String> {
    let mut all = copied(deployment);
    all.insert(REVISION.to_owned(), revision.to_string());
    if let Some(before) = set.annotations().get(REVISION)
        && revision_number(set) < revision
    {
        let history = set.annotations().get(HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = remembered(history, before) {
            all.insert(HISTORY.to_owned(), history);
        }
    }
    all
}

/// `history` with one more number; the oldest are forgotten where it gets too long. None where even that is too long.
fn remembered(history: &str, number: &str) -> Option<String> {
    let mut numbers: Vec<&str> = history.split(',').filter(|one| !one.is_empty()).collect();
    if numbers.is_empty() {
        return Some(number.to_owned());
    }
    let length = |numbers: &[&str]| numbers.iter().map(|one| one.len() + 1).sum::<usize>() + number.len();
    while !numbers.is_empty() && length(&numbers) > LONGEST_HISTORY {
        numbers.remove(0);
    }
    numbers.push(number);
    Some(numbers.join(",")).filter(|all| all.len() <= LONGEST_HISTORY)
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
    let mut annotations = copied(deployment);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.extend(counted(bounds));
    let mut match_labels = spec.selector.match_labels.unwrap_or_default();
    match_labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels,
            annotations: Some(annotations),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_rollouts_are_forgotten() {
        assert_eq!(remembered("", "1").as_deref(), Some("1"));
        assert_eq!(remembered("1", "3").as_deref(), Some("1,3"));
        let long = vec!["1234567"; 250].join(",");
        assert_eq!(long.len(), 1999);
        let next = remembered(&long, "7654321").unwrap();
        assert!(next.len() == 1999 && next.ends_with(",7654321"));
    }
}
