//! What a pod wants and what is known of it on this node: the two inputs of the plan.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::backoff::Backoff;
pub use super::goal::{DEFAULT_GRACE, Goal, RestartPolicy, Role, Rule, Wanted};

/// What is known of a pod on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its shim, namespaces and address.
    pub sandbox: Sandbox,
    /// Whether what its volumes hold is in place.
    pub volumes: Stage,
    /// What is known of each container, by name.
    pub containers: BTreeMap<String, Record>,
    /// When this agent (or one before it) took the pod over.
    pub start_time: Option<Timestamp>,
    /// Why the pod ends, where it ends before its containers do.
    pub ending: Option<Ending>,
    /// Until when its containers may take to stop.
    pub stop_by: Option<Timestamp>,
    /// Whether the phase was final already: then nothing is started any more.
    pub settled: bool,
    /// What became of the last act: the pod's removal from the API server.
    pub removal: Stage,
    /// Whether the containers that had to run first have all run.
    pub initialized: bool,
}

/// Why a pod ends before its containers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// For instance `DeadlineExceeded`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// How long its containers may take to stop, where that differs from the pod's grace.
    pub grace: Option<Duration>,
}

/// A pod's shim, namespaces and address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Not made.
    #[default]
    Absent,
    /// Being made.
    Starting,
    /// There.
    Ready {
        /// The pod's addresses, the first of which is its primary one.
        ips: Vec<String>,
    },
    /// Couldn't be made; tried again later.
    Failed {
        /// When to try again.
        retry: Timestamp,
        /// How often it failed in a row.
        times: u32,
    },
    /// Being taken down.
    Stopping,
    /// Taken down for good.
    Gone,
}

/// How far something is that is done once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not begun.
    #[default]
    Pending,
    /// Being done.
    Working,
    /// Done.
    Done,
    /// Failed; tried again later.
    Failed {
        /// When to try again.
        retry: Timestamp,
        /// How often it failed in a row.
        times: u32,
    },
}

/// What is known of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Where it is in its life.
    pub life: Life,
    /// How the run before the present one ended.
    pub previous: Option<Exit>,
    /// How often it was started again.
    pub restarts: u32,
    /// The image it was last made from: the reference's resolution, with digest.
    pub image_id: Option<String>,
    /// The wait before a restart.
    pub backoff: Backoff,
    /// The wait before another try to start at all.
    pub retry: Backoff,
    /// Whether its startup probe has succeeded (or it has none).
    pub started: bool,
    /// Whether its readiness probe says so (or it has none).
    pub ready: bool,
    /// Whether its readiness depends on a probe.
    pub gated: bool,
    /// Why it must end though it runs.
    pub doom: Option<Doom>,
}

/// Why a running container must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doom {
    /// How long it may take, where that differs from the pod's grace.
    pub grace: Option<Duration>,
    /// Why, for the event.
    pub message: String,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not started yet; says why if a start failed.
    Waiting(Option<Refusal>),
    /// Being pulled, judged, made and started.
    Starting {
        /// How its last run ended.
        after: Option<Exit>,
    },
    /// Running.
    Running(Run),
    /// Running, and being stopped.
    Quitting {
        /// The run that ends.
        run: Run,
        /// What was done to end it.
        step: Quit,
        /// When it is killed.
        deadline: Timestamp,
    },
    /// Ended.
    Exited(Exit),
    /// Ended, and a new start failed.
    Refused {
        /// How the last run ended.
        exit: Exit,
        /// Why the new start failed.
        refusal: Refusal,
    },
}

impl Default for Life {
    fn default() -> Self {
        Self::Waiting(None)
    }
}

/// A start that failed before there was a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For instance `ErrImagePull`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it failed.
    pub at: Timestamp,
    /// When it is tried again.
    pub retry: Timestamp,
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The runtime's name for it.
    pub id: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// What was done to end a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quit {
    /// Its `preStop` hook runs.
    Hook,
    /// Its `preStop` hook has run.
    HookDone,
    /// It was asked to stop.
    Asked,
    /// It was killed.
    Killed,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The runtime's name for it; empty if it was never made.
    pub id: String,
    /// Exit code; 128 and the signal's number for a signal.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` …
    pub reason: String,
    /// What the container left as its termination message, or why it couldn't start.
    pub message: String,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Life {
    /// The run, if there is a process.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Running(run) | Self::Quitting { run, .. } => Some(run),
            Self::Waiting(_) | Self::Starting { .. } | Self::Exited(_) | Self::Refused { .. } => None,
        }
    }

    /// How the last run ended, if none runs.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited(exit) | Self::Refused { exit, .. } => Some(exit),
            Self::Starting { after } => after.as_ref(),
            Self::Waiting(_) | Self::Running(_) | Self::Quitting { .. } => None,
        }
    }

    /// Whether there is, or may soon be, a process.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Running(_) | Self::Quitting { .. })
    }
}

impl Record {
    /// Which start the next one is: unique among all that the pod's runtime was asked for.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        if self.previous.is_some() || self.life.exit().is_some() { self.restarts + 1 } else { self.restarts }
    }
}

impl Observed {
    /// The record of a container, an empty one if nothing is known.
    #[must_use]
    pub fn record(&self, name: &str) -> Record {
        self.containers.get(name).cloned().unwrap_or_default()
    }

    /// The pod's addresses.
    #[must_use]
    pub fn ips(&self) -> &[String] {
        match &self.sandbox {
            Sandbox::Ready { ips } => ips,
            _ => &[],
        }
    }
}
