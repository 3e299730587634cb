//! CronJobs.

use jiff::{Timestamp, tz::TimeZone};
use martello_api::{cron::Schedule, resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{job, job_spec};
use crate::registry::{
    apps::workload,
    core::pod_defaults,
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// CronJobs.
pub struct CronJobs;

/// Longest name: the Jobs' names have the minute behind it.
const MAX_NAME: usize = 52;
/// Longest part of a time zone's name.
const MAX_ZONE_PART: usize = 14;
const TEMPLATE: [&str; 3] = ["spec", "jobTemplate", "spec"];

impl Strategy for CronJobs {
    fn resource(&self) -> Resource {
        resource("batch", "v1", "CronJob", "cronjobs").short(&["cj"]).categories(&["all"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        pod_defaults::spec(object, &["spec", "jobTemplate", "spec", "template", "spec"], false);
        if object::text(object, &["spec", "concurrencyPolicy"]).is_empty() {
            object::set(object, &["spec"], "concurrencyPolicy", "Allow");
        }
        object::set_default(object, &["spec"], "suspend", false);
        object::set_default(object, &["spec"], "successfulJobsHistoryLimit", 3);
        object::set_default(object, &["spec"], "failedJobsHistoryLimit", 1);
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check_spec(object, None, causes);
        let name = Field::new(object, "").at("metadata").at("name");
        if name.text().len() > MAX_NAME {
            name.invalid(&format!("must be no more than {MAX_NAME} characters"), causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        check_spec(object, Some(old), causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut said = workload::name_warnings(object, old);
        said.extend(job::spec_warnings(object, old, &TEMPLATE));
        if old.is_some() && object::text(object, &["spec", "schedule"]).contains("TZ") {
            // The path is upstream's.
            said.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        said
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 10] = [
            Column::name(),
            Column::text("Schedule", "spec.schedule"),
            Column::text("Timezone", "spec.timeZone"),
            Column { kind: "boolean", ..Column::text("Suspend", "spec.suspend") },
            Column::text("Active", "status.active").integer(),
            Column::text("Last Schedule", "status.lastScheduleTime"),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "spec.jobTemplate.spec.selector").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let or_none = |text: &str| Cell::from(if text.is_empty() { "<none>" } else { text });
        let suspended = match object::at(object, &["spec", "suspend"]).and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = object::text(object, &["status", "lastScheduleTime"]);
        let [names, images] =
            workload::containers_at(object, &["spec", "jobTemplate", "spec", "template", "spec", "containers"]);
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "schedule"]).into(),
            or_none(object::text(object, &["spec", "timeZone"])),
            suspended.into(),
            object::list(object, &["status", "active"]).len().into(),
            if last.is_empty() { "<none>".into() } else { Cell::since(last) },
            table::age(object),
            names,
            images,
            table::selector_text(object::at(object, &["spec", "jobTemplate", "spec", "selector"])).into(),
        ]
    }
}

fn check_spec(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = Field::new(object, "").at("spec");
    check_schedule(&spec, old, causes);
    spec.at("startingDeadlineSeconds").not_negative(causes);
    let zone = spec.at("timeZone");
    if old.is_none_or(|old| object::at(old, &["spec", "timeZone"]).unwrap_or(&Value::Null) != zone.value) {
        check_zone(&zone, causes);
    }
    spec.at("concurrencyPolicy").needs_one_of(&["Allow", "Forbid", "Replace"], causes);
    let template = spec.at("jobTemplate").at("spec");
    job_spec::check(&template, causes);
    if let Some(selector) = template.get("selector") {
        selector.invalid("`selector` will be auto-generated", causes);
    }
    if template.flag("manualSelector") {
        let manual = template.at("manualSelector");
        causes.push(Cause::not_supported(manual.path, manual.value, &["nil", "false"]));
    }
    spec.at("successfulJobsHistoryLimit").not_negative(causes);
    spec.at("failedJobsHistoryLimit").not_negative(causes);
}

/// A time zone inside of the schedule is only let be where it was from of old.
fn check_schedule(spec: &Field<'_>, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let schedule = spec.at("schedule");
    if !schedule.needs_text(causes) {
        return;
    }
    if let Err(error) = Schedule::parse(schedule.text()) {
        schedule.invalid(&error.to_string(), causes);
    }
    let old_zone = old.is_some_and(|old| object::text(old, &["spec", "schedule"]).contains("TZ"));
    match (schedule.text().contains("TZ"), old_zone) {
        (true, true) if spec.get("timeZone").is_some() => {
            schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", causes);
        }
        (true, false) => {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", causes);
        }
        _ => {}
    }
}

fn check_zone(zone: &Field<'_>, causes: &mut Vec<Cause>) {
    if zone.value.is_null() {
        return;
    }
    let name = zone.text();
    if name.is_empty() {
        return zone.invalid("timeZone must be nil or non-empty string", causes);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
    let sound = name.split('/').all(|part| {
        (1..=MAX_ZONE_PART).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(allowed)
    });
    if !sound {
        return zone.invalid(&format!("unknown time zone {name}"), causes);
    }
    if name.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        zone.invalid(why, causes);
    }
    if !matches!(name, "UTC" | "Local") && !is_zone(name) {
        zone.invalid(&format!("unknown time zone {name}"), causes);
    }
}

/// Whether there is a zone of exactly this name: the files that upstream reads are told apart by case.
fn is_zone(name: &str) -> bool {
    let same = |own: &str| own == name || !own.eq_ignore_ascii_case(name);
    TimeZone::get(name).is_ok_and(|zone| zone.iana_name().is_none_or(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(spec: Value, old: Option<Value>) -> Vec<String> {
        let mut causes = Vec::new();
        let old = old.map(|old| json!({"spec": old}));
        check_schedule(&Field::new(&spec, "spec"), old.as_ref(), &mut causes);
        causes.into_iter().map(|cause| cause.message).collect()
    }

    #[test]
    fn a_zone_in_the_schedule_is_of_old() {
        let zoned = json!({"schedule": "TZ=UTC 0 0 * * *"});
        assert_eq!(
            faults(zoned.clone(), None),
            [r#"Invalid value: "TZ=UTC 0 0 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#]
        );
        assert_eq!(faults(zoned.clone(), Some(zoned)), Vec::<String>::new());
    }

    #[test]
    fn a_zone_is_one_of_those_of_the_world() {
        let faults = |name: &str| {
            let (value, mut causes) = (json!(name), Vec::new());
            check_zone(&Field::new(&value, "z"), &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        assert_eq!(faults("Europe/Berlin"), Vec::<String>::new());
        assert_eq!(faults("UTC"), Vec::<String>::new());
        assert_eq!(faults("Mars/Base"), [r#"Invalid value: "Mars/Base": unknown time zone Mars/Base"#]);
        assert_eq!(faults("Europe//Berlin").len(), 1);
        assert_eq!(faults("europe/berlin"), [r#"Invalid value: "europe/berlin": unknown time zone europe/berlin"#]);
        assert_eq!(faults("local").len(), 2);
        assert_eq!(faults("Local").len(), 1);
    }
}
