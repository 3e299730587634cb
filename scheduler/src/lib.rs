//! Placement of pods on nodes.
//!
//! [`cycle::place`] decides, and is pure; [`run`] follows the API server, asks it for each pending pod and binds.

mod claims;
pub mod cycle;
pub mod filters;
mod placing;
mod preempting;
pub mod preemption;
pub mod resources;
pub mod scores;
pub mod snapshot;

pub use placing::run;

/// Name of this scheduler in `spec.schedulerName`, as upstream's default one.
pub const SCHEDULER_NAME: &str = "default-scheduler";
