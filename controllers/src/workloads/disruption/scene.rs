//! What a budget allows, given its pods and what these are scaled to. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{
    super::{pods, rollout},
    scales::Scaled,
};

/// How long an eviction that was allowed counts although its pod is still there: it may have been lost.
const DELETION_SECONDS: i64 = 120;

/// What one budget is about.
pub struct Scene<'a> {
    /// It.
    pub budget: &'a PodDisruptionBudget,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// Of each pod (by name) what scales it.
    pub scales: &'a BTreeMap<String, Scaled>,
    /// The time.
    pub now: Timestamp,
}

/// Why no count can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uncountable(String);

/// What came of a look at a budget.
#[derive(Debug)]
pub struct Seen {
    /// The status.
    pub status: PodDisruptionBudgetStatus,
    /// Seconds until it is to be looked at again.
    pub again: Option<i64>,
    /// What is told, as events: whether it is a warning, its reason and its note.
    pub told: Vec<(bool, &'static str, String)>,
    /// Pods whose eviction was allowed long ago, and that are still there.
    pub late: Vec<String>,
}

/// Evictions that were allowed.
struct Disrupted {
    /// Those that still count, since when.
    kept: BTreeMap<String, Time>,
    /// Seconds until the first does not count any more.
    again: Option<i64>,
    /// Pods whose eviction does not count any more.
    late: Vec<String>,
}

impl Scene<'_> {
    /// What the budget allows.
    #[must_use]
    pub fn look(&self) -> Seen {
        let old = self.budget.status.clone().unwrap_or_default();
        let Disrupted { kept: disrupted, again, late } = self.disrupted(&old);
        let mut told = Vec::new();
        if self.pods.is_empty() {
            told.push((false, "NoPods", "No matching pods found".to_owned()));
        }
        match self.counts() {
            Ok((expected, desired, unmanaged)) => {
                if unmanaged {
                    told.push((true, "UnmanagedPods", self.unmanaged_note()));
                }
                let current = self.healthy(&disrupted);
                let status = self.allowed(old, disrupted, expected, desired, current);
                Seen { status, again, told, late }
            }
            Err(Uncountable(why)) => {
                let note = format!("Failed to calculate the number of expected pods: {why}");
                told.push((true, "CalculateExpectedPodCountFailed", note));
                let mut status = old;
                status.disruptions_allowed = Some(0);
                let generation = status.observed_generation;
                self.set(&mut status, "False", "SyncFailed", &why, generation);
                Seen { status, again, told, late: Vec::new() }
            }
        }
    }

    fn unmanaged_note(&self) -> String {
        let selector = self.budget.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let labels: Vec<String> =
            selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
        let expressions: Vec<String> = selector
            .match_expressions
            .iter()
            .flatten()
            .map(|one| {
                let values = one.values.clone().unwrap_or_default().join(" ");
                format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
            })
            .collect();
        let shown = format!(
            "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
            labels.concat(),
            expressions.concat()
        );
        format!(
            "Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
        )
    }

    fn allowed(
        &self,
        old: PodDisruptionBudgetStatus,
        disrupted: BTreeMap<String, Time>,
        expected: i32,
        desired: i32,
        current: i32,
    ) -> PodDisruptionBudgetStatus {
        let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
        let mut status = PodDisruptionBudgetStatus {
            observed_generation: self.budget.metadata.generation,
            disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
            disruptions_allowed: Some(allowed),
            current_healthy: Some(current),
            desired_healthy: Some(desired),
            expected_pods: Some(expected),
            conditions: old.conditions,
        };
        let generation = self.budget.metadata.generation;
        if allowed > 0 {
            self.set(&mut status, "True", "SufficientPods", "", generation);
        } else {
            self.set(&mut status, "False", "InsufficientPods", "", generation);
        }
        status
    }

    fn set(
        &self,
        status: &mut PodDisruptionBudgetStatus,
        truth: &str,
        reason: &str,
        message: &str,
        generation: Option<i64>,
    ) {
        const TYPE: &str = "DisruptionAllowed";
        let all = status.conditions.get_or_insert_default();
        let old = all.iter().find(|own| own.type_ == TYPE && own.status == truth);
        let since = old.map_or(Time(self.now), |own| own.last_transition_time.clone());
        let condition = Condition {
            type_: TYPE.to_owned(),
            status: truth.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: since,
        };
        match all.iter_mut().find(|own| own.type_ == TYPE) {
            Some(own) => *own = condition,
            None => all.push(condition),
        }
    }

    /// Evictions that were allowed and whose pods are still there, for as long as that may take.
    fn disrupted(&self, old: &PodDisruptionBudgetStatus) -> Disrupted {
        let mut kept = BTreeMap::new();
        let mut again: Option<i64> = None;
        let mut late = Vec::new();
        for (name, since) in old.disrupted_pods.iter().flatten() {
            let there =
                self.pods.iter().any(|pod| pod.name_any() == *name && pod.metadata.deletion_timestamp.is_none());
            let left = since.0.as_second() + DELETION_SECONDS - self.now.as_second();
            if there && left > 0 {
                kept.insert(name.clone(), since.clone());
                again = Some(again.map_or(left, |other| other.min(left)));
            } else if there {
                late.push(name.clone());
            }
        }
        Disrupted { kept, again, late }
    }

    fn healthy(&self, disrupted: &BTreeMap<String, Time>) -> i32 {
        let sound = self.pods.iter().filter(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && !disrupted.contains_key(&pod.name_any())
                && pods::ready_since(pod).is_some()
        });
        i32::try_from(sound.count()).unwrap_or(i32::MAX)
    }

    /// How many pods there should be, how many of them healthy, and whether some are nobody's.
    fn counts(&self) -> Result<(i32, i32, bool), Uncountable> {
        let spec = self.budget.spec.as_ref();
        let own = i32::try_from(self.pods.len()).unwrap_or(i32::MAX);
        if let Some(most) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
            let (expected, unmanaged) = self.expected()?;
            return Ok((expected, expected.saturating_sub(rollout::resolve(most, expected, true)).max(0), unmanaged));
        }
        match spec.and_then(|spec| spec.min_available.as_ref()) {
            Some(IntOrString::Int(least)) => Ok((own, *least, false)),
            Some(share) => {
                let (expected, unmanaged) = self.expected()?;
                Ok((expected, rollout::resolve(share, expected, true), unmanaged))
            }
            None => Ok((0, 0, false)),
        }
    }

    /// The sum of what the pods' controllers are scaled to, each counted once; and whether some pods have none.
    fn expected(&self) -> Result<(i32, bool), Uncountable> {
        let mut seen = BTreeSet::new();
        let (mut expected, mut unmanaged) = (0i32, false);
        for pod in self.pods {
            match self.scales.get(&pod.name_any()) {
                Some(Scaled::By(scale)) => {
                    if seen.insert(scale.uid.clone()) {
                        expected = expected.saturating_add(scale.replicas);
                    }
                }
                Some(Scaled::Unknown(why)) => return Err(Uncountable(why.clone())),
                Some(Scaled::Unmanaged) | None => unmanaged = true,
            }
        }
        Ok((expected, unmanaged))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::scales::Scale, *};

    fn budget(spec: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 1}, "spec": spec})).unwrap()
    }

    fn pods(ready: usize, not: usize) -> Vec<Arc<Pod>> {
        (0..ready + not)
            .map(|at| {
                let status = if at < ready { "True" } else { "False" };
                Arc::new(
                    serde_json::from_value(json!({"metadata": {"name": format!("p{at}")},
                        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
                    .unwrap(),
                )
            })
            .collect()
    }

    fn status(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], replicas: Option<i32>) -> PodDisruptionBudgetStatus {
        let scale = replicas.map_or(Scaled::Unmanaged, |replicas| Scaled::By(Scale { uid: "u".into(), replicas }));
        let scales = pods.iter().map(|pod| (pod.name_any(), scale.clone())).collect();
        Scene { budget, pods, scales: &scales, now: Timestamp::from_second(1000).unwrap() }.look().status
    }

    #[test]
    fn a_number_needs_no_controller() {
        let found = status(&budget(json!({"minAvailable": 1})), &pods(2, 1), None);
        assert_eq!((found.expected_pods, found.desired_healthy, found.current_healthy), (Some(3), Some(1), Some(2)));
        assert_eq!(found.disruptions_allowed, Some(1));
    }

    #[test]
    fn a_share_is_of_what_is_wanted() {
        let found = status(&budget(json!({"maxUnavailable": "50%"})), &pods(3, 0), Some(4));
        assert_eq!(
            (found.expected_pods, found.desired_healthy, found.disruptions_allowed),
            (Some(4), Some(2), Some(1))
        );
    }

    #[test]
    fn pods_of_nobody_do_not_count_in_a_share() {
        let found = status(&budget(json!({"maxUnavailable": 1})), &pods(3, 0), None);
        assert_eq!((found.expected_pods, found.disruptions_allowed), (Some(0), Some(0)));
        assert_eq!(found.conditions.unwrap()[0].reason, "InsufficientPods");
    }

    #[test]
    fn pods_whose_controller_has_no_scale_cannot_be_counted() {
        let (budget, pods) = (budget(json!({"maxUnavailable": 1})), pods(1, 0));
        let scales = BTreeMap::from([("p0".to_owned(), Scaled::Unknown("no".to_owned()))]);
        let seen = Scene { budget: &budget, pods: &pods, scales: &scales, now: Timestamp::UNIX_EPOCH }.look();
        let condition = &seen.status.conditions.unwrap()[0];
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", "no"));
        assert_eq!(seen.status.observed_generation, None);
        assert_eq!(seen.told[0].1, "CalculateExpectedPodCountFailed");
    }

    #[test]
    fn an_eviction_that_was_allowed_counts_for_a_while() {
        let mut own = budget(json!({"minAvailable": 1}));
        let since = |second| Time(Timestamp::from_second(second).unwrap());
        let disrupted = BTreeMap::from([("p0".to_owned(), since(999)), ("p1".to_owned(), since(800))]);
        own.status = Some(PodDisruptionBudgetStatus { disrupted_pods: Some(disrupted), ..Default::default() });
        let found = status(&own, &pods(3, 0), None);
        assert_eq!(found.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!((found.current_healthy, found.disruptions_allowed), (Some(2), Some(1)));
        let (pods, scales) = (pods(3, 0), BTreeMap::new());
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(Scene { budget: &own, pods: &pods, scales: &scales, now }.look().late, ["p1"]);
    }

    proptest! {
        #[test]
        fn no_more_may_go_than_leaves_enough(least in 0..10i32, ready in 0..8usize, not in 0..8usize) {
            let found = status(&budget(json!({"minAvailable": least})), &pods(ready, not), None);
            let ready = i32::try_from(ready).unwrap();
            let allowed = found.disruptions_allowed.unwrap();
            prop_assert!(allowed >= 0);
            prop_assert!(allowed == 0 || ready - allowed >= least);
        }
    }
}
