//! The shim: one small single-threaded process per pod. It lives inside the pod's user and network namespaces, makes
//! and ends containers, keeps their logs and exit statuses, and outlives the agent.

mod container;
mod cri_log;
mod enter;
mod executor;
mod files;
mod furnish;
mod overlay;
pub(crate) mod protocol;
mod serve;
pub(crate) mod state;
mod users;
mod volumes;

use std::io::{self, Write};

/// The word after `secctl` that makes the process a shim.
pub const NAME: &str = "shim";
const INSIDE: &str = "inside";

/// What went wrong in a shim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// Input or output failed.
    #[error("could not {attempt}: {source}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The agent has gone before the pod was made, or speaks another language.
    #[error("the agent gave no pod")]
    Gone,
    /// A container can't be started as it's described, and this is why; the causes are in the pod's `shim.log`.
    #[error("{0}")]
    Unprepared(String),
    /// The request can't be met, and this is why.
    #[error("{0}")]
    Refused(String),
}

/// Runs a shim; `args` are those after `secctl shim`. Must be called before the process has a second thread.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    let result = match args {
        [] => enter::enter(),
        [stage, count] if stage == INSIDE => serve::serve(count),
        _ => Err(ShimError::Gone),
    };
    match result {
        Ok(()) => 0,
        Err(error) => complain(&error),
    }
}

/// Writes the error where the agent finds it (the pod's `shim.log`) and returns the exit code.
fn complain(error: &ShimError) -> i32 {
    // Nobody is left to tell if this fails.
    drop(writeln!(io::stderr(), "{error}"));
    1
}

/// Adds what was attempted to an error.
pub(crate) trait Attempt<T> {
    /// `attempt` completes "could not …".
    fn attempt(self, attempt: impl Into<String>) -> Result<T, ShimError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, attempt: impl Into<String>) -> Result<T, ShimError> {
        self.map_err(|error| ShimError::Io { attempt: attempt.into(), source: error.into() })
    }
}
