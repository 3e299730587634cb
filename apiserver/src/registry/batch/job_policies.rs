//! When a Job fails or succeeds before all its pods did.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::indexes;
use crate::registry::{
    object,
    validation::{field::Field, text},
};

/// Most rules of a policy.
const MAX_RULES: usize = 20;
/// Most exit codes of a rule: as many as there are.
const MAX_EXIT_CODES: usize = 255;
/// Most patterns of conditions in a rule.
const MAX_PATTERNS: usize = 20;
/// Longest list of indexes in a rule.
const MAX_INDEXES_LENGTH: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Checks `podFailurePolicy`, where there is one.
pub(super) fn pod_failure(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(policy) = spec.get("podFailurePolicy") else { return };
    let count = policy.count("rules");
    if count > MAX_RULES {
        policy.at("rules").too_many(count, MAX_RULES, causes);
    }
    let template = spec.at("template").at("spec");
    let containers: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| template.items(list))
        .map(|container| container.str("name"))
        .collect();
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    for rule in policy.items("rules") {
        failure_rule(&rule, per_index, &containers, causes);
    }
}

fn failure_rule(rule: &Field<'_>, per_index: bool, containers: &[&str], causes: &mut Vec<Cause>) {
    let action = rule.at("action");
    match action.text() {
        "FailIndex" if !per_index => action.invalid("requires the backoffLimitPerIndex to be set", causes),
        "FailIndex" => {}
        _ => one_of(&action, &ACTIONS, causes),
    }
    let (codes, conditions) = (rule.get("onExitCodes"), rule.count("onPodConditions"));
    if let Some(codes) = &codes {
        exit_codes(codes, containers, causes);
    }
    if conditions > MAX_PATTERNS {
        rule.at("onPodConditions").too_many(conditions, MAX_PATTERNS, causes);
    }
    for pattern in rule.items("onPodConditions") {
        pattern.at("type").check(text::qualified_name, causes);
        one_of(&pattern.at("status"), &STATUSES, causes);
    }
    match (codes.is_some(), conditions > 0) {
        (true, true) => without_value(rule, "specifying both OnExitCodes and OnPodConditions is not supported", causes),
        (false, false) => {
            without_value(rule, "specifying one of OnExitCodes and OnPodConditions is required", causes);
        }
        _ => {}
    }
}

fn exit_codes(codes: &Field<'_>, containers: &[&str], causes: &mut Vec<Cause>) {
    let operator = codes.at("operator");
    one_of(&operator, &OPERATORS, causes);
    if let Some(name) = codes.get("containerName").filter(|name| !containers.contains(&name.text())) {
        name.invalid("must be one of the container or initContainer names in the pod template", causes);
    }
    let values = codes.at("values");
    match codes.count("values") {
        0 => values.invalid("at least one value is required", causes),
        count if count > MAX_EXIT_CODES => values.too_many(count, MAX_EXIT_CODES, causes),
        _ => {}
    }
    let mut seen: Vec<i64> = Vec::new();
    let mut ordered = true;
    for value in codes.items("values") {
        let code = value.int().unwrap_or(0);
        if operator.text() == "In" && code == 0 {
            value.invalid("must not be 0 for the In operator", causes);
        }
        if seen.contains(&code) {
            value.duplicate(causes);
        }
        ordered &= seen.last().is_none_or(|before| *before <= code);
        seen.push(code);
    }
    if !ordered {
        values.invalid("must be ordered", causes);
    }
}

/// Complains where the text is missing, naming what there is, or not one of `supported`.
fn one_of(field: &Field<'_>, supported: &[&str], causes: &mut Vec<Cause>) {
    if field.text().is_empty() {
        let listed: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        field.required(&format!("valid values: [{}]", listed.join(" ")), causes);
    } else {
        field.one_of(supported, causes);
    }
}

/// Complains of something without showing it.
pub(super) fn without_value(field: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    causes.push(Cause::new("FieldValueInvalid", field.path.as_str(), format!("Invalid value: {why}")));
}

/// Checks `podReplacementPolicy`, where there is one.
pub(super) fn replacement(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(policy) = spec.get("podReplacementPolicy") else { return };
    if spec.get("podFailurePolicy").is_some() {
        policy.one_of(&["Failed"], causes);
    } else {
        policy.one_of(&["Failed", "TerminatingOrFailed"], causes);
    }
}

/// Checks `successPolicy`, where there is one.
pub(super) fn success(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(policy) = spec.get("successPolicy") else { return };
    if spec.str("completionMode") != "Indexed" {
        let why = "requires indexed completion mode";
        return causes.push(Cause::invalid(policy.path, &go_success(policy.value), why));
    }
    let rules = policy.at("rules");
    match policy.count("rules") {
        0 => rules.required("at least one rules must be specified when the successPolicy is specified", causes),
        count if count > MAX_RULES => rules.too_many(count, MAX_RULES, causes),
        _ => {}
    }
    let completions = spec.at("completions").int().unwrap_or(0);
    for rule in policy.items("rules") {
        success_rule(&rule, completions, causes);
    }
}

fn success_rule(rule: &Field<'_>, completions: i64, causes: &mut Vec<Cause>) {
    let (count, listed) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
    if count.is_none() && listed.is_none() {
        rule.required("at least one of succeededCount or succeededIndexes must be specified", causes);
    }
    let mut total = 0;
    if let Some(listed) = &listed {
        if listed.text().len() > MAX_INDEXES_LENGTH {
            causes.push(Cause::too_long(listed.path.as_str(), MAX_INDEXES_LENGTH));
        }
        match indexes::parse(listed.text(), completions) {
            Ok(intervals) => total = indexes::count(&intervals),
            Err(why) => listed.invalid(&format!("error parsing succeededIndexes: {why}"), causes),
        }
    }
    let Some(count) = count else { return };
    count.not_negative(causes);
    let number = count.int().unwrap_or(0);
    if number > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        count.invalid(&why, causes);
    }
    if listed.is_some() && number > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        count.invalid(&why, causes);
    }
}

fn go_success(policy: &Value) -> Value {
    let of = |rule: &Value, key: &str| rule.get(key).cloned().unwrap_or_default();
    let rules: Vec<Value> = object::list(policy, &["rules"])
        .iter()
        .map(|rule| {
            json!({"SucceededIndexes": of(rule, "succeededIndexes"), "SucceededCount": of(rule, "succeededCount")})
        })
        .collect();
    json!({ "Rules": rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(check: fn(&Field<'_>, &mut Vec<Cause>), spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::new(&spec, "spec"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_rule_asks_for_one_thing() {
        let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}, "template": {"spec": {"containers": [{"name": "c"}]}}});
        assert_eq!(
            faults(pod_failure, rule(json!({"action": "Ignore"}))),
            [
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"
            ]
        );
        assert_eq!(
            faults(
                pod_failure,
                rule(
                    json!({"action": "", "onExitCodes": {"operator": "In", "containerName": "x", "values": [2, 1, 0, 1]}})
                )
            ),
            [
                r#"spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
                r#"spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template"#,
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[3]: Duplicate value: 1",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1,0,1]: must be ordered",
            ]
        );
    }

    #[test]
    fn no_more_can_succeed_than_are_listed() {
        let spec = json!({"completionMode": "Indexed", "completions": 3,
            "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": 2}]}});
        assert_eq!(
            faults(success, spec),
            [
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 2: must be less than or equal to 1 (the number of indexes in the specified succeededIndexes field)"
            ]
        );
    }
}
