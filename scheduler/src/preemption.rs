//! Preemption: for a pod that finds no node, the lesser pods whose end would make room for it. Pure.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt as _},
};

use crate::{
    cycle::message,
    filters::{self, Request},
    snapshot::{NodeInfo, Snapshot},
};

/// Most nodes on which room is looked for, as upstream looks at a part of a large cluster only.
const MAX_NODES: usize = 100;
const NEVER: &str = "Never";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const GONE: &str = "node not found";
const UNHELPFUL: &str = "Preemption is not helpful for scheduling";

/// Pods that are to end so that another has room.
#[derive(Clone, Debug)]
pub struct Victims {
    /// Where there will be room.
    pub node: String,
    /// Who is to end.
    pub pods: Vec<Arc<Pod>>,
}

/// The priority of a pod.
#[must_use]
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Whose end makes room for `pod`, or why nobody's does, in upstream's words.
pub fn preempt(pod: &Pod, snapshot: &Snapshot, budgets: &[Arc<PodDisruptionBudget>]) -> Result<Victims, String> {
    let nodes = snapshot.nodes.len();
    if pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some(NEVER) {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let own = priority(pod);
    let waits = |info: &NodeInfo| {
        let ends = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_some() && priority(pod) < own;
        nominated(pod) == Some(&*info.node.name_any()) && info.pods.iter().any(ends)
    };
    if snapshot.nodes.values().any(waits) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let (mut best, mut looked_at) = (None, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut tell = |reason: String| *reasons.entry(reason).or_default() += 1;
    let mut trial = snapshot.clone();
    let request = Request::new(pod, snapshot);
    for (name, info) in &snapshot.nodes {
        if filters::is_final(&request, info) {
            tell(UNHELPFUL.to_owned());
            continue;
        }
        if looked_at == MAX_NODES || !info.pods.iter().any(|other| priority(other) < own) {
            tell(NO_VICTIMS.to_owned());
            continue;
        }
        looked_at += 1;
        let found = victims(pod, name, info, &mut trial, budgets);
        trial.nodes.insert(name.clone(), info.clone());
        let (broken, pods) = match found {
            Ok(found) => found,
            Err(why) => {
                why.into_iter().for_each(&mut tell);
                continue;
            }
        };
        let rank = rank(broken, &pods);
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, Victims { node: name.clone(), pods }));
        }
    }
    if let Some((_, victims)) = best {
        return Ok(victims);
    }
    Err(message(nodes, &reasons))
}

fn nominated(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref()
}

/// Who must end on one node, and how many of them a budget protects; or what speaks against the node even then.
fn victims(
    pod: &Pod,
    name: &str,
    info: &NodeInfo,
    trial: &mut Snapshot,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<(usize, Vec<Arc<Pod>>), Vec<String>> {
    let own = priority(pod);
    let (lesser, kept): (Vec<_>, Vec<_>) = info.pods.iter().cloned().partition(|other| priority(other) < own);
    set(trial, name, info, &kept);
    let against = against(pod, name, trial);
    if !against.is_empty() {
        return Err(against);
    }
    let (mut protected, mut free): (Vec<_>, Vec<_>) =
        lesser.into_iter().partition(|other| is_protected(other, budgets));
    // The most important are spared first, those that a budget protects before all others.
    for list in [&mut protected, &mut free] {
        list.sort_by_key(|other| (Reverse(priority(other)), started(other)));
    }
    let (mut staying, mut gone, mut broken) = (kept, Vec::new(), 0);
    for (list, counts) in [(protected, true), (free, false)] {
        for other in list {
            staying.push(Arc::clone(&other));
            set(trial, name, info, &staying);
            if !self::against(pod, name, trial).is_empty() {
                staying.pop();
                broken += usize::from(counts);
                gone.push(other);
            }
        }
    }
    if gone.is_empty() { Err(vec![NO_VICTIMS.to_owned()]) } else { Ok((broken, gone)) }
}

fn set(trial: &mut Snapshot, name: &str, info: &NodeInfo, pods: &[Arc<Pod>]) {
    let mut fresh = NodeInfo::new(Arc::clone(&info.node));
    pods.iter().for_each(|pod| fresh.place(Arc::clone(pod)));
    trial.nodes.insert(name.to_owned(), fresh);
}

/// What speaks against a node; against one that is not there, that.
fn against(pod: &Pod, name: &str, trial: &Snapshot) -> Vec<String> {
    let request = Request::new(pod, trial);
    trial.nodes.get(name).map_or_else(|| vec![GONE.to_owned()], |info| filters::check(&request, info))
}

fn started(pod: &Pod) -> Option<jiff::Timestamp> {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
}

/// Whether a budget that allows no more disruptions is about the pod.
fn is_protected(pod: &Pod, budgets: &[Arc<PodDisruptionBudget>]) -> bool {
    budgets.iter().any(|budget| {
        let spent = budget.status.as_ref().is_none_or(|status| status.disruptions_allowed.unwrap_or(0) <= 0);
        spent && budget.meta().namespace == pod.meta().namespace && selects(budget, pod)
    })
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector: Option<LabelSelector> = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector.and_then(|selector| Selector::try_from(selector).ok()).is_some_and(|own| own.matches(pod.labels()))
}

/// Less is better: broken budgets, the most important victim, all of them together, their number, and who started last.
type Rank = (usize, i32, i64, usize, Reverse<Option<jiff::Timestamp>>);

fn rank(broken: usize, pods: &[Arc<Pod>]) -> Rank {
    let highest = pods.iter().map(|pod| priority(pod)).max().unwrap_or(i32::MIN);
    let sum = pods.iter().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
    let earliest = pods.iter().filter(|pod| priority(pod) == highest).map(|pod| started(pod)).min().flatten();
    (broken, highest, sum, pods.len(), Reverse(earliest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2", "pods": "10"}}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn pod(name: &str, cpu: &str, priority: i32, on: &str) -> Arc<Pod> {
        let value = json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": name}}, "spec": {
            "nodeName": on, "priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}],
        }});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn snapshot(pods: &[Arc<Pod>]) -> Snapshot {
        Snapshot::new([node("a"), node("b")].iter(), pods.iter(), BTreeMap::new())
    }

    fn names(victims: &Victims) -> Vec<String> {
        victims.pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn the_least_important_make_room_and_no_more_than_needed() {
        let pods = [pod("x", "1", 5, "a"), pod("y", "1", 1, "a"), pod("z", "2", 7, "b")];
        let found = preempt(&pod("p", "1", 10, ""), &snapshot(&pods), &[]).unwrap();
        assert_eq!((found.node.as_str(), names(&found)), ("a", vec!["y".to_owned()]));
    }

    #[test]
    fn no_room_is_found_on_a_node_that_is_not_there() {
        let pod = pod("p", "1", 10, "");
        assert_eq!(against(&pod, "nowhere", &snapshot(&[])), [GONE]);
        assert!(against(&pod, "a", &snapshot(&[])).is_empty());
    }

    #[test]
    fn equals_and_the_protected_are_spared() {
        let pods = [pod("x", "2", 10, "a"), pod("y", "2", 10, "b")];
        let why = preempt(&pod("p", "1", 10, ""), &snapshot(&pods), &[]).unwrap_err();
        assert_eq!(why, "0/2 nodes are available: 2 No preemption victims found for incoming pod.");
        let budget = json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"app": "x"}}},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let pods = [pod("x", "2", 1, "a"), pod("y", "2", 2, "b")];
        let found = preempt(&pod("p", "1", 10, ""), &snapshot(&pods), &[Arc::new(budget)]).unwrap();
        assert_eq!(found.node, "b");
    }

    #[test]
    fn a_node_that_would_not_do_even_empty_is_told_apart() {
        let all = snapshot(&[pod("x", "2", 1, "a"), pod("y", "2", 10, "b")]);
        let why = |cpu: &str| preempt(&pod("p", cpu, 10, ""), &all, &[]).unwrap_err();
        assert_eq!(why("100"), "0/2 nodes are available: 2 Preemption is not helpful for scheduling.");
        let kept = snapshot(&[pod("x", "1", 1, "a"), pod("w", "1", 10, "a"), pod("y", "2", 10, "b")]);
        let why = preempt(&pod("p", "2", 10, ""), &kept, &[]).unwrap_err();
        assert_eq!(why, "0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod.");
    }

    #[test]
    fn a_pod_that_never_preempts_waits() {
        let pods = [pod("x", "2", 1, "a"), pod("y", "2", 1, "b")];
        let mut patient = pod("p", "1", 10, "").as_ref().clone();
        patient.spec.as_mut().unwrap().preemption_policy = Some("Never".to_owned());
        assert!(preempt(&patient, &snapshot(&pods), &[]).unwrap_err().contains("preemptionPolicy=Never"));
    }
}
