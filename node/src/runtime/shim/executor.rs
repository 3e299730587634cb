//! The last step of every process in a container: the filter of system calls, then the program.

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

/// Installs the filter where libcontainer doesn't (it does for a container's first process, not for an exec), then
/// starts the program.
#[derive(Clone)]
pub(super) struct Confined {
    /// The filter of an exec; none for a first process, or where the pod wants none.
    pub(super) seccomp: Option<LinuxSeccomp>,
}

impl Executor for Confined {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        crate::sys::reset_signals()
            .map_err(|error| ExecutorError::Other(format!("could not reset signals: {error}")))?;
        if let Some(seccomp) = &self.seccomp {
            libcontainer::seccomp::initialize_seccomp(seccomp)
                .map_err(|error| ExecutorError::Other(format!("could not install the system call filter: {error}")))?;
        }
        DefaultExecutor {}.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}
