//! One scheduling cycle: from a pod and a snapshot to a node, or to the reasons why there is none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{filters, scores, snapshot::Snapshot};

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On this node.
    Node(String),
    /// Nowhere; the message says why, as users of Kubernetes know it.
    Unschedulable(String),
}

/// Places `pod`. Among equally good nodes `tie` decides, so that a caller can spread by chance and a test can repeat.
#[must_use]
pub fn place(pod: &Pod, snapshot: &Snapshot, tie: u64) -> Placement {
    if snapshot.nodes.is_empty() {
        return Placement::Unschedulable("no nodes available to schedule pods".to_owned());
    }
    let request = filters::Request::new(pod, snapshot);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible = Vec::new();
    for (name, node) in &snapshot.nodes {
        let failed = filters::check(&request, node);
        if failed.is_empty() {
            feasible.push((name, node));
        }
        for reason in failed {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if feasible.is_empty() {
        return Placement::Unschedulable(message(snapshot.nodes.len(), &reasons));
    }
    let rated: Vec<(i64, &String)> =
        feasible.iter().map(|(name, node)| (scores::rate(&request, node, snapshot), *name)).collect();
    let best = rated.iter().map(|(score, _)| *score).max().unwrap_or(0);
    let tied: Vec<&String> = rated.iter().filter(|(score, _)| *score == best).map(|(_, name)| *name).collect();
    let index = usize::try_from(tie).unwrap_or(0).checked_rem(tied.len()).unwrap_or(0);
    match tied.get(index) {
        Some(name) => Placement::Node((*name).clone()),
        None => Placement::Unschedulable(message(snapshot.nodes.len(), &reasons)),
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
pub(crate) fn message(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut listed: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    listed.sort();
    format!("0/{nodes} nodes are available: {}.", listed.join(", "))
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
