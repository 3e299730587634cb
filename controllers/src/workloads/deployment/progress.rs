//! The status of a Deployment: counts, and the conditions that `kubectl rollout status` reads.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::replica_set::find_new;
use crate::workloads::rollout::{Bounds, counts};

/// The value of `progressDeadlineSeconds` that stands for "no deadline".
const NO_DEADLINE: i32 = i32::MAX;

fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != NO_DEADLINE)
}

fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether every replica is of the present template and available, and the status tells of the present spec.
pub(super) fn is_complete(deployment: &Deployment) -> bool {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return false };
    status.updated_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
        && status.observed_generation >= deployment.metadata.generation
}

/// In how many seconds the progress deadline runs out, while a rollout is under way.
pub(super) fn deadline_seconds(deployment: &Deployment, now: Timestamp) -> Option<u64> {
    let deadline = deadline(deployment)?;
    let progressing = condition(deployment.status.as_ref()?, "Progressing")?;
    if progressing.status != "True" || progressing.reason.as_deref() == Some("NewReplicaSetAvailable") {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    let left = since.as_second() + i64::from(deadline) - now.as_second() + 1;
    Some(u64::try_from(left).unwrap_or(1).max(1))
}

/// How a pass changed what is told of a rollout, besides its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The set that was just made for the present template.
    pub(super) made: Option<String>,
    /// Why none could be made.
    pub(super) failed: Option<String>,
    /// Whether the pass only shared out a new number of replicas, and so tells of no progress.
    pub(super) resized: bool,
}

/// The status of `deployment`, given the ReplicaSets that are its own.
pub(super) fn status(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    step: &Step,
    now: Timestamp,
) -> DeploymentStatus {
    let mut old = deployment.status.clone().unwrap_or_default();
    let new = find_new(deployment, sets);
    prepare(deployment, &mut old, new.as_deref(), step, now);
    let mut status = counted(deployment, &old, sets, new.as_deref());
    let available = available_condition(deployment, status.available_replicas.unwrap_or(0));
    set(&mut status, available, now);
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) || step.resized {
        return status;
    }
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    } else {
        progress(deployment, &old, &mut status, new.as_deref(), now);
    }
    match failure(sets, new.as_deref()) {
        Some(failure) => set_condition(&mut status, failure),
        None => remove(&mut status, "ReplicaFailure"),
    }
    status
}

const PROGRESSING: &str = "Progressing";

/// What is told before the counts are looked at: that the rollout was paused or resumed, or that it has a set now.
fn prepare(deployment: &Deployment, old: &mut DeploymentStatus, new: Option<&ReplicaSet>, step: &Step, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let was_for = |status: &DeploymentStatus, reason: &str| {
        condition(status, PROGRESSING).is_some_and(|was| was.reason.as_deref() == Some(reason))
    };
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    let told_paused = was_for(old, "DeploymentPaused");
    if !was_for(old, "ProgressDeadlineExceeded") {
        if paused && !told_paused {
            let message = "Deployment is paused".to_owned();
            set(old, (PROGRESSING, "Unknown", "DeploymentPaused", message), now);
        } else if !paused && told_paused {
            let message = "Deployment is resumed".to_owned();
            set(old, (PROGRESSING, "Unknown", "DeploymentResumed", message), now);
        }
    }
    if let Some(made) = &step.made {
        let message = format!("Created new replica set {made:?}");
        set(old, (PROGRESSING, "True", "NewReplicaSetCreated", message), now);
    } else if let Some(why) = &step.failed {
        set(old, (PROGRESSING, "False", "ReplicaSetCreateError", why.clone()), now);
    } else if let Some(found) = new.filter(|_| condition(old, PROGRESSING).is_none()) {
        let message = format!("Found new replica set {:?}", found.name_any());
        set(old, (PROGRESSING, "True", "FoundNewReplicaSet", message), now);
    }
}

/// The counts, with the conditions as they were.
fn counted(
    deployment: &Deployment,
    old: &DeploymentStatus,
    sets: &[Arc<ReplicaSet>],
    new: Option<&ReplicaSet>,
) -> DeploymentStatus {
    let sum = |value: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(|set| value(set)).sum::<i32>();
    let of = |read: fn(&ReplicaSetStatus) -> Option<i32>| sum(&|set| set.status.as_ref().and_then(read).unwrap_or(0));
    let unless_zero = |count: i32| (count != 0).then_some(count);
    let available = sum(&|set| counts(set).available);
    let wanted = sum(&|set| counts(set).wanted);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(sum(&|set| counts(set).present)),
        updated_replicas: unless_zero(new.map_or(0, |set| counts(set).present)),
        ready_replicas: unless_zero(of(|status| status.ready_replicas)),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero((wanted - available).max(0)),
        terminating_replicas: Some(of(|status| status.terminating_replicas)),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    }
}

type Told = (&'static str, &'static str, &'static str, String);

fn available_condition(deployment: &Deployment, available: i32) -> Told {
    let bounds = Bounds::of(deployment);
    if available >= bounds.replicas - bounds.max_unavailable {
        ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        (
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        )
    }
}

/// What a set fails at: the new one before the others.
fn failure(sets: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_deref()?;
        conditions.iter().find(|condition| condition.type_ == "ReplicaFailure").cloned()
    };
    let found = new.and_then(of).or_else(|| sets.iter().find_map(|set| of(set)))?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

fn has_moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let value = |count: Option<i32>| count.unwrap_or(0);
    let left_over = |status: &DeploymentStatus| value(status.replicas) - value(status.updated_replicas);
    value(new.updated_replicas) > value(old.updated_replicas)
        || left_over(new) < left_over(old)
        || value(new.ready_replicas) > value(old.ready_replicas)
        || value(new.available_replicas) > value(old.available_replicas)
}

/// Tells how the rollout goes. One that came to its end stays there while pods come and go.
fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    set_of_template: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let was = condition(old, PROGRESSING).cloned();
    let was_for = |reason: &str| was.as_ref().is_some_and(|was| was.reason.as_deref() == Some(reason));
    if status.replicas == status.updated_replicas && was_for("NewReplicaSetAvailable") {
        return;
    }
    let what = set_of_template.map_or_else(
        || format!("Deployment {:?}", deployment.name_any()),
        |set| format!("ReplicaSet {:?}", set.name_any()),
    );
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let all = |count: Option<i32>| count.unwrap_or(0) == replicas;
    if all(status.updated_replicas) && all(status.replicas) && all(status.available_replicas) {
        let message = format!("{what} has successfully progressed.");
        set(status, (PROGRESSING, "True", "NewReplicaSetAvailable", message), now);
    } else if has_moved(old, status) {
        let mut told = made((PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing.")), now);
        if let Some(was) = was.filter(|was| was.status == "True") {
            told.last_transition_time = was.last_transition_time;
        }
        remove(status, PROGRESSING);
        set_condition(status, told);
    } else if is_late(deployment, was.as_ref(), now) {
        let message = format!("{what} has timed out progressing.");
        set(status, (PROGRESSING, "False", "ProgressDeadlineExceeded", message), now);
    }
}

fn is_late(deployment: &Deployment, was: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    let (Some(was), Some(deadline)) = (was, deadline(deployment)) else { return false };
    match was.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => {
            let since = was.last_update_time.as_ref().map_or(now, |time| time.0);
            now.as_second() - since.as_second() > i64::from(deadline)
        }
    }
}

fn made((type_, status, reason, message): Told, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn set(status: &mut DeploymentStatus, told: Told, now: Timestamp) {
    set_condition(status, made(told, now));
}

/// Puts a condition behind the others, unless it says the same for the same reason as before.
fn set_condition(status: &mut DeploymentStatus, mut told: DeploymentCondition) {
    let was = condition(status, &told.type_);
    if was.is_some_and(|was| was.status == told.status && was.reason == told.reason) {
        return;
    }
    if let Some(was) = was.filter(|was| was.status == told.status) {
        told.last_transition_time.clone_from(&was.last_transition_time);
    }
    remove(status, &told.type_);
    status.conditions.get_or_insert_default().push(told);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(all) = &mut status.conditions {
        all.retain(|condition| condition.type_ != kind);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(status: &DeploymentStatus, paused: bool) -> Deployment {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 1}, "status": status,
            "spec": {"replicas": 1, "progressDeadlineSeconds": 60, "paused": paused,
                "selector": {"matchLabels": {"a": "b"}}, "template": template}}))
        .unwrap()
    }

    fn set(status: Value) -> Vec<Arc<ReplicaSet>> {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        vec![Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "d-1"}, "status": status,
                "spec": {"replicas": 1, "selector": {}, "template": template}}))
            .unwrap(),
        )]
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reasons(status: &DeploymentStatus) -> Vec<&str> {
        status.conditions.iter().flatten().filter_map(|own| own.reason.as_deref()).collect()
    }

    #[test]
    fn a_rollout_is_told_step_by_step() {
        let none = DeploymentStatus::default();
        let step = Step { made: Some("d-1".to_owned()), ..Step::default() };
        let first = status(&deployment(&none, false), &set(json!({"replicas": 0})), &step, at(1));
        assert_eq!(reasons(&first), ["NewReplicaSetCreated", "MinimumReplicasUnavailable"]);
        let next = status(&deployment(&first, false), &set(json!({"replicas": 1})), &Step::default(), at(2));
        assert_eq!(reasons(&next), ["MinimumReplicasUnavailable", "ReplicaSetUpdated"]);
        let ready = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
        let last = status(&deployment(&next, false), &set(ready), &Step::default(), at(3));
        assert_eq!(reasons(&last), ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    }

    #[test]
    fn what_is_made_anew_at_once_is_available_when_all_of_it_is() {
        let mut recreated = deployment(&DeploymentStatus::default(), false);
        recreated.spec.as_mut().unwrap().strategy = serde_json::from_value(json!({"type": "Recreate"})).unwrap();
        let none = status(&recreated, &set(json!({"replicas": 1})), &Step::default(), at(1));
        assert!(reasons(&none).contains(&"MinimumReplicasUnavailable"), "{:?}", reasons(&none));
        let ready = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
        let all = status(&recreated, &set(ready), &Step::default(), at(2));
        assert!(reasons(&all).contains(&"MinimumReplicasAvailable"), "{:?}", reasons(&all));
    }

    #[test]
    fn a_rollout_that_stands_still_is_late_after_its_time() {
        let none = DeploymentStatus::default();
        let step = Step { made: Some("d-1".to_owned()), ..Step::default() };
        let first = status(&deployment(&none, false), &set(json!({"replicas": 0})), &step, at(1));
        let same = status(&deployment(&first, false), &set(json!({"replicas": 0})), &Step::default(), at(60));
        assert_eq!(same, first);
        let late = status(&deployment(&first, false), &set(json!({"replicas": 0})), &Step::default(), at(62));
        assert_eq!(reasons(&late), ["MinimumReplicasUnavailable", "ProgressDeadlineExceeded"]);
    }

    #[test]
    fn a_failure_of_the_set_is_handed_on_as_it_is() {
        let none = DeploymentStatus::default();
        let failing = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let step = Step { made: Some("d-1".to_owned()), ..Step::default() };
        let told = status(&deployment(&none, false), &set(failing), &step, at(1));
        assert_eq!(reasons(&told), ["NewReplicaSetCreated", "MinimumReplicasUnavailable", "FailedCreate"]);
    }

    #[test]
    fn a_pause_is_told() {
        let none = DeploymentStatus::default();
        let paused = status(&deployment(&none, true), &[], &Step::default(), at(1));
        assert_eq!(reasons(&paused), ["DeploymentPaused", "MinimumReplicasUnavailable"]);
        let resumed = status(&deployment(&paused, false), &[], &Step::default(), at(2));
        assert_eq!(reasons(&resumed), ["MinimumReplicasUnavailable", "DeploymentResumed"]);
    }
}
