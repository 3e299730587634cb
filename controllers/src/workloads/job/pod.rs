//! The pods of a Job.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use kube::ResourceExt;

use crate::workloads::pod_control::Owner;

/// What holds an ended pod until it was counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The label and annotation of a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation that counts the pods of the same index that failed before.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A pod to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its index, in indexed Jobs.
    pub index: Option<i32>,
    /// How many pods of this index failed before; none where nobody counts by index.
    pub failures: Option<i32>,
}

/// The index of a pod.
#[must_use]
pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// How many pods of its index failed before a pod.
#[must_use]
pub(super) fn failures(pod: &Pod) -> i32 {
    pod.annotations().get(FAILURES).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Whether a pod is held until it was counted.
#[must_use]
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The pod that is wanted.
#[must_use]
pub(super) fn make(job: &Job, owner: &Owner, wanted: Wanted) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = owner.pod(&template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = wanted.index else { return pod };
    let name = format!("{}-{index}", job.name_any());
    pod.metadata.generate_name = Some(format!("{name}-"));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = wanted.failures {
        annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name);
        spec.containers.iter_mut().for_each(tell_index);
        spec.init_containers.iter_mut().flatten().for_each(tell_index);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    env.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value: None, value_from: Some(from) });
}
