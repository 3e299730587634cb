//! What a client sees of a pod: `status`, made from what is known.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
        HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    backoff::later,
    model::{Exit, Goal, Life, Observed, Record, Refusal, Role, Sandbox, Wanted},
    phase::{Phase, phase},
    qos,
};

/// The runtime's name, before the id of each container.
pub const RUNTIME: &str = "martello";

/// How long the reason of a failed pull is shown before the wait for the next one is, as upstream's next pass would.
pub const FRESH: std::time::Duration = std::time::Duration::from_secs(3);

/// The status of `pod`.
#[must_use]
pub fn status(pod: &Pod, goal: &Goal, observed: &Observed, host_ips: &[String], now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let shown = Shown { pod, goal, observed, now };
    let phase = phase(goal, observed);
    let init = shown.statuses(&goal.init);
    let main = shown.statuses(&goal.main);
    let ephemeral = shown.statuses(&goal.ephemeral);
    let conditions = shown.conditions(phase, &init, &main, &old);
    let ips = shown.ips(&old);
    let (reason, message) = match (&observed.ending, phase) {
        (Some(ending), Phase::Failed) => (Some(ending.reason.clone()), Some(ending.message.clone())),
        _ => (None, None),
    };
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        conditions: Some(conditions),
        reason,
        message,
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: observed.start_time.map(Time),
        qos_class: Some(qos::class(pod).to_owned()),
        init_container_statuses: non_empty(init),
        container_statuses: non_empty(main),
        ephemeral_container_statuses: non_empty(ephemeral),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

struct Shown<'a> {
    pod: &'a Pod,
    goal: &'a Goal,
    observed: &'a Observed,
    now: Timestamp,
}

impl Shown<'_> {
    fn ips(&self, old: &PodStatus) -> Vec<String> {
        match &self.observed.sandbox {
            Sandbox::Ready { ips } => ips.clone(),
            Sandbox::Stopping | Sandbox::Gone => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
            Sandbox::Absent | Sandbox::Starting | Sandbox::Failed { .. } => Vec::new(),
        }
    }

    fn statuses(&self, wanted: &[Wanted]) -> Vec<ContainerStatus> {
        wanted.iter().map(|wanted| self.container(wanted)).collect()
    }

    fn container(&self, wanted: &Wanted) -> ContainerStatus {
        let record = self.observed.record(&wanted.name);
        let (state, last) = self.states(wanted, &record);
        let id = record.life.run().map(|run| &run.id).or(record.life.exit().map(|exit| &exit.id));
        let id = id.or(record.previous.as_ref().map(|exit| &exit.id)).filter(|id| !id.is_empty());
        let done = wanted.role == Role::Init && record.life.exit().is_some_and(|exit| exit.code == 0);
        let runs = record.life.run().is_some();
        ContainerStatus {
            name: wanted.name.clone(),
            image: self.image(&wanted.name),
            image_id: record.image_id.clone().unwrap_or_default(),
            container_id: id.map(|id| container_id(id)),
            ready: done || (runs && record.ready && wanted.role != Role::Init),
            started: Some(runs && record.started && wanted.role != Role::Init),
            restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: Some(last.as_ref().map(terminated).unwrap_or_default()),
            ..ContainerStatus::default()
        }
    }

    fn image(&self, name: &str) -> String {
        let Some(spec) = &self.pod.spec else { return String::new() };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut images = containers.map(|container| (&container.name, &container.image));
        let found = images.find(|(own, _)| *own == name).and_then(|(_, image)| image.clone());
        let mut ephemeral = spec.ephemeral_containers.iter().flatten();
        found.or_else(|| ephemeral.find(|own| own.name == name)?.image.clone()).unwrap_or_default()
    }

    /// The present state, and the last one that ended.
    fn states(&self, wanted: &Wanted, record: &Record) -> (ContainerState, Option<Exit>) {
        let previous = record.previous.clone();
        match &record.life {
            Life::Running(run) | Life::Quitting { run, .. } => {
                let running = ContainerStateRunning { started_at: Some(Time(run.started_at)) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, previous)
            }
            Life::Exited(exit) => match self.crash_loop(wanted, record, exit) {
                Some(message) => (waiting("CrashLoopBackOff", Some(message)), Some(exit.clone())),
                None => (terminated(exit), previous),
            },
            Life::Starting { after: Some(exit) } => (terminated(exit), previous),
            Life::Refused { exit, refusal } => (self.refused(&wanted.name, refusal), Some(exit.clone())),
            Life::Waiting(Some(refusal)) => (self.refused(&wanted.name, refusal), previous),
            Life::Waiting(None) | Life::Starting { after: None } => {
                let reason = if self.goal.init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
                (waiting(reason, None), previous)
            }
        }
    }

    fn refused(&self, name: &str, refusal: &Refusal) -> ContainerState {
        let (reason, message) = refusal.shown(&self.image(name), self.now);
        waiting(&reason, Some(message))
    }

    fn crash_loop(&self, wanted: &Wanted, record: &Record, exit: &Exit) -> Option<String> {
        let ends = self.goal.deletion.is_some() || self.observed.ending.is_some() || self.observed.settled;
        if ends || !wanted.restarts_after(exit.code) {
            return None;
        }
        record.backoff.due(exit.finished_at).filter(|due| *due > self.now)?;
        Some(format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(record.backoff.wait()),
            wanted.name,
            full_name(self.pod)
        ))
    }

    fn conditions(
        &self,
        phase: Phase,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
        old: &PodStatus,
    ) -> Vec<PodCondition> {
        let mut wanted: BTreeMap<&str, (bool, Option<&str>, Option<String>)> = BTreeMap::new();
        wanted.insert("PodScheduled", (true, None, None));
        // What has ended never starts a container again: upstream's sandbox is gone by then.
        let sandbox = matches!(self.observed.sandbox, Sandbox::Ready { .. }) && !self.observed.settled;
        wanted.insert("PodReadyToStartContainers", (sandbox, None, None));
        let incomplete = not_ready(init, self.goal, |status| {
            let role = self.goal.find(&status.name).map(|wanted| wanted.role);
            if role == Some(Role::Sidecar) { status.started == Some(true) } else { status.ready }
        });
        let initialized = phase == Phase::Succeeded || self.observed.initialized || incomplete.is_empty();
        wanted.insert(
            "Initialized",
            match (initialized, phase) {
                (true, Phase::Succeeded) => (true, Some("PodCompleted"), None),
                (true, _) => (true, None, None),
                (false, _) => {
                    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
                    (false, Some("ContainersNotInitialized"), Some(message))
                }
            },
        );
        let containers_ready = self.containers_ready(phase, init, main);
        wanted.insert("Ready", self.gated(&containers_ready, old));
        wanted.insert("ContainersReady", containers_ready);
        let own = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
        let mut conditions: Vec<PodCondition> =
            own.iter().filter_map(|name| Some(self.condition(name, wanted.remove(name)?, old))).collect();
        let foreign = old.conditions.iter().flatten().filter(|one| !own.contains(&one.type_.as_str()));
        conditions.extend(foreign.cloned());
        conditions
    }

    fn containers_ready(
        &self,
        phase: Phase,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
    ) -> (bool, Option<&'static str>, Option<String>) {
        match phase {
            Phase::Succeeded => return (false, Some("PodCompleted"), None),
            Phase::Failed => return (false, Some("PodFailed"), None),
            Phase::Pending | Phase::Running => {}
        }
        let sidecars = init
            .iter()
            .filter(|status| self.goal.find(&status.name).is_some_and(|wanted| wanted.role == Role::Sidecar));
        let all: Vec<ContainerStatus> = sidecars.chain(main).cloned().collect();
        let unready = not_ready(&all, self.goal, |status| status.ready);
        if unready.is_empty() {
            return (true, None, None);
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        (false, Some("ContainersNotReady"), Some(message))
    }

    /// `Ready` is `ContainersReady` and every readiness gate.
    fn gated(
        &self,
        containers: &(bool, Option<&'static str>, Option<String>),
        old: &PodStatus,
    ) -> (bool, Option<&'static str>, Option<String>) {
        if !containers.0 {
            return containers.clone();
        }
        let gates = self.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        let mut messages = Vec::new();
        for gate in gates {
            match old.conditions.iter().flatten().find(|one| one.type_ == gate.condition_type) {
                None => messages.push(format!(
                    "corresponding condition of pod readiness gate {:?} does not exist.",
                    gate.condition_type
                )),
                Some(one) if one.status != "True" => messages.push(format!(
                    "the status of pod readiness gate {:?} is not \"True\", but {}",
                    gate.condition_type, one.status
                )),
                Some(_) => {}
            }
        }
        if messages.is_empty() {
            return (true, None, None);
        }
        (false, Some("ReadinessGatesNotReady"), Some(messages.join(", ")))
    }

    fn condition(
        &self,
        name: &str,
        (holds, reason, message): (bool, Option<&str>, Option<String>),
        old: &PodStatus,
    ) -> PodCondition {
        let status = if holds { "True" } else { "False" };
        let before = old.conditions.iter().flatten().find(|one| one.type_ == name);
        let unchanged = before.filter(|one| one.status == status).and_then(|one| one.last_transition_time.clone());
        PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(unchanged.unwrap_or(Time(whole_seconds(self.now)))),
            last_probe_time: None,
            observed_generation: self.pod.metadata.generation,
        }
    }
}

fn not_ready(statuses: &[ContainerStatus], goal: &Goal, ready: impl Fn(&ContainerStatus) -> bool) -> Vec<String> {
    let known = statuses.iter().filter(|status| goal.find(&status.name).is_some());
    known.filter(|status| !ready(status)).map(|status| status.name.clone()).collect()
}

impl Refusal {
    /// Reason and message as clients see them: first the failure, then the wait for the next try.
    #[must_use]
    pub fn shown(&self, image: &str, now: Timestamp) -> (String, String) {
        if self.waits_for_image(now) {
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {}", self.message);
            return ("ImagePullBackOff".to_owned(), message);
        }
        (self.reason.clone(), self.message.clone())
    }

    /// Whether what clients see is the wait for the next pull.
    #[must_use]
    pub fn waits_for_image(&self, now: Timestamp) -> bool {
        self.reason == "ErrImagePull" && now >= later(self.at, FRESH)
    }
}

/// `martello://<id>`.
#[must_use]
pub fn container_id(id: &str) -> String {
    format!("{RUNTIME}://{id}")
}

/// `name_namespace(uid)`: how upstream's messages name a pod.
#[must_use]
pub fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(exit: &Exit) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: (!exit.id.is_empty()).then(|| container_id(&exit.id)),
        exit_code: exit.code,
        signal: None,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: exit.started_at.map(|time| Time(whole_seconds(time))),
        finished_at: Some(Time(whole_seconds(exit.finished_at))),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// Times on the wire have whole seconds; cut here, a status compares equal to what the server sends back.
#[must_use]
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `10s`, `1m20s`, `5m0s`: a duration as Go writes it.
#[must_use]
pub fn go_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}
