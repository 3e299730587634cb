//! What says where and when pods are placed: gates, spreading, tolerations.

use martello_api::status::Cause;
use serde_json::json;

use super::affinity::topology_key;
use crate::registry::validation::{field::Field, selector, text};

/// Checks readiness and scheduling gates.
pub(super) fn gates(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for gate in spec.items("readinessGates") {
        gate.at("conditionType").check(text::qualified_name, causes);
    }
    let mut seen: Vec<&str> = Vec::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.str("name");
        for fault in text::qualified_name(name) {
            causes.push(Cause::invalid(gate.path.as_str(), &json!(name), &fault));
        }
        if seen.contains(&name) {
            causes.push(Cause::duplicate(gate.path.as_str(), &json!(name)));
        }
        seen.push(name);
    }
}

/// Checks how pods spread over places.
pub(super) fn spread(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for constraint in spec.items("topologySpreadConstraints") {
        let when = constraint.at("whenUnsatisfiable");
        let skew = constraint.at("maxSkew");
        if skew.int().unwrap_or(0) <= 0 {
            causes.push(Cause::invalid(
                skew.path,
                &json!(skew.value.as_i64().unwrap_or(0)),
                "must be greater than zero",
            ));
        }
        topology_key(&constraint, causes);
        when.one_of(&["DoNotSchedule", "ScheduleAnyway"], causes);
        let pair = (constraint.str("topologyKey"), when.text());
        if seen.contains(&pair) {
            let path = format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path);
            causes.push(Cause::duplicate(path, &json!(format!("{{{}, {}}}", pair.0, pair.1))));
        }
        seen.push(pair);
        let domains = constraint.at("minDomains");
        if domains.int().is_some_and(|number| number <= 0) {
            domains.invalid("must be greater than zero", causes);
        }
        if domains.int().is_some() && when.text() != "DoNotSchedule" {
            let why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
            domains.invalid(why, causes);
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.get(key) {
                policy.one_of(&["Honor", "Ignore"], causes);
            }
        }
        match_keys(&constraint, causes);
        let labels = constraint.at("labelSelector");
        selector::check(Some(labels.value), &labels.path, causes);
    }
}

fn match_keys(constraint: &Field<'_>, causes: &mut Vec<Cause>) {
    let keys = constraint.at("matchLabelKeys");
    let labels = constraint.at("labelSelector");
    if constraint.count("matchLabelKeys") > 0 && labels.value.is_null() {
        keys.forbidden("must not be specified when labelSelector is not set", causes);
        return;
    }
    for key in constraint.items("matchLabelKeys") {
        key.check(text::label_key, causes);
        let taken = labels.items("matchExpressions").iter().any(|expression| expression.str("key") == key.text())
            || labels.at("matchLabels").get(key.text()).is_some();
        if taken {
            key.invalid("exists in both matchLabelKeys and labelSelector", causes);
        }
    }
}

/// Checks tolerations.
pub fn tolerations(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for toleration in spec.items("tolerations") {
        let (key, operator) = (toleration.at("key"), toleration.at("operator"));
        let (effect, value) = (toleration.at("effect"), toleration.str("value"));
        key.check_if_set(text::label_key, causes);
        if key.text().is_empty() && operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.push(Cause::invalid(operator.path.as_str(), &json!(operator.text()), why));
        }
        if toleration.get("tolerationSeconds").is_some() && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.push(Cause::invalid(effect.path.as_str(), &json!(effect.text()), why));
        }
        match operator.text() {
            "" | "Equal" => {
                let faults = text::label_value(value);
                if !faults.is_empty() {
                    causes.push(Cause::invalid(operator.path.as_str(), &json!(value), &faults.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                causes.push(Cause::invalid(operator.path.as_str(), &json!(value), why));
            }
            _ => operator.one_of(&["Equal", "Exists"], causes),
        }
        if !effect.text().is_empty() {
            taint_effect(&effect, causes);
        }
    }
}

/// Checks the effect of a taint.
pub fn taint_effect(effect: &Field<'_>, causes: &mut Vec<Cause>) {
    effect.needs_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], causes);
}
