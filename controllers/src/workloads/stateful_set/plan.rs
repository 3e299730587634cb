//! What a StatefulSet does next, given its pods: in order one at a time, or all at once.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};
use kube::ResourceExt;

use crate::workloads::{history::REVISION_LABEL, pods};

/// Names of the revisions that pods are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the pods that a rollout has not reached.
    pub current: String,
    /// Of the present template.
    pub update: String,
}

/// One pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ordinals of the pods to make.
    pub create: Vec<i32>,
    /// Ordinals of the pods whose claims are to be looked at, and whether those that are missing are made.
    pub claims: Vec<(i32, bool)>,
    /// Pods to delete because there are too many: ordinal, name and uid.
    pub scale_down: Vec<Doomed>,
    /// Pods to delete so that they are made anew.
    pub replace: Vec<Doomed>,
    /// In how many seconds a pod will have been ready for long enough.
    pub look_again_after_seconds: Option<u64>,
}

/// A pod that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its place.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The ordinals that there should be.
#[must_use]
pub(super) fn ordinals(set: &StatefulSet) -> std::ops::Range<i32> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    start..start.saturating_add(replicas)
}

/// The place of a pod, by its name.
#[must_use]
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Whether the pod of `ordinal` is made from the revision of before.
#[must_use]
pub(super) fn is_held_back(set: &StatefulSet, ordinal: i32) -> bool {
    rolls(set) && ordinal < ordinals(set).start.saturating_add(partition(set))
}

fn rolls(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    strategy.unwrap_or("RollingUpdate") == "RollingUpdate"
}

fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0)
}

struct View<'a> {
    pods: BTreeMap<i32, &'a Arc<Pod>>,
    min_ready: i32,
    now: Timestamp,
    set: &'a str,
}

impl View<'_> {
    fn is_ready(pod: &Pod) -> bool {
        let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        running && pods::ready_since(pod).is_some()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        Self::is_ready(pod) && pods::is_available(pod, self.min_ready, self.now)
    }

    fn is_healthy(pod: &Pod) -> bool {
        Self::is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
    }

    fn serves(&self, pod: &Pod) -> bool {
        Self::is_healthy(pod) && self.is_available(pod)
    }

    fn doom(&self, ordinal: i32) -> Option<Doomed> {
        let pod = self.pods.get(&ordinal)?;
        debug_assert!(pod.name_any().starts_with(self.set), "a pod of another set");
        Some(Doomed { ordinal, name: pod.name_any(), uid: pod.uid().unwrap_or_default() })
    }

    fn wait(&self, pod: &Pod) -> Option<u64> {
        let since = pods::ready_since(pod)?;
        let left = since.as_second() + i64::from(self.min_ready) - self.now.as_second();
        u64::try_from(left).ok().map(|seconds| seconds.max(1))
    }
}

/// What to do for `set`, given the pods that are its own.
#[must_use]
pub fn plan(set: &StatefulSet, owned: &[Arc<Pod>], versions: &Versions, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &set.spec else { return plan };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let name = set.name_any();
    let pods = owned.iter().filter_map(|pod| Some((ordinal(&name, &pod.name_any())?, pod))).collect();
    let view = View { pods, min_ready: spec.min_ready_seconds.unwrap_or(0), now, set: &name };
    let in_order = spec.pod_management_policy.as_deref() != Some("Parallel");
    if fill(set, &view, in_order, &mut plan) || shrink(set, &view, in_order, &mut plan) || !rolls(set) {
        return plan;
    }
    update(set, &view, versions, &mut plan);
    plan
}

/// Makes the pods that are missing. Whether nothing else may be done now.
fn fill(set: &StatefulSet, view: &View<'_>, in_order: bool, plan: &mut Plan) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation) == set.metadata.generation;
    for place in ordinals(set) {
        let Some(pod) = view.pods.get(&place) else {
            plan.create.push(place);
            if in_order {
                return true;
            }
            continue;
        };
        if pods::is_finished(pod) {
            if pod.metadata.deletion_timestamp.is_none() {
                plan.replace.extend(view.doom(place));
            }
            if in_order {
                return true;
            }
        }
        let pending = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending");
        if pending || !observed {
            plan.claims.push((place, pending));
        }
        if in_order && !view.serves(pod) {
            plan.look_again_after_seconds = view.wait(pod);
            return true;
        }
    }
    false
}

/// Takes away pods that are too many, the highest first. Whether nothing else may be done now.
fn shrink(set: &StatefulSet, view: &View<'_>, in_order: bool, plan: &mut Plan) -> bool {
    let wanted = ordinals(set);
    let sick = view.pods.iter().find(|(_, pod)| !view.serves(pod)).map(|(place, _)| *place);
    for (place, pod) in view.pods.iter().rev().filter(|(place, _)| !wanted.contains(place)) {
        if pod.metadata.deletion_timestamp.is_some() {
            if in_order {
                return true;
            }
            continue;
        }
        if in_order && sick != Some(*place) && !view.is_available(pod) {
            plan.look_again_after_seconds = view.wait(pod);
            return true;
        }
        plan.scale_down.extend(view.doom(*place));
        if in_order {
            return true;
        }
    }
    false
}

/// Replaces the highest pod of an old template; what was made anew has to be available before the next one goes.
fn update(set: &StatefulSet, view: &View<'_>, versions: &Versions, plan: &mut Plan) {
    let wanted = ordinals(set);
    let from = wanted.start.saturating_add(partition(set));
    for place in (from..wanted.end).rev() {
        let Some(pod) = view.pods.get(&place) else { return };
        let old = pod.labels().get(REVISION_LABEL) != Some(&versions.update);
        if old && pod.metadata.deletion_timestamp.is_none() {
            plan.replace.extend(view.doom(place));
            return;
        }
        if !view.serves(pod) {
            return;
        }
    }
}

/// The status of `set`, given its pods.
#[must_use]
pub(super) fn status(
    set: &StatefulSet,
    owned: &[Arc<Pod>],
    versions: &Versions,
    collisions: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(owned.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let unless_zero = |count: i32| (count != 0).then_some(count);
    let of = |revision: &str| {
        count(&|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && pod.labels().get(REVISION_LABEL).is_some_and(|own| own == revision)
        })
    };
    let replicas = count(&|_| true);
    let ready = count(&View::is_ready);
    let updated = of(&versions.update);
    let mut current = (of(&versions.current), versions.current.clone());
    if rolls(set) && updated == replicas && ready == replicas {
        current = (updated, versions.update.clone());
    }
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: unless_zero(ready),
        available_replicas: Some(count(&|pod| View::is_ready(pod) && pods::is_available(pod, min_ready, now))),
        current_replicas: unless_zero(current.0),
        updated_replicas: unless_zero(updated),
        current_revision: Some(current.1),
        update_revision: Some(versions.update.clone()),
        collision_count: Some(collisions),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, policy: &str, partition: i32) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {
            "replicas": replicas, "podManagementPolicy": policy, "serviceName": "", "selector": {}, "template": {},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}}))
        .unwrap()
    }

    fn pod(ordinal: i32, revision: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("s-{ordinal}"), "uid": format!("u{ordinal}"), "labels": {REVISION_LABEL: revision}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap(),
        )
    }

    fn versions() -> Versions {
        Versions { current: "a".into(), update: "b".into() }
    }

    fn plan_of(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
        plan(set, pods, &versions(), Timestamp::UNIX_EPOCH)
    }

    fn names(doomed: &[Doomed]) -> Vec<&str> {
        doomed.iter().map(|doomed| doomed.name.as_str()).collect()
    }

    #[test]
    fn pods_come_one_after_the_other() {
        let set = set(3, "OrderedReady", 0);
        assert_eq!(plan_of(&set, &[]).create, [0]);
        assert_eq!(plan_of(&set, &[pod(0, "b", false)]), Plan::default());
        assert_eq!(plan_of(&set, &[pod(0, "b", true)]).create, [1]);
    }

    #[test]
    fn in_parallel_they_come_at_once() {
        assert_eq!(plan_of(&set(3, "Parallel", 0), &[pod(1, "b", false)]).create, [0, 2]);
    }

    #[test]
    fn the_highest_goes_first() {
        let pods = [pod(0, "b", true), pod(1, "b", true), pod(2, "b", true)];
        assert_eq!(names(&plan_of(&set(1, "OrderedReady", 0), &pods).scale_down), ["s-2"]);
        assert_eq!(names(&plan_of(&set(1, "Parallel", 0), &pods).scale_down), ["s-2", "s-1"]);
    }

    #[test]
    fn a_rollout_stops_at_the_partition_and_at_what_is_not_ready() {
        let old = [pod(0, "a", true), pod(1, "a", true), pod(2, "a", true)];
        assert_eq!(names(&plan_of(&set(3, "OrderedReady", 0), &old).replace), ["s-2"]);
        let reached = [pod(0, "a", true), pod(1, "a", true), pod(2, "b", true)];
        assert_eq!(plan_of(&set(3, "OrderedReady", 2), &reached), Plan::default());
        assert_eq!(names(&plan_of(&set(3, "OrderedReady", 1), &reached).replace), ["s-1"]);
        let stuck = [pod(0, "a", true), pod(1, "a", true), pod(2, "b", false)];
        assert_eq!(plan_of(&set(3, "OrderedReady", 0), &stuck).replace, []);
        assert!(is_held_back(&set(3, "OrderedReady", 2), 1) && !is_held_back(&set(3, "OrderedReady", 2), 2));
    }

    proptest! {
        /// Whatever the start, as long as every pod becomes ready the set ends with just its pods, all of the new template.
        #[test]
        fn a_set_settles(replicas in 0..6i32, present in proptest::collection::btree_map(0..8i32, any::<bool>(), 0..8), parallel in any::<bool>()) {
            let set = set(replicas, if parallel { "Parallel" } else { "OrderedReady" }, 0);
            let mut pods: BTreeMap<i32, Arc<Pod>> =
                present.iter().map(|(place, new)| (*place, pod(*place, if *new { "b" } else { "a" }, true))).collect();
            for _ in 0..60 {
                let now: Vec<Arc<Pod>> = pods.values().cloned().collect();
                let plan = plan_of(&set, &now);
                if !parallel {
                    prop_assert!(plan.create.len() + plan.scale_down.len() + plan.replace.len() <= 1);
                }
                for doomed in plan.scale_down.iter().chain(&plan.replace) {
                    pods.remove(&doomed.ordinal);
                }
                for place in plan.create {
                    pods.insert(place, pod(place, "b", true));
                }
            }
            prop_assert_eq!(pods.keys().copied().collect::<Vec<_>>(), (0..replicas).collect::<Vec<_>>());
            prop_assert!(pods.values().all(|pod| pod.labels()[REVISION_LABEL] == "b"));
        }
    }
}
