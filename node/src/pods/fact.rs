//! What happened to a pod, and how that changes what is known of it.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    backoff::{INITIAL, LONGEST, later},
    model::{Doom, Ending, Exit, Goal, Life, Observed, Quit, Record, Refusal, Run, Sandbox, Stage},
    plan::Action,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The sandbox is there.
    SandboxReady {
        /// The pod's addresses.
        ips: Vec<String>,
    },
    /// The sandbox couldn't be made.
    SandboxFailed,
    /// The sandbox is gone though nobody took it down: what ran in it is dead.
    SandboxLost,
    /// The sandbox was taken down.
    SandboxStopped,
    /// What the volumes hold is in place.
    VolumesReady,
    /// A volume couldn't be set up.
    VolumesFailed,
    /// A container could not be started; there was no process.
    Refused {
        /// The container.
        name: String,
        /// For instance `ErrImagePull`.
        reason: String,
        /// For people.
        message: String,
    },
    /// A container runs.
    Started {
        /// The container.
        name: String,
        /// The runtime's name for it.
        id: String,
        /// What it was made from.
        image_id: String,
        /// When its process started, as the runtime says: an agent that comes later will be told the same.
        started_at: Timestamp,
        /// Whether a startup probe must succeed first.
        waits_for_startup: bool,
        /// Whether a readiness probe must succeed first.
        waits_for_readiness: bool,
    },
    /// A container was made but its process could not run, or it ended.
    Ended {
        /// The container.
        name: String,
        /// How.
        exit: Exit,
    },
    /// A `preStop` hook ended, or took too long.
    HookDone {
        /// The container.
        name: String,
        /// The run it belongs to.
        id: String,
    },
    /// A container must end: a probe or its `postStart` hook said so.
    Doomed {
        /// The container.
        name: String,
        /// The run that must end.
        id: String,
        /// Why.
        doom: Doom,
    },
    /// The startup probe succeeded.
    StartupPassed {
        /// The container.
        name: String,
        /// The run it belongs to.
        id: String,
    },
    /// The readiness probe changed its mind.
    Readiness {
        /// The container.
        name: String,
        /// The run it belongs to.
        id: String,
        /// What it says now.
        ready: bool,
    },
    /// The pod must end, for instance because the node lacks memory.
    Evicted(Ending),
    /// The pod was removed from the API server.
    Removed,
    /// The pod could not be removed from the API server.
    RemovalFailed,
}

/// How long the first try of something that failed is delayed, where upstream would try at its next pass.
const SOON: Duration = Duration::from_secs(2);

impl Observed {
    /// Takes note of what the goal says about the pod's end: a grace may only become shorter.
    pub fn note(&mut self, goal: &Goal, now: Timestamp) {
        if let Some(grace) = goal.deletion {
            let by = later(now, grace);
            self.stop_by = Some(self.stop_by.map_or(by, |own| own.min(by)));
        } else if self.ending.is_some() || self.settled {
            let own = self.ending.as_ref().and_then(|ending| ending.grace);
            self.stop_by.get_or_insert(later(now, own.unwrap_or(goal.grace)));
        }
    }

    /// Takes note that `action` begins now, so that the next plan doesn't ask for it again.
    pub fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::StartSandbox => self.sandbox = Sandbox::Starting,
            Action::StopSandbox => self.sandbox = Sandbox::Stopping,
            Action::PrepareVolumes => self.volumes = Stage::Working,
            Action::Remove => self.removal = Stage::Working,
            Action::Start { name } => {
                let record = self.containers.entry(name.clone()).or_default();
                let after = record.life.exit().cloned();
                if let Some(exit) = &after
                    && matches!(record.life, Life::Exited(_))
                {
                    record.backoff.advance(exit.finished_at, now);
                }
                record.life = Life::Starting { after };
            }
            Action::PreStop { name, deadline, .. } => self.quit(name, Quit::Hook, *deadline),
            Action::Ask { name, deadline, .. } => self.quit(name, Quit::Asked, *deadline),
            Action::Kill { name, .. } => self.quit(name, Quit::Killed, now),
            Action::End(ending) => {
                self.ending.get_or_insert_with(|| ending.clone());
            }
            Action::EmptyVolumes => self.volumes = Stage::Pending,
            Action::Initialized => self.initialized = true,
            Action::Settle => self.settled = true,
        }
    }

    fn quit(&mut self, name: &str, step: Quit, deadline: Timestamp) {
        if let Some(record) = self.containers.get_mut(name)
            && let Some(run) = record.life.run().cloned()
        {
            record.life = Life::Quitting { run, step, deadline };
        }
    }

    /// Takes note of `fact`.
    pub fn apply(&mut self, fact: Fact, goal: &Goal, now: Timestamp) {
        match fact {
            Fact::SandboxReady { ips } => self.sandbox = Sandbox::Ready { ips },
            Fact::SandboxFailed => {
                let times = if let Sandbox::Failed { times, .. } = self.sandbox { times + 1 } else { 1 };
                self.sandbox = Sandbox::Failed { retry: again(times, now), times };
            }
            Fact::SandboxLost => self.lose_sandbox(goal, now),
            Fact::SandboxStopped => self.sandbox = Sandbox::Gone,
            Fact::VolumesReady => self.volumes = Stage::Done,
            Fact::VolumesFailed => self.volumes = failed(&self.volumes, now),
            Fact::Removed => self.removal = Stage::Done,
            Fact::RemovalFailed => self.removal = failed(&self.removal, now),
            // What has ended already has its reason.
            Fact::Evicted(ending) => {
                if !self.settled {
                    self.ending.get_or_insert(ending);
                }
            }
            Fact::Refused { name, reason, message } => self.record_mut(name).refuse(reason, message, now),
            Fact::Ended { name, exit } => self.record_mut(name).end(exit),
            Fact::Started { name, id, image_id, started_at, waits_for_startup, waits_for_readiness } => {
                let record = self.record_mut(name);
                record.image_id = Some(image_id);
                // Its end may have been told before its start was.
                if !matches!(record.life, Life::Starting { .. }) {
                    return;
                }
                record.start(Run { id, started_at });
                record.gated = waits_for_readiness;
                record.started = !waits_for_startup;
                record.ready = record.started && !waits_for_readiness;
            }
            Fact::HookDone { name, id } => self.hook_done(&name, &id),
            Fact::Doomed { name, id, doom } => {
                if let Some(record) = self.running(&name, &id) {
                    record.doom.get_or_insert(doom);
                }
            }
            Fact::StartupPassed { name, id } => {
                let waits = self.waits_for_readiness(&name);
                if let Some(record) = self.running(&name, &id) {
                    record.started = true;
                    record.ready = record.ready || !waits;
                }
            }
            Fact::Readiness { name, id, ready } => {
                if let Some(record) = self.running(&name, &id) {
                    record.ready = ready && record.started;
                }
            }
        }
    }

    fn record_mut(&mut self, name: String) -> &mut Record {
        self.containers.entry(name).or_default()
    }

    fn running(&mut self, name: &str, id: &str) -> Option<&mut Record> {
        self.containers.get_mut(name).filter(|record| record.life.run().is_some_and(|run| run.id == id))
    }

    fn waits_for_readiness(&self, name: &str) -> bool {
        self.containers.get(name).is_some_and(|record| record.gated)
    }

    fn hook_done(&mut self, name: &str, id: &str) {
        if let Some(record) = self.running(name, id)
            && let Life::Quitting { step, .. } = &mut record.life
            && *step == Quit::Hook
        {
            *step = Quit::HookDone;
        }
    }

    /// What ran is dead; what must run first must run again in a new sandbox, as upstream does.
    fn lose_sandbox(&mut self, goal: &Goal, now: Timestamp) {
        for (name, record) in &mut self.containers {
            if let Some(run) = record.life.run().cloned() {
                let message = "The container could not be located when the pod's sandbox was lost".to_owned();
                record.end(Exit {
                    id: run.id,
                    code: 137,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message,
                    started_at: Some(run.started_at),
                    finished_at: now,
                });
            }
            let is_init = goal.init.iter().any(|wanted| wanted.name == *name);
            if is_init && let Some(exit) = record.life.exit().cloned() {
                record.previous = Some(exit);
                record.life = Life::Waiting(None);
            }
        }
        self.sandbox = Sandbox::Absent;
        self.volumes = Stage::Pending;
        self.initialized = false;
    }
}

impl Record {
    fn start(&mut self, run: Run) {
        if let Some(exit) = self.life.exit().cloned() {
            self.previous = Some(exit);
            self.restarts += 1;
        } else if self.previous.is_some() {
            self.restarts += 1;
        }
        self.life = Life::Running(run);
        self.retry = super::backoff::Backoff::default();
        self.doom = None;
    }

    fn refuse(&mut self, reason: String, message: String, now: Timestamp) {
        self.retry.advance(now, now);
        let wait = if reason == "CreateContainerConfigError" { INITIAL } else { self.retry.wait() };
        let refusal = Refusal { reason, message, at: now, retry: later(now, wait) };
        self.life = match self.life.exit().cloned() {
            Some(exit) => Life::Refused { exit, refusal },
            None => Life::Waiting(Some(refusal)),
        };
        self.doom = None;
    }

    /// An end is believed only of the run that is known, or of a start that is under way.
    fn end(&mut self, exit: Exit) {
        match &self.life {
            Life::Running(run) | Life::Quitting { run, .. } if run.id == exit.id => {}
            Life::Starting { after: Some(after) } if after.id == exit.id => return,
            Life::Starting { after } => {
                if let Some(after) = after.clone() {
                    self.previous = Some(after);
                    self.restarts += 1;
                }
            }
            _ => return,
        }
        self.life = Life::Exited(exit);
        self.ready = false;
        self.started = false;
        self.doom = None;
    }
}

fn failed(stage: &Stage, now: Timestamp) -> Stage {
    let times = if let Stage::Failed { times, .. } = stage { times + 1 } else { 1 };
    Stage::Failed { retry: again(times, now), times }
}

/// Two seconds, then four, up to a minute or so: what failed is likely to be mended by somebody who watches.
fn again(times: u32, now: Timestamp) -> Timestamp {
    later(now, (SOON * 2u32.saturating_pow(times.saturating_sub(1).min(6))).min(LONGEST))
}
