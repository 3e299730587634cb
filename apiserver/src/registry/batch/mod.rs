//! Kinds of the group `batch`.

use super::kind::Kind;

pub mod cron_job;
pub mod indexes;
pub mod job;
pub mod job_policies;
pub mod job_spec;
pub mod job_status;
mod job_update;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(cron_job::CronJobs), Kind::new(job::Jobs)]
}
