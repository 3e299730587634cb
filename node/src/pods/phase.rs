//! A pod's phase, from what is known of its containers.

use super::model::{Goal, Life, Observed, Role, Wanted};
use super::plan::is_fatal;

/// Where a pod is in its life, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all of it has started.
    Pending,
    /// All containers were started.
    Running,
    /// All containers ended well and none comes back.
    Succeeded,
    /// All containers ended, at least one of them badly, and none comes back.
    Failed,
}

impl Phase {
    /// As in `status.phase`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// The phase of a pod.
#[must_use]
pub fn phase(goal: &Goal, observed: &Observed) -> Phase {
    let busy = goal.all().any(|wanted| observed.record(&wanted.name).life.is_busy());
    if observed.ending.is_some() && !busy {
        return Phase::Failed;
    }
    if failed_first(goal, observed) && !main_started(goal, observed) {
        return Phase::Failed;
    }
    let ends = goal.deletion.is_some() || observed.ending.is_some();
    if goal.deletion.is_some() && !busy {
        return if all_ended(goal, observed, |code| code == 0) { Phase::Succeeded } else { Phase::Failed };
    }
    if !ends && !observed.initialized {
        return Phase::Pending;
    }
    if !main_started(goal, observed) {
        return Phase::Pending;
    }
    let final_ends = goal.main.iter().all(|wanted| match &observed.record(&wanted.name).life {
        Life::Exited(exit) | Life::Refused { exit, .. } => !wanted.restarts_after(exit.code),
        Life::Waiting(_) | Life::Starting { .. } | Life::Running(_) | Life::Quitting { .. } => false,
    });
    if !final_ends {
        return Phase::Running;
    }
    if all_ended(goal, observed, |code| code == 0) { Phase::Succeeded } else { Phase::Failed }
}

fn failed_first(goal: &Goal, observed: &Observed) -> bool {
    goal.init.iter().any(|wanted| {
        let record = observed.record(&wanted.name);
        matches!(&record.life, Life::Exited(exit) if is_fatal(goal, wanted, exit.code))
    })
}

/// Whether every main container was started at least once.
fn main_started(goal: &Goal, observed: &Observed) -> bool {
    goal.main.iter().all(|wanted| {
        let record = observed.record(&wanted.name);
        record.previous.is_some() || record.life.run().is_some() || record.life.exit().is_some()
    })
}

fn all_ended(goal: &Goal, observed: &Observed, well: impl Fn(i32) -> bool) -> bool {
    let ended = |wanted: &Wanted| observed.record(&wanted.name).life.exit().is_some_and(|exit| well(exit.code));
    goal.main.iter().filter(|wanted| wanted.role == Role::Main).all(ended)
}
