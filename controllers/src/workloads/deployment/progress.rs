//! The status of a Deployment: counts, and the conditions that `kubectl rollout status` reads.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
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

/// The status of `deployment`, given the ReplicaSets that are its own.
pub(super) fn status(deployment: &Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let new = find_new(deployment, sets);
    let sum = |value: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(|set| value(set)).sum::<i32>();
    let unless_zero = |count: i32| (count != 0).then_some(count);
    let replicas = sum(&|set| counts(set).present);
    let available = sum(&|set| counts(set).available);
    let wanted = sum(&|set| counts(set).wanted);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(replicas),
        updated_replicas: unless_zero(new.as_ref().map_or(0, |set| counts(set).present)),
        ready_replicas: unless_zero(sum(&|set| {
            set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
        })),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero((wanted - available).max(0)),
        terminating_replicas: Some(sum(&|set| {
            set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0)
        })),
        collision_count: old.collision_count,
        conditions: None,
    };
    let mut conditions = vec![settle(&old, available_condition(deployment, available), now)];
    if let Some(progressing) = progressing(deployment, &old, &status, new.as_deref(), now) {
        let moved = has_moved(&old, &status);
        let mut progressing = settle(&old, progressing, now);
        if moved && progressing.status == "True" {
            progressing.last_update_time = Some(Time(now));
        }
        conditions.push(progressing);
    }
    if let Some(failure) = sets.iter().find_map(|set| failure(set)) {
        conditions.push(settle(&old, failure, now));
    }
    status.conditions = Some(conditions);
    status
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

fn failure(set: &ReplicaSet) -> Option<Told> {
    let conditions = set.status.as_ref()?.conditions.as_deref()?;
    let failure =
        conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    Some(("ReplicaFailure", "True", "FailedCreate", failure.message.clone().unwrap_or_default()))
}

fn has_moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let value = |count: Option<i32>| count.unwrap_or(0);
    let left_over = |status: &DeploymentStatus| value(status.replicas) - value(status.updated_replicas);
    value(new.updated_replicas) > value(old.updated_replicas)
        || left_over(new) < left_over(old)
        || value(new.ready_replicas) > value(old.ready_replicas)
        || value(new.available_replicas) > value(old.available_replicas)
}

fn progressing(
    deployment: &Deployment,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    set: Option<&ReplicaSet>,
    now: Timestamp,
) -> Option<Told> {
    let deadline = deadline(deployment)?;
    let was = condition(old, "Progressing");
    let was_for = |reason: &str| was.is_some_and(|was| was.reason.as_deref() == Some(reason));
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        if was_for("ProgressDeadlineExceeded") {
            return was.map(keep);
        }
        return Some(("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".to_owned()));
    }
    let Some(set) = set else {
        return was.map(keep);
    };
    let name = set.name_any();
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let all = |count: Option<i32>| count.unwrap_or(0) == replicas;
    if all(new.updated_replicas) && all(new.replicas) && all(new.available_replicas) {
        return Some((
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            format!("ReplicaSet {name:?} has successfully progressed."),
        ));
    }
    // A finished rollout stays finished while pods come and go; only a new template starts another.
    if was_for("NewReplicaSetAvailable") && new.replicas == new.updated_replicas {
        return was.map(keep);
    }
    if was_for("DeploymentPaused") {
        return Some(("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()));
    }
    if has_moved(old, new) || was.is_none() || was_for("NewReplicaSetAvailable") {
        return Some(("Progressing", "True", "ReplicaSetUpdated", format!("ReplicaSet {name:?} is progressing.")));
    }
    let since = was.and_then(|was| was.last_update_time.as_ref()).map_or(now, |time| time.0);
    if was_for("ProgressDeadlineExceeded") || now.as_second() - since.as_second() > i64::from(deadline) {
        let message = format!("ReplicaSet {name:?} has timed out progressing.");
        return Some(("Progressing", "False", "ProgressDeadlineExceeded", message));
    }
    was.map(keep)
}

fn keep(was: &DeploymentCondition) -> Told {
    let status = match was.status.as_str() {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    };
    let known = [
        "NewReplicaSetAvailable",
        "ReplicaSetUpdated",
        "ProgressDeadlineExceeded",
        "DeploymentPaused",
        "DeploymentResumed",
    ];
    let reason = known.into_iter().find(|reason| was.reason.as_deref() == Some(reason)).unwrap_or("ReplicaSetUpdated");
    ("Progressing", status, reason, was.message.clone().unwrap_or_default())
}

/// The condition as it is to be written: times change only when what they tell of changes.
fn settle(old: &DeploymentStatus, told: Told, now: Timestamp) -> DeploymentCondition {
    let (type_, status, reason, message) = told;
    let was = condition(old, type_);
    let same_status = was.filter(|was| was.status == status);
    let same =
        same_status.filter(|was| was.reason.as_deref() == Some(reason) && was.message.as_deref() == Some(&message));
    let or_now = |time: Option<Time>| Some(time.unwrap_or(Time(now)));
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        last_transition_time: or_now(same_status.and_then(|was| was.last_transition_time.clone())),
        last_update_time: or_now(same.and_then(|was| was.last_update_time.clone())),
        message: Some(message),
    }
}
