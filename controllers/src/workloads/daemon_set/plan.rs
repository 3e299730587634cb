//! What a DaemonSet does next, given nodes and pods.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetStatus},
        core::v1::{Node, Pod, PodSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

use super::node::{self, Fit};
use crate::workloads::{history::REVISION_LABEL, pods, rollout};

/// How many pods are made or deleted in one pass.
const BURST: usize = 250;

/// One pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names of the nodes that get a pod.
    pub create: Vec<String>,
    /// Names and uids of the pods to delete.
    pub delete: Vec<(String, String)>,
    /// In how many seconds a pod will have been ready for long enough.
    pub look_again_after_seconds: Option<u64>,
}

/// A DaemonSet, the nodes and the pods that are its own, and the time.
pub struct Scene<'a> {
    set: &'a DaemonSet,
    hash: &'a str,
    nodes: Vec<(String, Fit)>,
    pods: BTreeMap<&'a str, Vec<&'a Arc<Pod>>>,
    strays: Vec<&'a Arc<Pod>>,
    min_ready: i32,
    now: Timestamp,
}

impl<'a> Scene<'a> {
    /// Puts pods to their nodes. `hash` is of the present template.
    #[must_use]
    pub fn new(set: &'a DaemonSet, nodes: &[Arc<Node>], owned: &'a [Arc<Pod>], hash: &'a str, now: Timestamp) -> Self {
        let spec = set.spec.as_ref();
        let pod_spec = spec.and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
        let pod_spec: PodSpec = node::with_tolerations(&pod_spec);
        let nodes: Vec<_> = nodes.iter().map(|own| (own.name_any(), node::fit(&pod_spec, own))).collect();
        let mut pods: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        let mut strays = Vec::new();
        for pod in owned {
            match node::of_pod(pod) {
                Some(name) if nodes.iter().any(|(own, _)| own == name) => pods.entry(name).or_default().push(pod),
                Some(_) => strays.push(pod),
                None => {}
            }
        }
        for of_node in pods.values_mut() {
            of_node.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.name_any()));
        }
        let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        Self { set, hash, nodes, pods, strays, min_ready, now }
    }

    fn of_node(&self, node: &str) -> &[&'a Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.labels().get(REVISION_LABEL).is_some_and(|own| own == self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_active(pod) && pods::is_available(pod, self.min_ready, self.now)
    }

    fn wanted(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, fit)| fit.should_run).map(|(name, _)| name.as_str())
    }

    fn bounds(&self) -> Option<(usize, usize)> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let total = i32::try_from(self.wanted().count()).unwrap_or(i32::MAX);
        let bound = |value: Option<&IntOrString>, unset: i32| {
            let share = rollout::resolve(value.unwrap_or(&IntOrString::Int(unset)), total, true);
            usize::try_from(share).unwrap_or(0)
        };
        let surge = bound(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
        let unavailable = bound(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
        Some((if surge == 0 { unavailable.max(1) } else { unavailable }, surge))
    }

    /// What to do next.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        if self.set.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        let surging = self.bounds().is_some_and(|(_, surge)| surge > 0);
        let mut gone: Vec<&Arc<Pod>> = self.strays.clone();
        for (name, fit) in &self.nodes {
            self.settle(name, *fit, surging, &mut plan, &mut gone);
        }
        if gone.is_empty() && plan.create.is_empty() {
            self.roll(&mut plan, &mut gone);
        }
        let going = gone.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        plan.delete = going.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).take(BURST).collect();
        plan.create.truncate(BURST);
        plan.look_again_after_seconds = self.wait();
        plan
    }

    /// One pod where one is to run, none where none may stay; what ended makes room for the next.
    fn settle(&self, name: &str, fit: Fit, surging: bool, plan: &mut Plan, gone: &mut Vec<&'a Arc<Pod>>) {
        let here = self.of_node(name);
        if !fit.may_stay {
            gone.extend(here);
            return;
        }
        let (ended, rest): (Vec<_>, Vec<_>) = here.iter().copied().partition(|pod| pods::is_finished(pod));
        gone.extend(&ended);
        if fit.should_run && here.is_empty() {
            plan.create.push(name.to_owned());
            return;
        }
        let live: Vec<&Arc<Pod>> = rest.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let (new, old): (Vec<_>, Vec<_>) = live.iter().copied().partition(|pod| self.is_new(pod));
        if surging {
            // An old pod goes when the new one beside it is there.
            gone.extend(new.iter().skip(1));
            let covered = new.first().is_some_and(|pod| self.is_available(pod));
            gone.extend(old.iter().skip(usize::from(!covered)));
        } else {
            gone.extend(live.iter().skip(1));
        }
    }

    /// Replaces pods of old templates, as far as so many may be missing or doubled.
    fn roll(&self, plan: &mut Plan, gone: &mut Vec<&'a Arc<Pod>>) {
        let Some((unavailable, surge)) = self.bounds() else { return };
        if surge > 0 {
            let doubled = self.wanted().filter(|name| self.of_node(name).len() > 1).count();
            let lonely = self.wanted().filter(|name| {
                let here = self.of_node(name);
                here.len() == 1 && here.iter().all(|pod| !self.is_new(pod) && pods::is_active(pod))
            });
            plan.create.extend(lonely.take(surge.saturating_sub(doubled)).map(str::to_owned));
            return;
        }
        let mut missing = 0;
        let (mut broken, mut sound) = (Vec::new(), Vec::new());
        for name in self.wanted() {
            let active = self.of_node(name).iter().copied().find(|pod| pods::is_active(pod));
            let available = active.is_some_and(|pod| self.is_available(pod));
            missing += usize::from(!available);
            if let Some(pod) = active.filter(|pod| !self.is_new(pod)) {
                if available { sound.push(pod) } else { broken.push(pod) }
            }
        }
        gone.extend(broken);
        gone.extend(sound.into_iter().take(unavailable.saturating_sub(missing)));
    }

    fn wait(&self) -> Option<u64> {
        let all = self.pods.values().flatten().filter(|pod| pods::is_active(pod) && !self.is_available(pod));
        let left = all.filter_map(|pod| pods::ready_since(pod)).filter_map(|since| {
            u64::try_from(since.as_second() + i64::from(self.min_ready) - self.now.as_second()).ok()
        });
        left.map(|seconds| seconds.max(1)).min()
    }

    /// The status.
    #[must_use]
    pub fn status(&self, collisions: Option<i32>) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: collisions,
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for (name, fit) in &self.nodes {
            let live: Vec<_> = self.of_node(name).iter().filter(|pod| !pods::is_finished(pod)).collect();
            if !fit.should_run {
                status.number_misscheduled += i32::from(!live.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            status.current_number_scheduled += i32::from(!live.is_empty());
            // The pod that serves longest stands for the node.
            if let Some(pod) = live.iter().find(|pod| pods::ready_since(pod).is_some()) {
                status.number_ready += 1;
                available += i32::from(self.is_available(pod));
            }
            updated += i32::from(live.iter().any(|pod| self.is_new(pod)));
        }
        let unless_zero = |count: i32| (count != 0).then_some(count);
        status.updated_number_scheduled = unless_zero(updated);
        status.number_available = unless_zero(available);
        status.number_unavailable = unless_zero(status.desired_number_scheduled - available);
        status
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(rolling: serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"selector": {},
            "template": {"spec": {"containers": []}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
        .unwrap()
    }

    fn node(name: &str) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
    }

    fn pod(name: &str, node: &str, hash: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {REVISION_LABEL: hash}},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn every_node_gets_one_and_no_node_two() {
        let set = set(json!({"maxUnavailable": 1, "maxSurge": 0}));
        let nodes = [node("a"), node("b")];
        let pods = [pod("1", "a", "new", true), pod("2", "a", "new", true), pod("3", "gone", "new", true)];
        let plan = Scene::new(&set, &nodes, &pods, "new", Timestamp::UNIX_EPOCH).plan();
        assert_eq!(plan.create, ["b"]);
        let mut names: Vec<_> = plan.delete.into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["2", "3"]);
    }

    #[test]
    fn a_surge_puts_the_new_beside_the_old() {
        let set = set(json!({"maxUnavailable": 0, "maxSurge": 1}));
        let nodes = [node("a"), node("b")];
        let old = [pod("1", "a", "old", true), pod("2", "b", "old", true)];
        let plan = Scene::new(&set, &nodes, &old, "new", Timestamp::UNIX_EPOCH).plan();
        assert_eq!((plan.create.as_slice(), plan.delete.as_slice()), (&["a".to_owned()][..], &[][..]));
        let both = [pod("1", "a", "old", true), pod("2", "b", "old", true), pod("3", "a", "new", true)];
        let plan = Scene::new(&set, &nodes, &both, "new", Timestamp::UNIX_EPOCH).plan();
        assert_eq!(plan.delete, [("1".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn on_delete_nothing_is_replaced() {
        let mut set = set(json!({}));
        set.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().type_ = Some("OnDelete".into());
        let pods = [pod("1", "a", "old", true)];
        let scene_nodes = [node("a")];
        assert_eq!(Scene::new(&set, &scene_nodes, &pods, "new", Timestamp::UNIX_EPOCH).plan(), Plan::default());
    }

    proptest! {
        /// A rollout never has more nodes without a pod than it may, and ends.
        #[test]
        fn a_rollout_keeps_its_bound_and_ends(count in 1..6usize, bound in 1..4usize) {
            let set = set(json!({"maxUnavailable": bound, "maxSurge": 0}));
            let nodes: Vec<_> = (0..count).map(|at| node(&at.to_string())).collect();
            let mut pods: Vec<_> = (0..count).map(|at| pod(&format!("o{at}"), &at.to_string(), "old", true)).collect();
            for round in 0..40 {
                let plan = Scene::new(&set, &nodes, &pods, "new", Timestamp::UNIX_EPOCH).plan();
                pods.retain(|pod| !plan.delete.iter().any(|(name, _)| *name == pod.name_any()));
                prop_assert!(count - pods.len() <= bound);
                for name in plan.create {
                    pods.push(pod(&format!("n{round}-{name}"), &name, "new", true));
                }
            }
            prop_assert_eq!(pods.len(), count);
            prop_assert!(pods.iter().all(|pod| pod.labels()[REVISION_LABEL] == "new"));
        }
    }
}
