//! What rules a node out for a pod; each filter gives its reasons in upstream's words.

mod fit;
mod node_affinity;
mod pod_affinity;
mod ports;
mod spread;
mod taints;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use martello_api::taints::tolerates;

pub(crate) use pod_affinity::Term;

use crate::{
    resources::{self, Resources},
    snapshot::{NodeInfo, Snapshot},
};

/// A pod that is to be placed, with what is worked out once for all nodes.
pub struct Request<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its spec.
    pub spec: PodSpec,
    /// What it asks for.
    pub resources: Resources,
    pub(crate) affinity: pod_affinity::Prepared,
    pub(crate) spread: Vec<spread::Prepared>,
}

impl<'a> Request<'a> {
    /// Prepares `pod` against `snapshot`.
    #[must_use]
    pub fn new(pod: &'a Pod, snapshot: &Snapshot) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let mut request = Self {
            pod,
            resources: resources::of_pod(pod),
            affinity: pod_affinity::Prepared::new(pod, &spec, snapshot),
            spread: Vec::new(),
            spec,
        };
        request.spread = spread::prepare(&request, snapshot);
        request
    }
}

/// All reasons why `node` will not do; none if it will.
#[must_use]
pub fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let filters: [fn(&Request<'_>, &NodeInfo) -> Vec<String>; 7] = [
        unschedulable,
        taints::check,
        node_affinity::check,
        ports::check,
        fit::check,
        spread::check,
        pod_affinity::check,
    ];
    // As upstream, the first filter that fails speaks for the node.
    filters.iter().map(|filter| filter(request, node)).find(|reasons| !reasons.is_empty()).unwrap_or_default()
}

/// Whether `node` will not do, whoever leaves it: then nobody needs to end for the pod.
#[must_use]
pub fn is_final(request: &Request<'_>, node: &NodeInfo) -> bool {
    let lasting: [fn(&Request<'_>, &NodeInfo) -> Vec<String>; 3] = [unschedulable, taints::check, node_affinity::check];
    if lasting.iter().any(|filter| !filter(request, node).is_empty()) {
        return true;
    }
    if !ports::check(request, node).is_empty() {
        return false;
    }
    if !fit::check(request, node).is_empty() {
        return fit::exceeds(request, node);
    }
    check(request, node)
        .iter()
        .any(|reason| [spread::LABEL_MISSING, pod_affinity::UNMATCHED].contains(&reason.as_str()))
}

fn unschedulable(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let tolerated = request.spec.tolerations.iter().flatten().any(|toleration| {
        let taint = k8s_openapi::api::core::v1::Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        tolerates(toleration, &taint)
    });
    if cordoned && !tolerated { vec!["node(s) were unschedulable".to_owned()] } else { Vec::new() }
}

/// The labels of an object, be there any or not.
pub(crate) fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}
