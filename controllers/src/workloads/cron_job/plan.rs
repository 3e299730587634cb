//! What a CronJob comes to: the Job that is due, those that go, and its status.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use martello_api::cron::Schedule;

use crate::workloads::{job, pod_control::Owner};

/// The annotation with the time that a Job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times beyond which they are no longer counted: a clock that jumped must not cost hours of counting.
const MANY_MISSED: usize = 100;

/// One pass.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The status.
    pub status: CronJobStatus,
    /// The time that a Job is to be made for.
    pub make: Option<Timestamp>,
    /// Jobs that give way to the new one, and Jobs beyond the history limits: names and uids.
    pub delete: Vec<(String, String)>,
    /// When the next time comes.
    pub next: Option<Timestamp>,
    /// What is told of it, as events: kind, reason and note.
    pub told: Vec<Told>,
}

/// An event: whether it is a warning, its reason and its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether something is wrong.
    pub warns: bool,
    /// Its reason.
    pub reason: &'static str,
    /// Its note.
    pub note: String,
}

impl Told {
    fn warning(reason: &'static str, note: String) -> Self {
        Self { warns: true, reason, note }
    }

    fn normal(reason: &'static str, note: String) -> Self {
        Self { warns: false, reason, note }
    }
}

/// What to do for `cron`, given the Jobs that are its own.
#[must_use]
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let spec = &cron.spec;
    let mut plan = Plan { status: observe(cron, jobs), told: seen(cron, jobs), ..Plan::default() };
    plan.delete = history(cron, jobs);
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
        None => TimeZone::UTC,
        Some(Ok(zone)) => zone,
        Some(Err(_)) if spec.time_zone.as_deref() == Some("UTC") => TimeZone::UTC,
        Some(Err(_)) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let note = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            plan.told.push(Told::warning("UnknownTimeZone", note));
            return plan;
        }
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let note = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.told.push(Told::warning("UnparseableSchedule", note));
            return plan;
        }
    };
    plan.next = schedule.next(now, &zone);
    let Some((due, missed)) = last_due(cron, &schedule, &zone, now) else { return plan };
    if missed > MANY_MISSED {
        let note = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.told.push(Told::warning("TooManyMissedTimes", note.to_owned()));
    }
    let late = spec.starting_deadline_seconds.is_some_and(|limit| now.as_second() - due.as_second() > limit);
    if late {
        let time = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
        plan.told.push(Told::warning("MissSchedule", format!("Missed scheduled time to start a job: {time}")));
        return plan;
    }
    let running = jobs.iter().filter(|job| is_running(job));
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if running.clone().next().is_some() => {
            let note = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.told.push(Told::normal("JobAlreadyActive", note.to_owned()));
            return plan;
        }
        Some("Replace") => plan.delete.extend(running.map(identity)),
        _ => {}
    }
    plan.make = Some(due);
    plan
}

fn identity(job: &Arc<Job>) -> (String, String) {
    (job.name_any(), job.uid().unwrap_or_default())
}

fn is_running(job: &Job) -> bool {
    !job.status.as_ref().is_some_and(job::is_finished)
}

/// The newest time that is due and was not met, and how many were missed up to it.
fn last_due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<(Timestamp, usize)> {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let created = cron.metadata.creation_timestamp.as_ref();
    let mut from = last.or(created)?.0;
    if let Some(limit) = cron.spec.starting_deadline_seconds {
        let earliest = Timestamp::from_second(now.as_second() - limit).ok()?;
        from = from.max(earliest);
    }
    let mut found = None;
    let mut missed = 0;
    while let Some(next) = schedule.next(from, zone).filter(|next| *next <= now) {
        (found, missed, from) = (Some(next), missed + 1, next);
        if missed > MANY_MISSED {
            // Close to now, so that the newest is found without counting all.
            let pause = schedule.next(next, zone).map_or(60, |after| after.as_second() - next.as_second()).max(1);
            let jump = (now.as_second() - next.as_second()) / pause - 1;
            if jump > 1 {
                from = Timestamp::from_second(next.as_second() + (jump - 1) * pause).ok()?;
            }
        }
    }
    Some((found?, missed))
}

/// What is told of the Jobs: which of those that ran came to their end, or are gone, and which run that nobody knew of.
fn seen(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Told> {
    let known: Vec<&ObjectReference> = cron.status.iter().flat_map(|status| status.active.iter().flatten()).collect();
    let knows = |uid: Option<&String>| known.iter().any(|own| own.uid.as_ref() == uid);
    let mut told = Vec::new();
    for own in jobs {
        let (uid, name) = (own.metadata.uid.as_ref(), own.name_any());
        let ended = ["Complete", "Failed"]
            .into_iter()
            .find(|condition| own.status.as_ref().is_some_and(|status| job::is(status, condition)));
        match (ended, knows(uid)) {
            (Some(condition), true) => {
                let note = format!("Saw completed job: {name}, condition: {condition}");
                told.push(Told::normal("SawCompletedJob", note));
            }
            (None, false) => {
                let note = format!("Saw a job that the controller did not create or forgot: {name}");
                told.push(Told::warning("UnexpectedJob", note));
            }
            _ => {}
        }
    }
    for gone in known.iter().filter(|own| !jobs.iter().any(|job| job.metadata.uid == own.uid)) {
        let note = format!("Active job went missing: {}", gone.name.as_deref().unwrap_or_default());
        told.push(Told::normal("MissingJob", note));
    }
    told
}

/// What runs, and when something last did well.
fn observe(cron: &CronJob, jobs: &[Arc<Job>]) -> CronJobStatus {
    let mut status = cron.status.clone().unwrap_or_default();
    let mut running: Vec<&Arc<Job>> = jobs.iter().filter(|job| is_running(job)).collect();
    running.sort_by_key(|job| job.name_any());
    let active: Vec<ObjectReference> = running.into_iter().map(|job| reference(job)).collect();
    status.active = (!active.is_empty()).then_some(active);
    let ends = jobs.iter().filter_map(|job| job.status.as_ref()?.completion_time.clone());
    status.last_successful_time = ends.chain(status.last_successful_time.clone()).max_by_key(|time| time.0);
    status
}

/// As the status of a CronJob refers to a Job.
pub(super) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: Some(job.name_any()),
        namespace: job.namespace(),
        uid: job.uid(),
        resource_version: job.resource_version(),
        ..ObjectReference::default()
    }
}

/// Ended Jobs beyond the limits, the oldest.
fn history(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<(String, String)> {
    let spec = &cron.spec;
    let mut beyond = Vec::new();
    for (condition, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut ended: Vec<&Arc<Job>> = jobs
            .iter()
            .filter(|own| own.status.as_ref().is_some_and(|status| job::is(status, condition)))
            .filter(|own| own.metadata.deletion_timestamp.is_none())
            .collect();
        ended.sort_by_key(|own| {
            let start = own.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
            (start, own.name_any())
        });
        let excess = ended.len().saturating_sub(limit);
        beyond.extend(ended.into_iter().take(excess).map(identity));
    }
    beyond
}

/// The Job for a time. Its name is the minute's: made twice, the second is refused.
#[must_use]
pub fn make(cron: &CronJob, owner: &Owner, due: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let zone = cron.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    let shown = match zone {
        Some(zone) => due.display_with_offset(zone.to_offset(due)).to_string(),
        None => due.to_string(),
    };
    annotations.insert(SCHEDULED.to_owned(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), due.as_second() / 60)),
            namespace: cron.namespace(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner.reference.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cron(spec: Value) -> CronJob {
        let mut whole = json!({"schedule": "0 * * * *", "jobTemplate": {}, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": whole,
            "metadata": {"name": "c", "namespace": "n", "creationTimestamp": "2026-01-01T00:30:00Z"}}))
        .unwrap()
    }

    fn job(name: &str, condition: Option<&str>) -> Arc<Job> {
        let conditions: Vec<_> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": {
                "startTime": format!("2026-01-01T00:0{}:00Z", name.len()), "conditions": conditions}}))
            .unwrap(),
        )
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_job_is_made_when_its_time_came() {
        let own = cron(json!({}));
        assert_eq!(plan(&own, &[], at("2026-01-01T00:59:59Z")).make, None);
        let due = plan(&own, &[], at("2026-01-01T01:00:02Z"));
        assert_eq!(due.make, Some(at("2026-01-01T01:00:00Z")));
        assert_eq!(due.next, Some(at("2026-01-01T02:00:00Z")));
        assert_eq!(make(&own, &Owner::of(&own), due.make.unwrap()).name_any(), "c-29453820");
        assert_eq!(plan(&cron(json!({"suspend": true})), &[], at("2026-01-01T01:00:02Z")).make, None);
    }

    #[test]
    fn a_time_that_is_long_over_is_left_out() {
        let strict = cron(json!({"startingDeadlineSeconds": 30}));
        assert_eq!(plan(&strict, &[], at("2026-01-01T01:00:20Z")).make, Some(at("2026-01-01T01:00:00Z")));
        assert_eq!(plan(&strict, &[], at("2026-01-01T01:00:40Z")).make, None);
    }

    #[test]
    fn what_runs_is_waited_for_or_gives_way() {
        let now = at("2026-01-01T01:00:02Z");
        let running = [job("a", None)];
        assert_eq!(plan(&cron(json!({"concurrencyPolicy": "Forbid"})), &running, now).make, None);
        let replaced = plan(&cron(json!({"concurrencyPolicy": "Replace"})), &running, now);
        assert!(replaced.make.is_some());
        assert_eq!(replaced.delete, [("a".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn what_became_of_jobs_is_told() {
        let mut own = cron(json!({"suspend": true}));
        let active = |name: &str| ObjectReference {
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let status = CronJobStatus { active: Some(vec![active("a"), active("gone")]), ..CronJobStatus::default() };
        own.status = Some(status);
        let told = plan(&own, &[job("a", Some("Complete")), job("new", None)], at("2026-01-01T01:00:02Z")).told;
        let notes: Vec<&str> = told.iter().map(|told| told.note.as_str()).collect();
        assert_eq!(
            notes,
            [
                "Saw completed job: a, condition: Complete",
                "Saw a job that the controller did not create or forgot: new",
                "Active job went missing: gone",
            ]
        );
    }

    #[test]
    fn a_job_that_is_waited_for_is_told() {
        let forbidding = cron(json!({"concurrencyPolicy": "Forbid"}));
        let told = plan(&forbidding, &[job("a", None)], at("2026-01-01T01:00:02Z")).told;
        assert_eq!(told.last().map(|told| (told.warns, told.reason)), Some((false, "JobAlreadyActive")));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let jobs = [job("a", Some("Complete")), job("bb", Some("Complete")), job("ccc", Some("Failed"))];
        assert_eq!(
            plan(&cron(json!({"suspend": true})), &jobs, at("2026-01-01T01:00:02Z")).delete,
            [("a".to_owned(), "a".to_owned())]
        );
    }

    proptest! {
        /// Whenever one looks, what is made is the newest time that is over, and never one that was met.
        #[test]
        fn the_newest_missed_time_is_met(hours in 0..400i64, seconds in 0..3600i64) {
            let now = Timestamp::from_second(at("2026-01-01T00:30:00Z").as_second() + hours * 3600 + seconds).unwrap();
            let mut own = cron(json!({}));
            let first = plan(&own, &[], now);
            let newest = now.as_second() / 3600 * 3600;
            let expected = (newest > at("2026-01-01T00:30:00Z").as_second()).then_some(newest);
            prop_assert_eq!(first.make.map(|due| due.as_second()), expected);
            own.status = Some(CronJobStatus { last_schedule_time: first.make.map(Time), ..CronJobStatus::default() });
            if first.make.is_some() {
                prop_assert_eq!(plan(&own, &[], now).make, None);
            }
        }
    }
}
