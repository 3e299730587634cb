//! Which of several nodes that will do is best.

use k8s_openapi::api::core::v1::WeightedPodAffinityTerm;
use kube::ResourceExt;
use martello_api::{node_selector::term_selects, taints::tolerates};

use crate::{
    filters::{Request, Term},
    snapshot::{NodeInfo, Snapshot},
};

/// The best that one score gives.
const FULL: i64 = 100;

/// The sum of all scores, weighted as upstream's defaults.
#[must_use]
pub fn rate(request: &Request<'_>, node: &NodeInfo, snapshot: &Snapshot) -> i64 {
    least_allocated(request, node)
        + balanced(request, node)
        + 3 * untainted(request, node)
        + 2 * preferred_nodes(request, node)
        + 2 * preferred_neighbours(request, node, snapshot)
        + 2 * spread(request, node)
        + 2 * siblings(request, node)
}

fn share(request: &Request<'_>, node: &NodeInfo, name: &str) -> Option<i64> {
    let has = node.allocatable.get(name);
    let used = node.requested.get(name) + request.resources.get(name);
    (has > 0).then(|| (used.saturating_mul(FULL) / has).clamp(0, FULL))
}

fn least_allocated(request: &Request<'_>, node: &NodeInfo) -> i64 {
    let shares: Vec<i64> = ["cpu", "memory"].iter().filter_map(|name| share(request, node, name)).collect();
    let count = i64::try_from(shares.len()).unwrap_or(1).max(1);
    FULL - shares.iter().sum::<i64>() / count
}

fn balanced(request: &Request<'_>, node: &NodeInfo) -> i64 {
    match (share(request, node, "cpu"), share(request, node, "memory")) {
        (Some(cpu), Some(memory)) => FULL - (cpu - memory).abs(),
        _ => 0,
    }
}

fn untainted(request: &Request<'_>, node: &NodeInfo) -> i64 {
    let tolerations = request.spec.tolerations.as_deref().unwrap_or_default();
    let soft = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let open = soft.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))).count();
    if open == 0 { FULL } else { 0 }
}

fn preferred_nodes(request: &Request<'_>, node: &NodeInfo) -> i64 {
    let affinity = request.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
    let terms = terms.unwrap_or_default();
    let total: i64 = terms.iter().map(|term| i64::from(term.weight)).sum();
    let held = terms.iter().filter(|term| term_selects(&term.preference, &node.node));
    let held: i64 = held.map(|term| i64::from(term.weight)).sum();
    if total == 0 { 0 } else { held * FULL / total }
}

fn preferred_neighbours(request: &Request<'_>, node: &NodeInfo, snapshot: &Snapshot) -> i64 {
    let Some(affinity) = &request.spec.affinity else { return 0 };
    let namespace = request.pod.namespace().unwrap_or_default();
    let weigh = |terms: Option<&[WeightedPodAffinityTerm]>| -> i64 {
        let terms = terms.unwrap_or_default();
        terms
            .iter()
            .filter(|weighted| {
                let term = Term::new(&weighted.pod_affinity_term, &namespace);
                let here = node.label(&term.topology_key);
                here.is_some()
                    && snapshot
                        .nodes
                        .values()
                        .filter(|other| other.label(&term.topology_key) == here)
                        .any(|other| other.pods.iter().any(|pod| term.selects(pod, &snapshot.namespaces)))
            })
            .map(|weighted| i64::from(weighted.weight))
            .sum()
    };
    let near = affinity.pod_affinity.as_ref();
    let apart = affinity.pod_anti_affinity.as_ref();
    let wanted = weigh(near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_deref()));
    let unwanted = weigh(apart.and_then(|apart| apart.preferred_during_scheduling_ignored_during_execution.as_deref()));
    (wanted - unwanted).clamp(-FULL, FULL)
}

fn spread(request: &Request<'_>, node: &NodeInfo) -> i64 {
    let soft = request.spread.iter().filter(|constraint| !constraint.hard);
    soft.map(|constraint| {
        let most = constraint.counts.values().max().copied().unwrap_or(0);
        let here = node.label(&constraint.topology_key).and_then(|value| constraint.counts.get(value)).copied();
        here.map_or(0, |here| if most == 0 { FULL } else { (most - here) * FULL / most })
    })
    .sum()
}

/// Pods of one owner are best kept apart, where nothing else was said.
fn siblings(request: &Request<'_>, node: &NodeInfo) -> i64 {
    let owner = request.pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let Some(owner) = owner else { return FULL };
    let same = node.pods.iter().filter(|pod| pod.owner_references().iter().any(|other| other.uid == owner.uid)).count();
    FULL / (1 + i64::try_from(same).unwrap_or(i64::MAX - 1))
}
