//! Jobs.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{job_spec, job_status, job_update};
use crate::{
    registry::{
        apps::workload,
        call::Call,
        cell::human_duration,
        core::pod_defaults,
        kind::{Cell, Change, Checked, Column, Generation, Strategy, plain_field, resource},
        object, table,
        validation::{
            field::{Field, sorted},
            pod, selector, text,
        },
    },
    server::Core,
};

/// Jobs.
pub struct Jobs;

/// The label of the Job's uid, by which it knows its pods.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";
/// Labels that the pods of a Job have, in the order in which upstream looks at them.
const GENERATED: [Generated; 4] = [
    Generated::Uid(OLD_CONTROLLER_UID),
    Generated::Name(OLD_JOB_NAME),
    Generated::Uid(CONTROLLER_UID),
    Generated::Name(JOB_NAME),
];
/// Those that they had before the others came up.
const GENERATED_OF_OLD: [Generated; 2] = [Generated::Uid(OLD_CONTROLLER_UID), Generated::Name(OLD_JOB_NAME)];
/// A label by its key, and what of the Job it has as its value.
#[derive(Clone, Copy, Debug)]
enum Generated {
    Uid(&'static str),
    Name(&'static str),
}

/// How often a Job that does not say may fail.
const BACKOFF_LIMIT: i64 = 6;
/// Completions and pods at once from which an indexed Job may not be able to keep its failed indexes.
const MANY: (i64, i64) = (100_000, 10_000);
const UNTRACKED: &str = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";

impl Strategy for Jobs {
    fn resource(&self) -> Resource {
        resource("batch", "v1", "Job", "jobs").categories(&["all"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        pod_defaults::spec(object, &["spec", "template", "spec"], false);
        let spec = &["spec"];
        let has = |object: &Value, key: &str| object::at(object, &["spec", key]).is_some_and(|value| !value.is_null());
        if !has(object, "completions") && !has(object, "parallelism") {
            object::set(object, spec, "completions", 1);
        }
        object::set_default(object, spec, "parallelism", 1);
        let limit = if has(object, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { BACKOFF_LIMIT };
        object::set_default(object, spec, "backoffLimit", limit);
        take_labels(object);
        object::set_default(object, spec, "completionMode", "NonIndexed");
        object::set_default(object, spec, "suspend", false);
        object::set_default(object, spec, "manualSelector", false);
        for rule in object::list_mut(object, &["spec", "podFailurePolicy", "rules"]).into_iter().flatten() {
            for pattern in object::list_mut(rule, &["onPodConditions"]).into_iter().flatten() {
                if object::text(pattern, &["status"]).is_empty() {
                    object::set(pattern, &[], "status", "True");
                }
            }
        }
        let replacement = if has(object, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        object::set_default(object, spec, "podReplacementPolicy", replacement);
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
        if !object::flag(object, &["spec", "manualSelector"]) {
            generate_selector(object);
        }
    }

    /// The labels that were made for the pods come to the Job too, but only when all is checked.
    fn before_commit<'a>(&'a self, _: &'a Arc<Core>, _: &'a Call, change: Change<'a>) -> Checked<'a> {
        take_labels(change.object);
        Box::pin(async { Ok(()) })
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn delete_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, &GENERATED, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let labels = object::at(old, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let had = [CONTROLLER_UID, JOB_NAME].iter().all(|key| labels.get(*key).is_some());
        check(object, if had { &GENERATED } else { &GENERATED_OF_OLD }, causes);
        let spec = Field::new(object, "").at("spec");
        // Upstream checks the spec of an update twice, and lists what it finds twice.
        check_spec(&spec, causes);
        job_update::check(object, old, causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        job_status::check(object, old, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut said = workload::name_warnings(object, old);
        said.extend(spec_warnings(object, old, &["spec"]));
        said
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        if path != "status.successful" {
            return plain_field(object, path);
        }
        object::int(object, &["status", "succeeded"]).unwrap_or(0).to_string()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 8] = [
            Column::name(),
            Column::text("Status", "Status of the job."),
            Column::text("Completions", "status.succeeded"),
            Column::text("Duration", "Time required to complete the job."),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "spec.selector").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let [names, images] = workload::containers(object);
        vec![
            object::name(object).into(),
            state(object).into(),
            completions(object).into(),
            duration(object),
            table::age(object),
            names,
            images,
            table::selector_text(object::at(object, &["spec", "selector"])).into(),
        ]
    }
}

/// Warnings about the spec of a Job at `at`.
#[must_use]
pub(super) fn spec_warnings(object: &Value, old: Option<&Value>, at: &[&str]) -> Vec<String> {
    if old.is_some_and(|old| object::same_generation(object, old)) {
        return Vec::new();
    }
    let path = at.join(".");
    let spec = Field::new(object::at(object, at).unwrap_or(&Value::Null), path);
    let number = |key: &str| spec.at(key).int().unwrap_or(0);
    let mut said = Vec::new();
    if spec.str("completionMode") == "Indexed" && number("completions") > MANY.0 && number("parallelism") > MANY.1 {
        said.push(format!("{}: {UNTRACKED}", spec.path));
    }
    let template = spec.at("template");
    said.extend(pod::template_warnings(template.value, &[], &template.path));
    said
}

/// A Job without labels has those of its pods.
fn take_labels(object: &mut Value) {
    let labels = object::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(|labels| !object::is_zero(labels))
        && object::at(object, &["metadata", "labels"]).is_none_or(object::is_zero)
    {
        object::set(object, &["metadata"], "labels", labels);
    }
}

/// Labels and a selector that no other Job has.
fn generate_selector(object: &mut Value) {
    let (uid, name) = (object::uid(object).to_owned(), object::name(object).to_owned());
    for (key, value) in [(OLD_CONTROLLER_UID, &uid), (OLD_JOB_NAME, &name), (CONTROLLER_UID, &uid), (JOB_NAME, &name)] {
        object::set_default(object, &["spec", "template", "metadata", "labels"], key, value.as_str());
    }
    object::set_default(object, &["spec", "selector", "matchLabels"], CONTROLLER_UID, uid);
}

fn check(object: &Value, generated: &[Generated], causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    check_generated(&whole, generated, causes);
    let spec = whole.at("spec");
    check_spec(&spec, causes);
    let completions = spec.at("completions").int().unwrap_or(0);
    if spec.str("completionMode") == "Indexed" && completions > 0 {
        let name = whole.at("metadata").at("name");
        let host = format!("{}-{}", name.text(), completions - 1);
        if !text::dns1123_label(&host).is_empty() {
            name.invalid(&format!("will not able to create pod with invalid DNS label: {host}"), causes);
        }
    }
}

fn check_generated(whole: &Field<'_>, generated: &[Generated], causes: &mut Vec<Cause>) {
    let spec = whole.at("spec");
    let found = spec.at("selector");
    if spec.flag("manualSelector") || found.value.is_null() {
        return;
    }
    let (uid, name) = (object::uid(whole.value), object::name(whole.value));
    let metadata = spec.at("template").at("metadata");
    let labels = metadata.at("labels");
    let expected: Vec<(&str, &str)> = generated
        .iter()
        .map(|label| match label {
            Generated::Uid(key) => (*key, uid),
            Generated::Name(key) => (*key, name),
        })
        .collect();
    for (key, value) in expected.iter().copied() {
        match labels.get(key) {
            None => causes.push(Cause::required(format!("{}[{key}]", labels.path), &format!("must be '{value}'"))),
            Some(own) if own.text() != value => {
                let path = format!("{}[{key}]", labels.path);
                causes.push(Cause::invalid(path, &sorted(labels.value), &format!("must be '{value}'")));
            }
            Some(_) => {}
        }
    }
    let expected: serde_json::Map<String, Value> =
        expected.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if selector::is_sound(found.value) && !selector::selects(found.value, Some(&Value::Object(expected))) {
        found.invalid("`selector` not auto-generated", causes);
    }
}

fn check_spec(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    job_spec::check(spec, causes);
    let found = spec.at("selector");
    if found.value.is_null() {
        found.required("", causes);
    } else {
        selector::check(Some(found.value), &found.path, causes);
    }
    let labels = spec.at("template").at("metadata").at("labels");
    let matches = !found.value.is_null() && selector::selects(found.value, Some(labels.value));
    if !matches && (found.value.is_null() || selector::is_sound(found.value)) {
        labels.invalid("`selector` does not match template `labels`", causes);
    }
}

fn state(job: &Value) -> &'static str {
    let is = |condition: &str| job_status::is(job, condition);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if object::is_terminating(job) => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let done = object::int(job, &["status", "succeeded"]).unwrap_or(0);
    match (object::int(job, &["spec", "completions"]), object::int(job, &["spec", "parallelism"]).unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    }
}

/// How long it took, or takes so far.
fn duration(job: &Value) -> Cell {
    let text = |key: &str| object::text(job, &["status", key]);
    let time = |key: &str| text(key).parse::<Timestamp>().ok();
    match (time("startTime"), time("completionTime")) {
        (None, _) => "".into(),
        (Some(_), None) => Cell::since(text("startTime")),
        (Some(start), Some(end)) => human_duration(end.as_second() - start.as_second()).into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::registry::batch) fn made(spec: Value) -> Value {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec});
        Jobs.default(&mut job);
        Jobs.prepare_create(&mut job, Timestamp::UNIX_EPOCH);
        assert_eq!(job["metadata"].get("labels"), None);
        take_labels(&mut job);
        job
    }

    pub(in crate::registry::batch) fn template() -> Value {
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1",
            "terminationMessagePolicy": "File"}]}})
    }

    fn faults(job: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        Jobs.validate_create(job, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_job_knows_its_pods_by_its_uid() {
        let job = made(json!({"template": template()}));
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {CONTROLLER_UID: "u"}}));
        assert_eq!(job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]);
        assert_eq!(faults(&job), Vec::<String>::new());
    }

    #[test]
    fn a_selector_of_another_job_is_refused() {
        let mut job = made(json!({"template": template()}));
        job["spec"]["template"]["metadata"]["labels"][CONTROLLER_UID] = json!("other");
        let faults = faults(&job);
        assert!(faults[0].ends_with("must be 'u'"), "{faults:?}");
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
