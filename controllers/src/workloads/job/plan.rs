//! What a Job does next, given its pods. Each ended pod is counted once: its uid is written down, then the pod is let
//! go, then the uid becomes a count.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::{
    indexes,
    pod::{self, Wanted},
    policy::{self, Meaning},
};
use crate::workloads::pods;

/// Most pods that one pass makes.
const BURST: usize = 500;
/// Most ended pods whose uids the status keeps at once.
const MAX_UNCOUNTED: usize = 500;
/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE_SECONDS: i64 = 10;
/// Longest pause after a failure.
const LONGEST_PAUSE_SECONDS: i64 = 600;

/// One pass.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The status to write before anything else is done.
    pub status: JobStatus,
    /// Pods to make.
    pub create: Vec<Wanted>,
    /// Names and uids of pods to delete.
    pub delete: Vec<(String, String)>,
    /// Whether the pods to delete are let go first, so that they don't count as failed.
    pub delete_uncounted: bool,
    /// Names of the ended pods that were counted and are let go.
    pub release: Vec<String>,
    /// When to look again.
    pub look_again_after_seconds: Option<u64>,
}

/// Whether a condition of the Job is true.
#[must_use]
pub fn is(status: &JobStatus, condition: &str) -> bool {
    find(status, condition).is_some_and(|own| own.status == "True")
}

fn find<'a>(status: &'a JobStatus, condition: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|own| own.type_ == condition)
}

/// Whether the Job ended, well or not.
#[must_use]
pub fn is_finished(status: &JobStatus) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

/// How the Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    well: bool,
    reason: String,
    message: String,
}

struct Pass<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    owned: &'a [Arc<Pod>],
    now: Timestamp,
    status: JobStatus,
    done: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
    fatal: Option<String>,
    release: Vec<String>,
}

/// What to do for `job`, given the pods that are its own.
#[must_use]
pub fn plan(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let status = job.status.clone().unwrap_or_default();
    let Some(spec) = &job.spec else { return Plan { status, ..Plan::default() } };
    if is_finished(&status) {
        let tracked = owned.iter().filter(|pod| pod::is_tracked(pod)).map(|pod| pod.name_any());
        return Plan { status, release: tracked.collect(), ..Plan::default() };
    }
    let completions = spec.completions.unwrap_or(0);
    let done = indexes::read(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    let failed_indexes = indexes::read(status.failed_indexes.as_deref().unwrap_or_default(), completions);
    let mut pass = Pass { job, spec, owned, now, status, done, failed_indexes, fatal: None, release: Vec::new() };
    pass.start();
    pass.count();
    pass.decide()
}

impl Pass<'_> {
    fn indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn start(&mut self) {
        let suspended = self.suspended();
        let was = find(&self.status, "Suspended").map(|condition| condition.status == "True");
        match (suspended, was) {
            (true, None | Some(false)) => self.set("Suspended", "True", "JobSuspended", "Job suspended"),
            (false, Some(true)) => {
                self.set("Suspended", "False", "JobResumed", "Job resumed");
                self.status.start_time = Some(Time(self.now));
            }
            _ => {}
        }
        // A Job that is suspended keeps the time of its start until it goes on.
        if !suspended && self.status.start_time.is_none() {
            self.status.start_time = Some(Time(self.now));
        }
    }

    fn set(&mut self, condition: &str, truth: &str, reason: &str, message: &str) {
        let told = JobCondition {
            type_: condition.to_owned(),
            status: truth.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        };
        let all = self.status.conditions.get_or_insert_default();
        match all.iter_mut().find(|own| own.type_ == condition) {
            Some(own) => *own = told,
            None => all.push(told),
        }
    }

    fn has_failed(&self, pod: &Pod) -> bool {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Failed") || !self.replaces_only_failed() && pods::is_terminating(pod)
    }

    /// Writes down ended pods, and counts those that were written down and are let go.
    fn count(&mut self) {
        let before = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let held = |uid: &String| self.owned.iter().any(|pod| pod.uid().as_ref() == Some(uid) && pod::is_tracked(pod));
        let part = |uids: Option<Vec<String>>| -> (Vec<String>, Vec<String>) {
            uids.unwrap_or_default().into_iter().partition(|uid| held(uid))
        };
        let (mut succeeded, gone_well) = part(before.succeeded);
        let (mut failed, gone_badly) = part(before.failed);
        let add = |count: &mut Option<i32>, more: usize| {
            let total = count.unwrap_or(0).saturating_add(i32::try_from(more).unwrap_or(i32::MAX));
            *count = (total > 0).then_some(total);
        };
        let indexed = self.indexed();
        if !indexed {
            add(&mut self.status.succeeded, gone_well.len());
        }
        add(&mut self.status.failed, gone_badly.len());
        for pod in self.owned.iter().filter(|pod| pod::is_tracked(pod)) {
            let uid = pod.uid().unwrap_or_default();
            let ended_well = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
            if !ended_well && !self.has_failed(pod) {
                continue;
            }
            let known = succeeded.contains(&uid) || failed.contains(&uid);
            if !known && succeeded.len() + failed.len() >= MAX_UNCOUNTED {
                continue;
            }
            if ended_well {
                let completions = self.spec.completions.unwrap_or(0);
                self.done.extend(pod::index(pod).filter(|index| (0..completions).contains(index)));
                if !known && !indexed {
                    succeeded.push(uid);
                }
            } else if !self.note_failure(pod) && !known {
                failed.push(uid);
            }
            self.release.push(pod.name_any());
        }
        let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
        if indexed {
            let count = i32::try_from(self.done.len()).unwrap_or(i32::MAX);
            self.status.succeeded = (count > 0).then_some(count);
            self.status.completed_indexes = Some(indexes::write(&self.done)).filter(|text| !text.is_empty());
        }
        if self.spec.backoff_limit_per_index.is_some() {
            self.failed_indexes.retain(|index| !self.done.contains(index));
            self.status.failed_indexes = Some(indexes::write(&self.failed_indexes));
        }
    }

    /// Sees what a failed pod means. Whether it does not count.
    fn note_failure(&mut self, pod: &Pod) -> bool {
        let meaning = policy::meaning(self.spec, pod);
        let index = pod::index(pod);
        let spent = self.spec.backoff_limit_per_index.is_some_and(|limit| pod::failures(pod) >= limit);
        match meaning {
            Meaning::Ignore => return true,
            Meaning::FailJob(why) => self.fatal = Some(why),
            Meaning::FailIndex => self.failed_indexes.extend(index),
            Meaning::Count if spent => self.failed_indexes.extend(index),
            Meaning::Count => {}
        }
        false
    }

    fn failures(&self) -> i32 {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let more = uncounted.and_then(|uncounted| uncounted.failed.as_ref()).map_or(0, Vec::len);
        self.status.failed.unwrap_or(0).saturating_add(i32::try_from(more).unwrap_or(i32::MAX))
    }

    fn successes(&self) -> i32 {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let more = uncounted.and_then(|uncounted| uncounted.succeeded.as_ref()).map_or(0, Vec::len);
        self.status.succeeded.unwrap_or(0).saturating_add(i32::try_from(more).unwrap_or(i32::MAX))
    }

    /// How the Job ends, if it does now or did so before.
    fn end(&self, active: usize) -> Option<End> {
        for (condition, well) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
            if let Some(own) = find(&self.status, condition).filter(|own| own.status == "True") {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                return Some(End { well, reason: text(&own.reason), message: text(&own.message) });
            }
        }
        self.failure().or_else(|| self.success(active))
    }

    fn failure(&self) -> Option<End> {
        let end = |reason: &str, message: &str| {
            Some(End { well: false, reason: reason.to_owned(), message: message.to_owned() })
        };
        if let Some(why) = &self.fatal {
            return end("PodFailurePolicy", why);
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failures() > limit || self.restarted_too_often(limit) {
            return end("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.deadline().is_some_and(|left| left <= 0) {
            return end("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let failed = self.failed_indexes.len();
        if self.spec.max_failed_indexes.is_some_and(|most| usize::try_from(most).is_ok_and(|most| failed > most)) {
            return end("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
        }
        let all = usize::try_from(self.spec.completions.unwrap_or(0)).unwrap_or(0);
        if failed > 0 && self.done.len() + failed >= all {
            return end("FailedIndexes", "Job has failed indexes");
        }
        None
    }

    fn success(&self, active: usize) -> Option<End> {
        if let Some(message) = policy::succeeded(self.spec, &self.done) {
            return Some(End { well: true, reason: "SuccessPolicy".to_owned(), message });
        }
        let complete = match self.spec.completions {
            Some(completions) => self.successes() >= completions,
            None => self.successes() > 0 && active == 0,
        };
        complete.then(|| End {
            well: true,
            reason: "CompletionsReached".to_owned(),
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self.owned.iter().filter(|pod| pods::is_active(pod));
        let statuses = running.filter_map(|pod| pod.status.as_ref());
        let restarts: i32 = statuses
            .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten())
            .map(|container| container.restart_count)
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// Seconds that are left of the Job's time.
    fn deadline(&self) -> Option<i64> {
        let (limit, start) = (self.spec.active_deadline_seconds?, self.status.start_time.as_ref()?);
        (!self.suspended()).then(|| start.0.as_second() + limit - self.now.as_second())
    }

    fn decide(mut self) -> Plan {
        let active: Vec<Arc<Pod>> = self.owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let terminating = self.owned.iter().filter(|pod| pods::is_terminating(pod)).count();
        let ready = active.iter().filter(|pod| pods::ready_since(pod).is_some()).count();
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        self.status.active = Some(number(active.len())).filter(|count| *count > 0);
        self.status.ready = Some(number(ready));
        self.status.terminating = Some(number(terminating));
        let mut plan = Plan::default();
        let deleted = self.job.metadata.deletion_timestamp.is_some();
        if let Some(end) = self.end(active.len()).filter(|_| !deleted) {
            self.finish(&end, &active, terminating, &mut plan);
        } else if self.suspended() {
            plan.delete = names(&active);
            plan.delete_uncounted = true;
        } else if !deleted {
            self.manage(&active, terminating, &mut plan);
        }
        if let Some(left) = self.deadline().and_then(|left| u64::try_from(left).ok()) {
            plan.look_again_after_seconds =
                Some(plan.look_again_after_seconds.map_or(left.max(1), |seconds| seconds.min(left.max(1))));
        }
        plan.release = self.release;
        plan.status = self.status;
        plan
    }

    /// The pods go first; when all are counted the Job has ended.
    fn finish(&mut self, end: &End, active: &[Arc<Pod>], terminating: usize, plan: &mut Plan) {
        let (target, last) = if end.well { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
        if !is(&self.status, target) {
            self.set(target, "True", &end.reason, &end.message);
        }
        plan.delete = names(active);
        plan.delete_uncounted = end.well;
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let settled = uncounted.is_none_or(|own| own.succeeded.is_none() && own.failed.is_none());
        if active.is_empty() && terminating == 0 && settled {
            self.set(last, "True", &end.reason, &end.message);
            if end.well {
                self.status.completion_time = Some(Time(self.now));
            }
        }
    }

    fn manage(&mut self, active: &[Arc<Pod>], terminating: usize, plan: &mut Plan) {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let successes = usize::try_from(self.successes()).unwrap_or(0);
        let wanted = match self.spec.completions {
            Some(completions) => {
                let left = usize::try_from(completions).unwrap_or(0).saturating_sub(successes);
                left.saturating_sub(self.failed_indexes.len()).min(parallelism)
            }
            // Once one succeeded, those that are there may end, and none is made.
            None if successes > 0 => active.len().min(parallelism),
            None => parallelism,
        };
        let (mut surplus, mut rest) = if self.indexed() { self.misplaced(active) } else { (vec![], active.to_vec()) };
        let more = active.len().saturating_sub(wanted).saturating_sub(surplus.len());
        rest.sort_by(|a, b| pods::by_deletion_preference(a, b));
        surplus.extend(rest.into_iter().take(more));
        if !surplus.is_empty() {
            plan.delete = names(&surplus);
            plan.delete_uncounted = true;
            return;
        }
        let taken = active.len() + if self.replaces_only_failed() { terminating } else { 0 };
        let missing = wanted.saturating_sub(taken).min(BURST);
        if missing == 0 {
            return;
        }
        if let Some(left) = self.pause() {
            plan.look_again_after_seconds = Some(left);
            return;
        }
        plan.create = if self.indexed() {
            self.free_indexes(active).into_iter().take(missing).map(|index| self.wanted(index)).collect()
        } else {
            vec![Wanted { index: None, failures: None }; missing]
        };
    }

    /// Pods whose index is none of the Job's, or another's too, and the rest.
    fn misplaced(&self, active: &[Arc<Pod>]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let mut sorted = active.to_vec();
        // The last one of an index stays.
        sorted.sort_by(|a, b| pods::by_deletion_preference(b, a));
        let completions = self.spec.completions.unwrap_or(0);
        let mut seen = BTreeSet::new();
        let is_misplaced = |pod: &Arc<Pod>| match pod::index(pod) {
            Some(index) => !(0..completions).contains(&index) || !seen.insert(index),
            None => true,
        };
        sorted.into_iter().partition(is_misplaced)
    }

    fn free_indexes(&self, active: &[Arc<Pod>]) -> Vec<i32> {
        let going = self.owned.iter().filter(|pod| self.replaces_only_failed() && pods::is_terminating(pod));
        let taken: BTreeSet<i32> = active.iter().chain(going).filter_map(|pod| pod::index(pod)).collect();
        let free =
            |index: &i32| !taken.contains(index) && !self.done.contains(index) && !self.failed_indexes.contains(index);
        (0..self.spec.completions.unwrap_or(0)).filter(free).collect()
    }

    fn wanted(&self, index: i32) -> Wanted {
        let per_index = self.spec.backoff_limit_per_index.is_some();
        let ended = self.owned.iter().filter(|pod| pod::index(pod) == Some(index) && self.has_failed(pod));
        let counted = ended.filter(|pod| policy::meaning(self.spec, pod) != Meaning::Ignore);
        let failures = counted.map(|pod| pod::failures(pod) + 1).max().unwrap_or(0);
        Wanted { index: Some(index), failures: per_index.then_some(failures) }
    }

    /// Seconds to wait before the next pod: the longer the more failed since one succeeded.
    fn pause(&self) -> Option<u64> {
        let time = |succeeded: bool| {
            let ended = self.owned.iter().filter(move |pod| match succeeded {
                true => pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded"),
                false => self.has_failed(pod),
            });
            ended.map(|pod| ended_at(pod).unwrap_or(self.now))
        };
        let since = time(true).max();
        let failures: Vec<Timestamp> = time(false).filter(|at| since.is_none_or(|since| *at > since)).collect();
        let last = failures.iter().max()?;
        let doublings = u32::try_from(failures.len().saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let pause = (FIRST_PAUSE_SECONDS << doublings).min(LONGEST_PAUSE_SECONDS);
        let left = last.as_second() + pause - self.now.as_second();
        u64::try_from(left).ok().filter(|left| *left > 0)
    }
}

fn names(pods: &[Arc<Pod>]) -> Vec<(String, String)> {
    pods.iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect()
}

/// When the last container of a pod ended, or else when the pod was told to go.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    let ends = statuses.iter().filter_map(|one| one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let ends = ends.map(|time| time.0).max();
    ends.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .or_else(|| pods::condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0))
}
