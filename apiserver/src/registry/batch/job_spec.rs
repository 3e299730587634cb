//! What holds for the spec of a Job, in Jobs and in the templates of CronJobs.

use martello_api::status::Cause;

use super::job_policies;
use crate::registry::validation::{field::Field, pod};

/// Most pods of an indexed Job at once, and most failed indexes: what is done is kept in its status as text.
const MAX_INDEXED: i64 = 100_000;
/// Completions above which an indexed Job with a back-off per index has tighter bounds.
const MANY_COMPLETIONS: i64 = 100_000;
/// These bounds.
const BOUND_FOR_MANY: i64 = 10_000;
/// Longest name of who manages a Job.
const MAX_MANAGER: usize = 63;

const NUMBERS: [&str; 7] = [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

/// Checks the spec of a Job, the selector apart.
pub(super) fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in NUMBERS {
        spec.at(key).not_negative(causes);
    }
    if spec.get("maxFailedIndexes").is_some() && spec.get("backoffLimitPerIndex").is_none() {
        spec.at("backoffLimitPerIndex").required("when maxFailedIndexes is specified", causes);
    }
    if let Some(manager) = spec.get("managedBy") {
        manager.domain_prefixed_path(causes);
        if manager.text().len() > MAX_MANAGER {
            causes.push(Cause::too_long(manager.path.as_str(), MAX_MANAGER));
        }
    }
    completion_mode(spec, causes);
    job_policies::pod_failure(spec, causes);
    job_policies::success(spec, causes);
    job_policies::replacement(spec, causes);
    let template = spec.at("template");
    pod::template(template.value, &[], &template.path, causes);
    restart_policy(spec, causes);
}

fn restart_policy(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let policy = spec.at("template").at("spec").at("restartPolicy");
    match policy.text() {
        "" | "Always" => policy.required("valid values: \"OnFailure\", \"Never\"", causes),
        "OnFailure" if spec.get("podFailurePolicy").is_some() => {
            policy.invalid("only \"Never\" is supported when podFailurePolicy is specified", causes);
        }
        _ => policy.one_of(&["OnFailure", "Never"], causes),
    }
}

fn completion_mode(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(mode) = spec.get("completionMode") {
        mode.one_of(&["NonIndexed", "Indexed"], causes);
        if mode.text() == "Indexed" {
            indexed(spec, causes);
        }
    }
    if matches!(spec.str("completionMode"), "" | "NonIndexed") {
        for found in ["backoffLimitPerIndex", "maxFailedIndexes"].iter().filter_map(|key| spec.get(key)) {
            found.invalid("requires indexed completion mode", causes);
        }
    }
}

fn indexed(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (completions, parallelism, failed) =
        (spec.at("completions"), spec.at("parallelism"), spec.at("maxFailedIndexes"));
    let above = |field: &Field<'_>, bound: i64| field.int().is_some_and(|number| number > bound);
    if completions.int().is_none() {
        completions.required("when completion mode is Indexed", causes);
    }
    if above(&parallelism, MAX_INDEXED) {
        let why = format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
        parallelism.invalid(&why, causes);
    }
    if completions.int().is_some_and(|completions| above(&failed, completions)) {
        failed.invalid("must be less than or equal to completions", causes);
    }
    if above(&failed, MAX_INDEXED) {
        failed.invalid(&format!("must be less than or equal to {MAX_INDEXED}"), causes);
    }
    if !above(&completions, MANY_COMPLETIONS) || spec.get("backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.int().is_none() {
        failed.required(&format!("must be specified when completions is above {MANY_COMPLETIONS}"), causes);
    }
    for bounded in [&parallelism, &failed].into_iter().filter(|field| above(field, BOUND_FOR_MANY)) {
        let why = format!(
            "must be less than or equal to {BOUND_FOR_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        );
        bounded.invalid(&why, causes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(check: fn(&Field<'_>, &mut Vec<Cause>), spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::new(&spec, "spec"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn an_indexed_job_knows_its_end() {
        assert_eq!(
            faults(completion_mode, json!({"completionMode": "Indexed"})),
            ["spec.completions: Required value: when completion mode is Indexed"]
        );
        assert_eq!(
            faults(
                completion_mode,
                json!({"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1})
            ),
            ["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"]
        );
    }

    #[test]
    fn a_job_ends() {
        let spec = |policy: &str| json!({"template": {"spec": {"restartPolicy": policy}}});
        assert_eq!(faults(restart_policy, spec("Never")), Vec::<String>::new());
        assert_eq!(
            faults(restart_policy, spec("Always")),
            [r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]
        );
    }
}
