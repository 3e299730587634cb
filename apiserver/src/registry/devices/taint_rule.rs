//! DeviceTaintRules: taints of devices that are put there by people, and not by drivers.

use jiff::Timestamp;
use martello_api::{
    clock::{self, rfc3339_seconds},
    resource::Resource,
    status::Cause,
};
use serde_json::{Value, json};

use super::{
    GROUP, device_rules,
    lists::{driver, pool},
};
use crate::registry::{
    kind::{Cell, Column, Deleted, Generation, Strategy, resource},
    object, table,
    validation::{condition, field::Field, text},
};

/// DeviceTaintRules.
pub struct TaintRules;

/// Most conditions of a status.
const MAX_CONDITIONS: usize = 8;
const TAINT: [&str; 2] = ["spec", "taint"];

impl Strategy for TaintRules {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1alpha3", "DeviceTaintRule", "devicetaintrules").cluster_scoped().status().build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &TAINT, "timeAdded", rfc3339_seconds(clock::now()));
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    /// The time is that of the effect: where only this changed, it is now.
    fn prepare_update(&self, object: &mut Value, old: &Value, now: Timestamp) {
        let part = |rule: &Value, key: &str| object::text(rule, &["spec", "taint", key]).to_owned();
        let same = |key: &str| part(object, key) == part(old, key);
        if !same("effect") && same("timeAdded") {
            object::set(object, &TAINT, "timeAdded", rfc3339_seconds(now));
        }
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        check_selector(&spec.at("deviceSelector"), causes);
        device_rules::taint(&spec.at("taint"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        check_selector(&spec.at("deviceSelector"), causes);
        let taint = spec.at("taint");
        device_rules::tainted_with(&taint, causes);
        if taint.str("effect") != object::text(old, &["spec", "taint", "effect"]) {
            device_rules::taint_effect(&taint, causes);
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        condition::check(&status, causes);
        let count = status.count("conditions");
        if count > MAX_CONDITIONS {
            status.at("conditions").too_many(count, MAX_CONDITIONS, causes);
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }
}

fn check_selector(selector: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(name) = selector.get("driver") {
        driver(&name, causes);
    }
    if let Some(name) = selector.get("pool") {
        pool(&name, causes);
    }
    if let Some(name) = selector.get("device") {
        name.check(text::dns1123_label, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(effect: &str) -> Value {
        json!({"spec": {"deviceSelector": {"driver": "d.example.com"},
            "taint": {"key": "k", "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"}}})
    }

    #[test]
    fn a_taint_is_as_old_as_its_effect() {
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        let (mut changed, old) = (rule("NoExecute"), rule("NoSchedule"));
        TaintRules.prepare_update(&mut changed, &old, now);
        assert_eq!(changed["spec"]["taint"]["timeAdded"], "2026-02-02T00:00:00Z");
        let mut same = rule("NoSchedule");
        TaintRules.prepare_update(&mut same, &old, now);
        assert_eq!(same, old);
    }

    #[test]
    fn an_effect_is_judged_when_it_changes() {
        let faults = |new: &str, old: &str| {
            let mut causes = Vec::new();
            TaintRules.validate_update(&rule(new), &rule(old), &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert_eq!(faults("Odd", "None"), ["spec.taint.effect"]);
        assert!(faults("Odd", "Odd").is_empty());
    }
}
