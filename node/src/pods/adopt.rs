//! What an agent that has just started knows of a pod: from its runtime first, from the API server's memory second.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus as Reported, Pod, PodStatus};

use super::{
    backoff::Backoff,
    model::{Ending, Exit, Goal, Life, Observed, Record, Role, Run, Sandbox, Stage, Wanted},
};
use crate::runtime::{ContainerState, ContainerStatus, Sandbox as Made};

/// The state of a pod that may run already.
#[must_use]
pub fn adopt(pod: &Pod, goal: &Goal, made: Option<&Made>, found: &[ContainerStatus], now: Timestamp) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let reported: Vec<&Reported> = [&status.init_container_statuses, &status.container_statuses]
        .into_iter()
        .chain([&status.ephemeral_container_statuses])
        .flat_map(|list| list.iter().flatten())
        .collect();
    let mut observed = Observed {
        start_time: Some(status.start_time.as_ref().map_or(now, |time| time.0)),
        settled: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        ending: ending(&status),
        ..Observed::default()
    };
    if let Some(made) = made {
        observed.sandbox = Sandbox::Ready { ips: made.ip.iter().map(ToString::to_string).collect() };
        // What was written before lies there; it's compared and brought up to date by the next refresh.
        observed.volumes = if found.is_empty() { Stage::Pending } else { Stage::Done };
    }
    for wanted in goal.all() {
        let told = reported.iter().find(|one| one.name == wanted.name).copied();
        let own: Vec<&ContainerStatus> = found.iter().filter(|one| one.name == wanted.name).collect();
        let record = record(pod, wanted, told, &own, made.is_some(), observed.settled, now);
        observed.containers.insert(wanted.name.clone(), record);
    }
    let begun = goal.main.iter().any(|wanted| found.iter().any(|one| one.name == wanted.name));
    observed.initialized = made.is_some() && (begun || goal.init.is_empty());
    observed
}

/// Why a pod that has failed was ended: an agent that comes later must not forget it.
fn ending(status: &PodStatus) -> Option<Ending> {
    let reason = status.reason.clone().filter(|_| status.phase.as_deref() == Some("Failed"))?;
    Some(Ending { reason, message: status.message.clone().unwrap_or_default(), grace: None })
}

fn record(
    pod: &Pod,
    wanted: &Wanted,
    told: Option<&Reported>,
    own: &[&ContainerStatus],
    sandbox: bool,
    settled: bool,
    now: Timestamp,
) -> Record {
    let mut record = remembered(told);
    let latest = own.iter().max_by_key(|status| status.attempt);
    let Some(latest) = latest else {
        // Nothing of it is here: what the API server believes to run died with its sandbox.
        let rerun = wanted.role == Role::Init || wanted.role == Role::Sidecar;
        if let Some(exit) = last_known(told, now) {
            if (rerun || sandbox) && !settled {
                record.previous = Some(exit);
            } else {
                record.life = Life::Exited(exit);
            }
        }
        return record;
    };
    record.restarts = record.restarts.max(latest.attempt);
    let same = told.and_then(|told| told.container_id.as_deref()) == Some(&super::status::container_id(&latest.id));
    match &latest.state {
        ContainerState::Running { started_at, .. } => {
            record.life = Life::Running(Run { id: latest.id.clone(), started_at: *started_at });
            let (startup, readiness) = probes(pod, &wanted.name);
            record.gated = readiness;
            record.started = !startup || (same && told.is_some_and(|told| told.started == Some(true)));
            let was_ready = same && told.is_some_and(|told| told.ready);
            record.ready = record.started && (!readiness || was_ready);
            record.backoff = Backoff::assumed(record.restarts, *started_at);
        }
        ContainerState::Exited { started_at, .. } => {
            if let Some(exit) = exit(latest) {
                record.backoff = Backoff::assumed(record.restarts, *started_at);
                record.life = Life::Exited(exit);
            }
        }
    }
    record
}

/// How a container of the runtime ended, if it has.
#[must_use]
pub fn exit(status: &ContainerStatus) -> Option<Exit> {
    let ContainerState::Exited { started_at, finished_at, exit, message } = &status.state else { return None };
    let reason = match (exit.oom_killed, exit.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    Some(Exit {
        id: status.id.clone(),
        code: exit.code,
        reason: reason.to_owned(),
        message: message.clone(),
        started_at: Some(*started_at),
        finished_at: *finished_at,
    })
}

/// Whether a container has a startup and a readiness probe.
#[must_use]
pub fn probes(pod: &Pod, name: &str) -> (bool, bool) {
    let all = |pod: &Pod| -> Vec<_> {
        let spec = pod.spec.clone().unwrap_or_default();
        spec.containers.into_iter().chain(spec.init_containers.into_iter().flatten()).collect()
    };
    let found = all(pod).into_iter().find(|container| container.name == name);
    found.map_or((false, false), |own| (own.startup_probe.is_some(), own.readiness_probe.is_some()))
}

fn remembered(told: Option<&Reported>) -> Record {
    let Some(told) = told else { return Record::default() };
    let last = told.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    Record {
        restarts: u32::try_from(told.restart_count).unwrap_or(0),
        image_id: (!told.image_id.is_empty()).then(|| told.image_id.clone()),
        previous: last.and_then(ended),
        ..Record::default()
    }
}

/// How the run that the API server knows of ended, as far as anybody knows.
fn last_known(told: Option<&Reported>, now: Timestamp) -> Option<Exit> {
    let told = told?;
    let state = told.state.as_ref()?;
    if let Some(terminated) = &state.terminated {
        return ended(terminated);
    }
    let running = state.running.as_ref()?;
    Some(Exit {
        id: told.container_id.as_deref().map(bare_id).unwrap_or_default(),
        code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the pod was adopted".to_owned(),
        started_at: running.started_at.as_ref().map(|time| time.0),
        finished_at: now,
    })
}

fn ended(state: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> Option<Exit> {
    Some(Exit {
        id: state.container_id.as_deref().map(bare_id).unwrap_or_default(),
        code: state.exit_code,
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone().unwrap_or_default(),
        started_at: state.started_at.as_ref().map(|time| time.0),
        finished_at: state.finished_at.as_ref()?.0,
    })
}

fn bare_id(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, bare)| bare).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::runtime;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
            "status": status,
        }))
        .unwrap()
    }

    fn made() -> Made {
        Made {
            uid: "u".into(),
            namespace: "d".into(),
            name: "p".into(),
            ip: Some("10.1.0.2".parse().unwrap()),
            log_dir: PathBuf::new(),
        }
    }

    fn told(id: &str) -> serde_json::Value {
        json!({"phase": "Running", "containerStatuses": [{"name": "a", "image": "i", "imageID": "i@sha256:1",
            "ready": true, "started": true, "restartCount": 3, "containerID": format!("martello://{id}"),
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]})
    }

    fn running(attempt: u32) -> ContainerStatus {
        ContainerStatus {
            id: format!("a-{attempt}"),
            name: "a".into(),
            attempt,
            state: runtime::ContainerState::Running { started_at: Timestamp::UNIX_EPOCH, pid: 1, started: 1, uid: 0 },
            log_path: PathBuf::new(),
        }
    }

    #[test]
    fn a_running_container_stays_ready_and_keeps_its_count() {
        let pod = pod(told("a-3"));
        let goal = Goal::of(&pod);
        let observed = adopt(&pod, &goal, Some(&made()), &[running(3)], Timestamp::UNIX_EPOCH);
        let record = observed.record("a");
        assert_eq!((record.restarts, record.ready), (3, true));
        assert!(observed.initialized && matches!(record.life, Life::Running(_)));
    }

    #[test]
    fn a_container_that_is_newer_than_the_report_is_not_ready_yet() {
        let pod = pod(told("a-3"));
        let observed = adopt(&pod, &Goal::of(&pod), Some(&made()), &[running(4)], Timestamp::UNIX_EPOCH);
        assert_eq!((observed.record("a").restarts, observed.record("a").ready), (4, false));
    }

    #[test]
    fn why_a_pod_failed_is_not_forgotten() {
        let pod = pod(json!({"phase": "Failed", "reason": "Evicted", "message": "too much. "}));
        let goal = Goal::of(&pod);
        let observed = adopt(&pod, &goal, None, &[], Timestamp::UNIX_EPOCH);
        let shown = super::super::status::status(&pod, &goal, &observed, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(shown.phase.as_deref(), Some("Failed"));
        assert_eq!((shown.reason.as_deref(), shown.message.as_deref()), (Some("Evicted"), Some("too much. ")));
    }

    #[test]
    fn after_a_reboot_what_ran_is_known_to_have_ended() {
        let pod = pod(told("a-3"));
        let observed = adopt(&pod, &Goal::of(&pod), None, &[], Timestamp::UNIX_EPOCH);
        let exit = observed.record("a").life.exit().cloned().unwrap();
        assert_eq!((exit.reason.as_str(), exit.id.as_str()), ("ContainerStatusUnknown", "a-3"));
        assert_eq!(observed.sandbox, Sandbox::Absent);
    }
}
