//! ResourcePoolStatusRequests: questions about the devices of a driver, which somebody answers once.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::{
    GROUP,
    lists::{driver, pool},
};
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{
        condition,
        field::{Field, capitalized},
        text,
    },
};

/// ResourcePoolStatusRequests.
pub struct PoolStatusRequests;

/// Most pools that can be asked for, and that an answer has.
const MAX_POOLS: i64 = 1000;
const MAX_CONDITIONS: usize = 10;
const MAX_ERROR_BYTES: usize = 256;
/// Numbers of devices in an answer.
const COUNTS: [&str; 4] = ["totalDevices", "allocatedDevices", "availableDevices", "unavailableDevices"];

impl Strategy for PoolStatusRequests {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1alpha3", "ResourcePoolStatusRequest", "resourcepoolstatusrequests")
            .cluster_scoped()
            .status()
            .build()
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        driver(&spec.at("driver"), causes);
        if let Some(name) = spec.get("poolName") {
            pool(&name, causes);
        }
        between(&spec.at("limit"), 1, MAX_POOLS, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::same(object.get("spec"), old.get("spec")) {
            let shown = object.get("spec").cloned().unwrap_or_default();
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        match old.get("status").filter(|before| !before.is_null()) {
            Some(before) if object::same(Some(status.value), Some(before)) => {}
            Some(_) => causes.push(Cause::invalid("status", &capitalized(status.value), "field is immutable")),
            None if status.value.is_null() => {}
            None => check_answer(&status, causes),
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

fn between(number: &Field<'_>, low: i64, high: i64, causes: &mut Vec<Cause>) {
    match number.int() {
        Some(own) if own < low => number.invalid(&format!("must be greater than or equal to {low}"), causes),
        Some(own) if own > high => number.invalid(&format!("must be less than or equal to {high}"), causes),
        _ => {}
    }
}

fn check_answer(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let count = status.at("poolCount");
    match count.int() {
        None => count.required("", causes),
        Some(_) => between(&count, 0, i64::from(i32::MAX), causes),
    }
    let pools = status.items("pools");
    let most = usize::try_from(MAX_POOLS).unwrap_or(usize::MAX);
    if pools.len() > most {
        status.at("pools").too_many(pools.len(), most, causes);
    } else {
        pools.iter().for_each(|pool| check_pool(pool, causes));
    }
    let conditions = status.count("conditions");
    if conditions > MAX_CONDITIONS {
        status.at("conditions").too_many(conditions, MAX_CONDITIONS, causes);
    }
    condition::check(status, causes);
}

fn check_pool(own: &Field<'_>, causes: &mut Vec<Cause>) {
    driver(&own.at("driver"), causes);
    pool(&own.at("poolName"), causes);
    if let Some(node) = own.get("nodeName") {
        node.check(text::dns1123_subdomain, causes);
    }
    for key in COUNTS {
        between(&own.at(key), 0, i64::from(i32::MAX), causes);
    }
    between(&own.at("resourceSliceCount"), 1, i64::from(i32::MAX), causes);
    between(&own.at("generation"), 0, i64::MAX, causes);
    let error = own.at("validationError");
    if error.text().len() > MAX_ERROR_BYTES {
        causes.push(Cause::too_long(error.path, MAX_ERROR_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut causes = Vec::new();
        match old {
            Some(old) => PoolStatusRequests.validate_status(object, old, &mut causes),
            None => PoolStatusRequests.validate_create(object, &mut causes),
        }
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_question_names_a_driver_and_a_limit_within_reason() {
        assert!(faults(&json!({"spec": {"driver": "d.example.com", "limit": 100}}), None).is_empty());
        assert_eq!(
            faults(&json!({"spec": {"limit": 1001}}), None),
            ["spec.driver: Required value", "spec.limit: Invalid value: 1001: must be less than or equal to 1000"]
        );
    }

    #[test]
    fn a_question_is_answered_once() {
        let answer = json!({"status": {"poolCount": 0}});
        assert!(faults(&answer, Some(&json!({}))).is_empty());
        assert!(faults(&answer, Some(&answer)).is_empty());
        let other = json!({"status": {"poolCount": 1}});
        assert_eq!(faults(&other, Some(&answer)), ["status: Invalid value: {\"PoolCount\":1}: field is immutable"]);
        let odd = json!({"status": {"pools": [{"driver": "d", "poolName": "p", "generation": -1}]}});
        assert_eq!(
            faults(&odd, Some(&json!({}))),
            [
                "status.poolCount: Required value",
                "status.pools[0].generation: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }
}
