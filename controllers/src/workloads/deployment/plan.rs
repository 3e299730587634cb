//! What a Deployment does next, given its ReplicaSets.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;

use super::{
    progress,
    replica_set::{counted, find_new, make, revision_number, taken_over},
};
use crate::workloads::rollout::{self, Bounds, DESIRED_REPLICAS, MAX_REPLICAS, counts, is_recreate};

/// One pass over a Deployment.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// A ReplicaSet for a template that has none yet.
    pub create: Option<ReplicaSet>,
    /// ReplicaSets to resize or annotate.
    pub scale: Vec<Scale>,
    /// Names and uids of ReplicaSets beyond the history limit.
    pub delete: Vec<(String, String)>,
    /// The Deployment's revision annotation.
    pub revision: Option<String>,
    /// Whether the replicas are only shared out anew, since their number was changed.
    pub resized: bool,
    /// When the progress deadline is to be looked at.
    pub look_again_after_seconds: Option<u64>,
}

/// A change of one ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Its name.
    pub name: String,
    /// The revision that the decision rests on.
    pub resource_version: Option<String>,
    /// Replicas now.
    pub from: i32,
    /// Replicas next.
    pub to: i32,
    /// Annotations to set.
    pub annotations: BTreeMap<String, String>,
    /// As in the Deployment, for the present template's set.
    pub min_ready_seconds: Option<i32>,
}

/// What to do for `deployment`, given the ReplicaSets that are its own.
#[must_use]
pub fn plan(deployment: &Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Plan {
    let Some(spec) = &deployment.spec else { return Plan::default() };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let bounds = Bounds::of(deployment);
    let new = find_new(deployment, sets);
    let mut old: Vec<Arc<ReplicaSet>> = sets
        .iter()
        .filter(|set| new.as_ref().is_none_or(|new| new.metadata.uid != set.metadata.uid))
        .cloned()
        .collect();
    old.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.name_any()));
    let paused = spec.paused == Some(true);
    let highest = old.iter().map(|set| revision_number(set)).max().unwrap_or(0);
    let mut plan = Plan::default();
    let number = new.as_ref().map_or(0, |set| revision_number(set)).max(highest + 1);
    let resized = is_resized(bounds, new.iter().chain(&old));
    plan.resized = resized;
    if new.is_none() && !paused && !resized {
        plan.create = first_step(deployment, bounds, &old, number);
    }
    if new.is_some() || plan.create.is_some() {
        plan.revision = Some(number.to_string());
    }
    let next = if paused || resized {
        resize(bounds, new.as_ref(), &old)
    } else {
        next_step(deployment, bounds, new.as_ref(), &old)
    };
    plan.scale = scales(deployment, bounds, new.as_ref(), &old, &next, number, resized);
    if !paused && plan.create.is_none() && plan.scale.is_empty() && progress::is_complete(deployment) {
        plan.delete = beyond_history(spec.revision_history_limit, &old);
    }
    plan.look_again_after_seconds = progress::deadline_seconds(deployment, now);
    plan
}

/// The new set of a template that has none; with strategy Recreate only once no old pod is left.
fn first_step(deployment: &Deployment, bounds: Bounds, old: &[Arc<ReplicaSet>], revision: i64) -> Option<ReplicaSet> {
    let present: i32 = old.iter().map(|set| counts(set).wanted).sum();
    let replicas = if is_recreate(deployment) {
        if old.iter().any(|set| has_pods(set)) {
            return None;
        }
        bounds.replicas
    } else {
        (bounds.most() - present).clamp(0, bounds.replicas)
    };
    Some(make(deployment, bounds, replicas, revision))
}

fn has_pods(set: &ReplicaSet) -> bool {
    let terminating = set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0);
    let counts = counts(set);
    counts.wanted > 0 || counts.present > 0 || terminating > 0
}

/// Whether the Deployment was resized since a set was last scaled.
fn is_resized<'a>(bounds: Bounds, sets: impl Iterator<Item = &'a Arc<ReplicaSet>>) -> bool {
    sets.filter(|set| counts(set).wanted > 0).any(|set| {
        let desired = set.annotations().get(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
        desired.is_some_and(|desired| desired != bounds.replicas)
    })
}

type Next = BTreeMap<String, i32>;

fn next_step(deployment: &Deployment, bounds: Bounds, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Next {
    let Some(new) = new else {
        return if is_recreate(deployment) { all(old, 0) } else { Next::new() };
    };
    if is_recreate(deployment) {
        let mut next = all(old, 0);
        if !old.iter().any(|set| has_pods(set)) {
            next.insert(new.name_any(), bounds.replicas);
        }
        return next;
    }
    let old_counts: Vec<_> = old.iter().map(|set| counts(set)).collect();
    let (new_next, old_next) = rollout::rolling(bounds, counts(new), &old_counts);
    let mut next: Next = old.iter().map(|set| set.name_any()).zip(old_next).collect();
    next.insert(new.name_any(), new_next);
    next
}

fn all(sets: &[Arc<ReplicaSet>], replicas: i32) -> Next {
    sets.iter().map(|set| (set.name_any(), replicas)).collect()
}

/// The replicas of each set after the Deployment was resized (or paused, when nothing is rolled out).
fn resize(bounds: Bounds, new: Option<&Arc<ReplicaSet>>, old: &[Arc<ReplicaSet>]) -> Next {
    let mut sets: Vec<&Arc<ReplicaSet>> = new.into_iter().chain(old.iter().rev()).collect();
    let active: Vec<&Arc<ReplicaSet>> = sets.iter().copied().filter(|set| counts(set).wanted > 0).collect();
    if let [one] = active.as_slice() {
        return Next::from([(one.name_any(), bounds.replicas)]);
    }
    if active.is_empty() {
        sets.truncate(1);
        return sets.iter().map(|set| (set.name_any(), bounds.replicas)).collect();
    }
    if let Some(new) = new.filter(|new| is_saturated(bounds, new)) {
        let mut next = all(old, 0);
        next.insert(new.name_any(), bounds.replicas);
        return next;
    }
    let sizes: Vec<(i32, i32)> = active
        .iter()
        .map(|set| {
            let before = set.annotations().get(MAX_REPLICAS).and_then(|text| text.parse().ok()).unwrap_or(0);
            (counts(set).wanted, before)
        })
        .collect();
    active.iter().map(|set| set.name_any()).zip(rollout::proportional(bounds, &sizes)).collect()
}

fn is_saturated(bounds: Bounds, set: &ReplicaSet) -> bool {
    let desired = set.annotations().get(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
    let counts = counts(set);
    counts.wanted == bounds.replicas && desired == Some(bounds.replicas) && counts.available == bounds.replicas
}

fn scales(
    deployment: &Deployment,
    bounds: Bounds,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
    next: &Next,
    revision: i64,
    resized: bool,
) -> Vec<Scale> {
    let spec_min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let one = |set: &Arc<ReplicaSet>, is_new: bool| {
        let from = counts(set).wanted;
        let to = next.get(&set.name_any()).copied().unwrap_or(from);
        let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let mut wanted = if is_new { taken_over(deployment, set, revision) } else { BTreeMap::new() };
        // What the replicas were counted from is told when they are counted.
        if from != to || resized && from > 0 {
            wanted.extend(counted(bounds));
        }
        let annotated = wanted.iter().all(|(key, value)| set.annotations().get(key) == Some(value));
        let min_ready_changes = is_new && min_ready != spec_min_ready;
        let changes = from != to || !annotated || min_ready_changes;
        changes.then(|| Scale {
            name: set.name_any(),
            resource_version: set.metadata.resource_version.clone(),
            from,
            to,
            annotations: wanted,
            min_ready_seconds: if is_new { spec_min_ready } else { min_ready },
        })
    };
    new.into_iter().filter_map(|set| one(set, true)).chain(old.iter().filter_map(|set| one(set, false))).collect()
}

fn beyond_history(limit: Option<i32>, old: &[Arc<ReplicaSet>]) -> Vec<(String, String)> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let mut idle: Vec<&Arc<ReplicaSet>> = old.iter().filter(|set| !has_pods(set) && is_observed(set)).collect();
    idle.sort_by_key(|set| (revision_number(set), set.metadata.creation_timestamp.as_ref().map(|time| time.0)));
    let surplus = old.len().saturating_sub(limit);
    idle.into_iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .take(surplus)
        .map(|set| (set.name_any(), set.uid().unwrap_or_default()))
        .collect()
}

fn is_observed(set: &ReplicaSet) -> bool {
    set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
