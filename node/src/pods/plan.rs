//! What to do next for one pod: a pure function of what it wants, what is known, and the time.

use jiff::Timestamp;

use super::{
    backoff::later,
    model::{Ending, Goal, Life, Observed, Quit, Record, RestartPolicy, Role, Run, Sandbox, Stage, Wanted},
    phase::{Phase, phase},
    status::FRESH,
};

/// Something to be done for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the shim, the namespaces and the address.
    StartSandbox,
    /// Gather what the volumes hold and put it in place.
    PrepareVolumes,
    /// Pull, judge, make and start a container.
    Start {
        /// The container.
        name: String,
    },
    /// Call what the container wants called before it is asked to stop.
    PreStop {
        /// The container.
        name: String,
        /// Its run.
        id: String,
        /// When it is killed.
        deadline: Timestamp,
        /// Why it must end, for the event.
        why: Why,
    },
    /// Ask a container to stop.
    Ask {
        /// The container.
        name: String,
        /// Its run.
        id: String,
        /// When it is killed.
        deadline: Timestamp,
        /// Why it must end, for the event.
        why: Why,
    },
    /// Kill a container.
    Kill {
        /// The container.
        name: String,
        /// Its run.
        id: String,
    },
    /// Note that everything that runs first has run.
    Initialized,
    /// Note that the pod ends before its containers do.
    End(Ending),
    /// Note that the pod has come to its end: nothing is started any more.
    Settle,
    /// Delete what the volumes hold: nothing runs any more that could read it.
    EmptyVolumes,
    /// Take the sandbox down.
    StopSandbox,
    /// Report the final status, then remove the pod from the API server.
    Remove,
}

/// Why a container is told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pod is deleted or has ended.
    PodEnds,
    /// Its own probe or hook says so.
    Doomed(String),
    /// Already told in an earlier event.
    Told,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be begun at once, in this order.
    pub actions: Vec<Action>,
    /// When the time itself asks for something.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// A killed hook leaves its container at least this long to stop by itself, as upstream does.
const LEAST_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// What to do next.
#[must_use]
pub fn plan(goal: &Goal, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if observed.sandbox == Sandbox::Gone && (goal.deletion.is_none() || observed.removal == Stage::Done) {
        return plan;
    }
    if let Some(ending) = deadline_passed(goal, observed, now, &mut plan) {
        plan.actions.push(Action::End(ending));
        plan.wake_at(now);
        return plan;
    }
    if goal.deletion.is_some() || observed.ending.is_some() || observed.settled {
        wind_down(goal, observed, now, &mut plan);
        return plan;
    }
    if matches!(phase(goal, observed), Phase::Succeeded | Phase::Failed) {
        plan.actions.push(Action::Settle);
        plan.wake_at(now);
        return plan;
    }
    match &observed.sandbox {
        Sandbox::Absent => plan.actions.push(Action::StartSandbox),
        Sandbox::Failed { retry, .. } if *retry <= now => plan.actions.push(Action::StartSandbox),
        Sandbox::Failed { retry, .. } => plan.wake_at(*retry),
        Sandbox::Ready { .. } => with_sandbox(goal, observed, now, &mut plan),
        Sandbox::Starting | Sandbox::Stopping | Sandbox::Gone => {}
    }
    plan
}

fn deadline_passed(goal: &Goal, observed: &Observed, now: Timestamp, plan: &mut Plan) -> Option<Ending> {
    let end = later(observed.start_time?, goal.active_deadline?);
    if observed.ending.is_some() || observed.settled {
        return None;
    }
    if now < end {
        plan.wake_at(end);
        return None;
    }
    Some(Ending {
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
        grace: None,
    })
}

fn with_sandbox(goal: &Goal, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    match &observed.volumes {
        Stage::Done => {}
        Stage::Working => return,
        Stage::Failed { retry, .. } if *retry > now => return plan.wake_at(*retry),
        Stage::Pending | Stage::Failed { .. } => return plan.actions.push(Action::PrepareVolumes),
    }
    let initialized = observed.initialized || initialize(goal, observed, now, plan);
    if !initialized {
        return;
    }
    if !observed.initialized {
        plan.actions.push(Action::Initialized);
    }
    let sidecars = goal.init.iter().filter(|wanted| observed.initialized && wanted.role == Role::Sidecar);
    for wanted in sidecars.chain(&goal.main).chain(&goal.ephemeral) {
        keep(goal, wanted, observed, now, plan);
    }
}

/// Runs what must run first, in order; true once all of it has run (or, for sidecars, has started).
fn initialize(goal: &Goal, observed: &Observed, now: Timestamp, plan: &mut Plan) -> bool {
    for wanted in &goal.init {
        let record = observed.record(&wanted.name);
        let done = match wanted.role {
            Role::Sidecar => record.started && record.life.run().is_some(),
            _ => matches!(record.life.exit(), Some(exit) if exit.code == 0),
        };
        if !done || wanted.role == Role::Sidecar {
            keep(goal, wanted, observed, now, plan);
        }
        if !done {
            return false;
        }
    }
    true
}

/// Starts a container that should run and doesn't, ends one that runs and shouldn't.
fn keep(goal: &Goal, wanted: &Wanted, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let record = observed.record(&wanted.name);
    let start = Action::Start { name: wanted.name.clone() };
    match &record.life {
        Life::Waiting(None) => plan.actions.push(start),
        Life::Waiting(Some(refusal)) | Life::Refused { refusal, .. } => {
            if refusal.retry <= now {
                plan.actions.push(start);
            } else {
                let shown = later(refusal.at, FRESH);
                plan.wake_at(if now < shown { shown.min(refusal.retry) } else { refusal.retry });
            }
        }
        Life::Exited(exit) if wanted.restarts_after(exit.code) => match record.backoff.due(exit.finished_at) {
            Some(due) if due > now => plan.wake_at(due),
            _ => plan.actions.push(start),
        },
        Life::Running(run) => {
            if let Some(doom) = &record.doom {
                let deadline = later(now, doom.grace.unwrap_or(goal.grace));
                stop(wanted, run, deadline, Why::Doomed(doom.message.clone()), plan);
            }
        }
        Life::Quitting { .. } => hasten(wanted, &record, None, now, plan),
        Life::Starting { .. } | Life::Exited(_) => {}
    }
}

/// Begins to end a run: with its hook first, if it has one and there is time for it.
fn stop(wanted: &Wanted, run: &Run, deadline: Timestamp, why: Why, plan: &mut Plan) {
    let (name, id) = (wanted.name.clone(), run.id.clone());
    plan.wake_at(deadline);
    if wanted.has_pre_stop {
        plan.actions.push(Action::PreStop { name, id, deadline, why });
    } else {
        plan.actions.push(Action::Ask { name, id, deadline, why });
    }
}

/// Goes on with a run that is being ended; `by` is an earlier deadline, if there is one now.
fn hasten(wanted: &Wanted, record: &Record, by: Option<Timestamp>, now: Timestamp, plan: &mut Plan) {
    let Life::Quitting { run, step, deadline } = &record.life else { return };
    let deadline = by.map_or(*deadline, |by| by.min(*deadline));
    let (name, id) = (wanted.name.clone(), run.id.clone());
    let ask = |deadline| Action::Ask { name: name.clone(), id: id.clone(), deadline, why: Why::Told };
    match step {
        Quit::HookDone => plan.actions.push(ask(deadline.max(later(now, LEAST_GRACE)))),
        Quit::Hook if deadline <= now => plan.actions.push(ask(later(now, LEAST_GRACE))),
        Quit::Asked if deadline <= now => plan.actions.push(Action::Kill { name: name.clone(), id: id.clone() }),
        Quit::Hook | Quit::Asked => plan.wake_at(deadline),
        Quit::Killed => {}
    }
}

/// Ends everything: main containers at once, then sidecars in reverse order, then the sandbox, then the pod.
fn wind_down(goal: &Goal, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let stop_by = observed.stop_by.unwrap_or_else(|| later(now, goal.deletion.unwrap_or(goal.grace)));
    let mut busy = false;
    let others = goal.init.iter().filter(|wanted| wanted.role != Role::Sidecar);
    for wanted in others.chain(&goal.main).chain(&goal.ephemeral) {
        busy |= end(wanted, observed, stop_by, now, plan);
    }
    for wanted in goal.init.iter().rev().filter(|wanted| wanted.role == Role::Sidecar) {
        if busy {
            // Past the deadline nobody waits for anybody.
            if stop_by > now {
                break;
            }
        }
        busy |= end(wanted, observed, stop_by, now, plan);
    }
    if busy {
        if stop_by > now {
            plan.wake_at(stop_by);
        }
        return;
    }
    match (&observed.sandbox, &observed.volumes) {
        (Sandbox::Ready { .. }, Stage::Working) | (Sandbox::Starting | Sandbox::Stopping, _) => return,
        // The logs of a pod that has ended go with its sandbox, when the pod is deleted; its volumes go at once.
        (Sandbox::Ready { .. } | Sandbox::Failed { .. } | Sandbox::Absent, volumes) if goal.deletion.is_none() => {
            if *volumes == Stage::Done {
                plan.actions.push(Action::EmptyVolumes);
            }
            return;
        }
        (Sandbox::Ready { .. } | Sandbox::Failed { .. } | Sandbox::Absent, _) => {
            return plan.actions.push(Action::StopSandbox);
        }
        (Sandbox::Gone, _) => {}
    }
    if goal.deletion.is_some() {
        match &observed.removal {
            Stage::Failed { retry, .. } if *retry > now => plan.wake_at(*retry),
            Stage::Pending | Stage::Failed { .. } => plan.actions.push(Action::Remove),
            Stage::Working | Stage::Done => {}
        }
    }
}

/// Ends one container; true while it isn't ended.
fn end(wanted: &Wanted, observed: &Observed, stop_by: Timestamp, now: Timestamp, plan: &mut Plan) -> bool {
    let record = observed.record(&wanted.name);
    match &record.life {
        Life::Running(run) => stop(wanted, run, stop_by, Why::PodEnds, plan),
        Life::Quitting { .. } => hasten(wanted, &record, Some(stop_by), now, plan),
        Life::Starting { .. } => {}
        Life::Waiting(_) | Life::Exited(_) | Life::Refused { .. } => return false,
    }
    true
}

/// Whether a failure of this init container fails the whole pod.
#[must_use]
pub fn is_fatal(goal: &Goal, wanted: &Wanted, exit_code: i32) -> bool {
    wanted.role == Role::Init
        && exit_code != 0
        && goal.policy == RestartPolicy::Never
        && !wanted.restarts_after(exit_code)
}
