//! What holds for the status of a Job, and for its changes.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{indexes, job_policies::without_value};
use crate::registry::{object, validation::field::Field};

/// Conditions that are for ever.
const TERMINAL: [&str; 3] = ["Failed", "Complete", "FailureTarget"];

/// Whether a condition of the Job is true.
#[must_use]
pub fn is(job: &Value, condition: &str) -> bool {
    object::list(job, &["status", "conditions"])
        .iter()
        .any(|own| object::text(own, &["type"]) == condition && object::text(own, &["status"]) == "True")
}

/// A status and the one before. What did not change is not held against a client.
struct Change<'a> {
    job: &'a Value,
    old: &'a Value,
    status: Field<'a>,
}

impl Change<'_> {
    fn changed(&self, key: &str) -> bool {
        !object::same_at("io.k8s.api.batch.v1.Job", &["status", key], self.job, self.old)
    }

    fn turned(&self, condition: &str) -> bool {
        is(self.job, condition) != is(self.old, condition)
    }

    fn ended(&self) -> bool {
        is(self.job, "Complete") || is(self.job, "Failed")
    }

    fn end_turned(&self) -> bool {
        self.ended() != (is(self.old, "Complete") || is(self.old, "Failed"))
    }

    fn number(&self, key: &str) -> i64 {
        self.status.at(key).int().unwrap_or(0)
    }
}

/// Checks a changed status.
pub(super) fn check(job: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let change = Change { job, old, status: Field::new(job, "").at("status") };
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        change.status.at(key).not_negative(causes);
    }
    uncounted(&change.status.at("uncountedTerminatedPods"), causes);
    complete(&change, causes);
    ended(&change, causes);
    listed(&change, causes);
    if change.changed("terminating") || change.end_turned() {
        let terminating = change.status.at("terminating");
        if change.ended() && change.number("terminating") > 0 {
            terminating.invalid("terminating>0 is invalid for finished job", causes);
        }
    }
    if (change.changed("ready") || change.changed("active")) && change.number("ready") > change.number("active") {
        change.status.at("ready").invalid("cannot set more ready pods than active", causes);
    }
    criteria(&change, causes);
    kept(&change, causes);
}

fn uncounted(pods: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for pod in ["succeeded", "failed"].iter().flat_map(|list| pods.items(list)) {
        if pod.text().is_empty() {
            pod.invalid("must not be empty", causes);
        } else if seen.contains(&pod.text()) {
            pod.duplicate(causes);
        } else {
            seen.insert(pod.text());
        }
    }
}

fn complete(change: &Change<'_>, causes: &mut Vec<Cause>) {
    let (status, job) = (&change.status, change.job);
    let (conditions, time, start) = (status.at("conditions"), status.at("completionTime"), status.at("startTime"));
    let complete = is(job, "Complete");
    let turned = change.turned("Complete");
    if complete && is(job, "Failed") && (turned || change.turned("Failed")) {
        without_value(&conditions, "cannot set Complete=True and Failed=true conditions", causes);
    }
    if complete && is(job, "FailureTarget") && (turned || change.turned("FailureTarget")) {
        without_value(&conditions, "cannot set Complete=True and FailureTarget=true conditions", causes);
    }
    if turned || change.changed("completionTime") {
        if !time.value.is_null() && !complete {
            time.invalid("cannot set completionTime when there is no Complete=True condition", causes);
        }
        if time.value.is_null() && complete {
            time.required("completionTime is required for Complete jobs", causes);
        }
    }
    let times = [start.text(), time.text()].map(|text| text.parse::<jiff::Timestamp>().ok());
    if let [Some(start), Some(end)] = times
        && end < start
        && (change.changed("startTime") || change.changed("completionTime"))
    {
        time.invalid("must be equal to or after `startTime`", causes);
    }
}

fn ended(change: &Change<'_>, causes: &mut Vec<Cause>) {
    let (status, job) = (&change.status, change.job);
    let conditions = status.at("conditions");
    let looked_at = change.turned("Failed") || change.changed("failedIndexes");
    if looked_at && is(job, "Failed") && !is(job, "FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        without_value(&conditions, why, causes);
    }
    let turned = change.turned("Complete") || change.turned("SuccessCriteriaMet");
    if turned && is(job, "Complete") && !is(job, "SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        without_value(&conditions, why, causes);
    }
    if !change.ended() {
        return;
    }
    let turned = change.end_turned();
    if (turned || change.changed("active")) && change.number("active") > 0 {
        status.at("active").invalid("active>0 is invalid for finished job", causes);
    }
    // A Job that was never to do anything need not have started.
    let idle = object::flag(job, &["spec", "suspend"]) && object::int(job, &["spec", "completions"]) == Some(0);
    if (turned || change.changed("startTime")) && status.get("startTime").is_none() && !idle {
        status.at("startTime").required("startTime is required for finished job", causes);
    }
    let uncounted = status.at("uncountedTerminatedPods");
    let left = uncounted.count("failed") + uncounted.count("succeeded");
    if (turned || change.changed("uncountedTerminatedPods")) && left > 0 {
        let of = |key: &str| uncounted.value.get(key).cloned().unwrap_or_default();
        let shown = json!({"Succeeded": of("succeeded"), "Failed": of("failed")});
        causes.push(Cause::invalid(uncounted.path, &shown, "must be empty for finished job"));
    }
}

fn listed(change: &Change<'_>, causes: &mut Vec<Cause>) {
    let (done, failed) = (change.status.at("completedIndexes"), change.status.at("failedIndexes"));
    let (done_changed, failed_changed) = (change.changed("completedIndexes"), change.changed("failedIndexes"));
    let spec = Field::new(change.job, "").at("spec");
    let completions = spec.at("completions").int();
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    if let Some(completions) = completions {
        for (indexes, changed) in [(&done, done_changed), (&failed, failed_changed && per_index)] {
            if let Err(why) = indexes::parse(indexes.text(), completions)
                && changed
            {
                let name = indexes.path.rsplit('.').next().unwrap_or_default();
                indexes.invalid(&format!("error parsing {name}: {why}"), causes);
            }
        }
    }
    if done_changed && !done.text().is_empty() && spec.str("completionMode") != "Indexed" {
        done.invalid("cannot set non-empty completedIndexes when non-indexed completion mode", causes);
    }
    if failed_changed && !failed.value.is_null() && !per_index {
        failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null", causes);
    }
    let overlap = completions.and_then(|completions| indexes::overlap(done.text(), failed.text(), completions));
    if let Some(index) = overlap.filter(|_| done_changed || failed_changed) {
        failed.invalid(&format!("failedIndexes and completedIndexes overlap at index: {index}"), causes);
    }
}

fn criteria(change: &Change<'_>, causes: &mut Vec<Cause>) {
    let conditions = change.status.at("conditions");
    if is(change.job, "SuccessCriteriaMet") {
        for condition in ["Failed", "FailureTarget"].into_iter().filter(|condition| is(change.job, condition)) {
            let why = format!("cannot set SuccessCriteriaMet=True and {condition}=true conditions");
            without_value(&conditions, &why, causes);
        }
    } else if object::at(change.job, &["spec", "successPolicy"]).is_some() && is(change.job, "Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        without_value(&conditions, why, causes);
    }
}

/// What was once there stays.
fn kept(change: &Change<'_>, causes: &mut Vec<Cause>) {
    let (status, job, old) = (&change.status, change.job, change.old);
    let conditions = status.at("conditions");
    for condition in TERMINAL.into_iter().filter(|condition| is(old, condition) && !is(job, condition)) {
        let why = format!("cannot disable the terminal {condition}=True condition");
        without_value(&conditions, &why, causes);
    }
    let before = |key: &str| object::int(old, &["status", key]).unwrap_or(0);
    if change.number("failed") < before("failed") {
        invalid_number(&status.at("failed"), "cannot decrease the failed counter", causes);
    }
    let spec = |key: &str| object::int(job, &["spec", key]);
    let elastic =
        object::text(job, &["spec", "completionMode"]) == "Indexed" && spec("completions") == spec("parallelism");
    if change.number("succeeded") < before("succeeded") && !elastic {
        invalid_number(&status.at("succeeded"), "cannot decrease the succeeded counter", causes);
    }
    let had = |key: &str| !object::text(old, &["status", key]).is_empty();
    let time = status.at("completionTime");
    if had("completionTime") && !time.value.is_null() && change.changed("completionTime") {
        time.invalid("field is immutable", causes);
    }
    let resumed = is(old, "Suspended") && !is(job, "Suspended");
    if had("startTime") && change.changed("startTime") && !object::flag(job, &["spec", "suspend"]) && !resumed {
        status.at("startTime").invalid("field is immutable for unsuspended job once set", causes);
    }
    if is(old, "SuccessCriteriaMet") && !is(job, "SuccessCriteriaMet") {
        without_value(&conditions, "cannot disable the SuccessCriteriaMet=True condition", causes);
    }
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && is(job, "SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(&conditions, why, causes);
    }
}

fn invalid_number(field: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    causes.push(Cause::invalid(field.path.as_str(), &field.int().unwrap_or(0).into(), why));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(new: Value, old: Value) -> Vec<String> {
        let job = |status: Value| json!({"spec": {"completions": 3}, "status": status});
        let mut causes = Vec::new();
        check(&job(new), &job(old), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_complete_job_says_since_when() {
        let conditions =
            json!([{"type": "Complete", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}]);
        assert_eq!(
            faults(json!({"conditions": conditions, "startTime": "2026-01-01T00:00:00Z"}), json!({})),
            ["status.completionTime: Required value: completionTime is required for Complete jobs"]
        );
        let done = json!({"conditions": conditions, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:05Z"});
        assert_eq!(faults(done.clone(), json!({})), Vec::<String>::new());
        assert_eq!(
            faults(json!({"startTime": "2026-01-01T00:00:00Z"}), done)[0],
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition"
        );
    }

    #[test]
    fn a_job_is_complete_once() {
        let done = |second: u8| {
            let conditions =
                json!([{"type": "Complete", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}]);
            json!({"conditions": conditions, "startTime": "2026-01-01T00:00:00Z",
                "completionTime": format!("2026-01-01T00:00:0{second}Z")})
        };
        assert_eq!(
            faults(done(6), done(5)),
            [r#"status.completionTime: Invalid value: "2026-01-01T00:00:06Z": field is immutable"#]
        );
        assert_eq!(faults(done(5), done(5)), Vec::<String>::new());
    }

    #[test]
    fn a_job_starts_once_unless_it_was_suspended() {
        let started = |minute: u8, suspended: &str| {
            json!({"startTime": format!("2026-01-01T00:0{minute}:00Z"),
                "conditions": [{"type": "Suspended", "status": suspended}]})
        };
        assert_eq!(
            faults(started(1, "False"), started(0, "False")),
            [
                r#"status.startTime: Invalid value: "2026-01-01T00:01:00Z": field is immutable for unsuspended job once set"#
            ]
        );
        assert_eq!(faults(started(1, "False"), started(0, "True")), Vec::<String>::new());
    }

    #[test]
    fn counters_do_not_fall() {
        assert_eq!(
            faults(json!({"failed": 1}), json!({"failed": 2})),
            ["status.failed: Invalid value: 1: cannot decrease the failed counter"]
        );
    }
}
