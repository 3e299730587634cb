//! Whether the node keeps the pod's topology spread constraints (`whenUnsatisfiable: DoNotSchedule`).

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

use super::{Request, labels, node_affinity, taints};
use crate::snapshot::{NodeInfo, Snapshot};

/// Said of a node that would not do whoever left it.
pub(super) const LABEL_MISSING: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// A constraint with the count of matching pods per topology value.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) topology_key: String,
    max_skew: i64,
    min_domains: usize,
    pub(crate) counts: BTreeMap<String, i64>,
    own: i64,
    pub(crate) hard: bool,
}

pub(super) fn prepare(request: &Request<'_>, snapshot: &Snapshot) -> Vec<Prepared> {
    let constraints = request.spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let namespace = request.pod.namespace();
    let mut all = Vec::new();
    for constraint in constraints {
        let mut selector = constraint.label_selector.clone().and_then(|selector| Selector::try_from(selector).ok());
        for key in constraint.match_label_keys.iter().flatten() {
            if let (Some(selector), Some(value)) = (&mut selector, labels(request.pod).get(key)) {
                selector.extend(std::iter::once(kube::core::Expression::Equal(key.clone(), value.clone())));
            }
        }
        let Some(selector) = selector else { continue };
        let mut counts = BTreeMap::new();
        for node in snapshot.nodes.values() {
            let honours_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
            if honours_affinity && !node_affinity::check(request, node).is_empty() {
                continue;
            }
            let honours_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
            if honours_taints && !taints::check(request, node).is_empty() {
                continue;
            }
            let Some(value) = node.label(&constraint.topology_key) else { continue };
            let here = node
                .pods
                .iter()
                .filter(|pod| pod.namespace() == namespace && pod.metadata.deletion_timestamp.is_none());
            let matching = here.filter(|pod| selector.matches(&labels(pod))).count();
            *counts.entry(value.to_owned()).or_insert(0) += i64::try_from(matching).unwrap_or(i64::MAX);
        }
        all.push(Prepared {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            own: i64::from(selector.matches(&labels(request.pod))),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            counts,
        });
    }
    all
}

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    for constraint in request.spread.iter().filter(|constraint| constraint.hard) {
        let Some(value) = node.label(&constraint.topology_key) else {
            return vec![LABEL_MISSING.to_owned()];
        };
        let enough = constraint.counts.len() >= constraint.min_domains;
        let least = if enough { constraint.counts.values().min().copied().unwrap_or(0) } else { 0 };
        let here = constraint.counts.get(value).copied().unwrap_or(0);
        if here + constraint.own - least > constraint.max_skew {
            return vec!["node(s) didn't match pod topology spread constraints".to_owned()];
        }
    }
    Vec::new()
}
