//! What says where and when pods are placed: gates, spreading, tolerations.

use std::collections::{HashMap, HashSet};

use martello_api::status::Cause;
use serde_json::json;

use super::affinity::label_keys;
use crate::registry::validation::{field::Field, selector, text};

/// Checks readiness and scheduling gates.
pub(super) fn gates(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for gate in spec.items("readinessGates") {
        gate.at("conditionType").check(text::qualified_name, causes);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.str("name");
        for fault in text::qualified_name(name) {
            causes.push(Cause::invalid(gate.path.as_str(), &json!(name), &fault));
        }
        if seen.contains(&name) {
            causes.push(Cause::duplicate(gate.path.as_str(), &json!(name)));
        }
        seen.insert(name);
    }
}

/// Checks how pods spread over places.
pub(super) fn spread(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let constraints = spec.items("topologySpreadConstraints");
    let pair = |constraint: &Field<'_>| {
        (constraint.str("topologyKey").to_owned(), constraint.str("whenUnsatisfiable").to_owned())
    };
    let last: HashMap<_, _> = constraints.iter().enumerate().map(|(index, one)| (pair(one), index)).collect();
    for (index, constraint) in constraints.iter().enumerate() {
        let (when, key) = (constraint.at("whenUnsatisfiable"), constraint.at("topologyKey"));
        positive(&constraint.at("maxSkew"), causes);
        if key.text().is_empty() {
            key.required("can not be empty", causes);
        }
        when.one_of(&["DoNotSchedule", "ScheduleAnyway"], causes);
        if last.get(&pair(constraint)).is_some_and(|last| *last > index) {
            let path = format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path);
            causes.push(Cause::duplicate(path, &json!(format!("{{{}, {}}}", key.text(), when.text()))));
        }
        if let Some(domains) = constraint.get("minDomains") {
            positive(&domains, causes);
            if when.text() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.text());
                domains.invalid(&why, causes);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.get(key) {
                policy.one_of(&["Honor", "Ignore"], causes);
            }
        }
        label_keys(constraint, causes);
        let labels = constraint.at("labelSelector");
        selector::check(Some(labels.value), &labels.path, causes);
    }
}

fn positive(number: &Field<'_>, causes: &mut Vec<Cause>) {
    let own = number.int().unwrap_or(0);
    if own <= 0 {
        causes.push(Cause::invalid(number.path.as_str(), &json!(own), "must be greater than zero"));
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
            "Exists" => {}
            // These need a feature that is off.
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                causes.push(Cause::not_supported(operator.path.as_str(), &json!(operator.text()), &known));
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
