//! CSIDrivers.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{field::Field, text},
};

/// Longest name of a driver: it becomes part of a socket's path.
const MAX_NAME: usize = 63;
/// Shortest life of a token that a driver gets: ten minutes.
const MIN_TOKEN_SECONDS: i64 = 600;
/// Longest life of a token that a driver gets.
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
/// Shortest time between two reports of what fits a node.
const MIN_UPDATE_SECONDS: i64 = 10;
/// A field that upstream, as it comes, does not take (`VolumeLimitScaling` is off in 1.36).
const GATED: &str = "preventPodSchedulingIfMissing";
const TOKENS_IN_ATTRIBUTES: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

/// CSIDrivers.
pub struct CsiDrivers;

impl Strategy for CsiDrivers {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "CSIDriver", "csidrivers").cluster_scoped().build()
    }

    fn default(&self, object: &mut Value) {
        let defaults = [
            ("attachRequired", json!(true)),
            ("podInfoOnMount", json!(false)),
            ("storageCapacity", json!(false)),
            ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("requiresRepublish", json!(false)),
            ("seLinuxMount", json!(false)),
        ];
        for (key, value) in defaults {
            object::set_default(object, &["spec"], key, value);
        }
        if object::list(object, &["spec", "volumeLifecycleModes"]).is_empty() {
            object::set(object, &["spec"], "volumeLifecycleModes", vec!["Persistent"]);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::remove(object, &["spec"], GATED);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if object::at(old, &["spec", GATED]).is_none() {
            object::remove(object, &["spec"], GATED);
        }
        // The first change makes the first generation.
        if !object::same_at("io.k8s.api.storage.v1.CSIDriver", &["spec"], object, old) {
            let before = object::int(old, &["metadata", "generation"]).unwrap_or(0);
            object::set(object, &["metadata"], "generation", before + 1);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let driver = Field::new(object, "");
        let spec = driver.at("spec");
        spec.at("fsGroupPolicy").one_of(&["File", "None", "ReadWriteOnceWithFSType"], causes);
        tokens(&spec, causes);
        let modes = spec.at("volumeLifecycleModes");
        for mode in spec.items("volumeLifecycleModes") {
            if !matches!(mode.text(), "Persistent" | "Ephemeral") {
                let known = ["Persistent", "Ephemeral"];
                causes.push(Cause::not_supported(modes.path.as_str(), &json!(mode.text()), &known));
            }
        }
        let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds < MIN_UPDATE_SECONDS) {
            period.invalid("must be greater than or equal to 10 seconds", causes);
        }
        if spec.count("tokenRequests") == 0 && spec.get("serviceAccountTokenInSecrets").is_some() {
            let setting = spec.at("serviceAccountTokenInSecrets");
            setting.invalid("cannot be set when spec.tokenRequests is empty", causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let of = |driver: &Value, key: &str| object::at(driver, &["spec", key]).cloned().unwrap_or(Value::Null);
        // Upstream misspells the first path.
        for (key, path) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            if of(object, key) != of(old, key) {
                causes.push(Cause::invalid(format!("spec.{path}"), &of(object, key), "field is immutable"));
            }
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let tokens = object::list(object, &["spec", "tokenRequests"]);
        if old.is_some_and(|old| object::list(old, &["spec", "tokenRequests"]) == tokens) {
            return Vec::new();
        }
        let unset = object::at(object, &["spec", "serviceAccountTokenInSecrets"]).is_none_or(Value::is_null);
        if !tokens.is_empty() && unset { vec![TOKENS_IN_ATTRIBUTES.to_owned()] } else { Vec::new() }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 8] = [
            Column::name(),
            Column::text("AttachRequired", "spec.attachRequired").boolean(),
            Column::text("PodInfoOnMount", "spec.podInfoOnMount").boolean(),
            Column::text("StorageCapacity", "spec.storageCapacity").boolean(),
            Column::text("TokenRequests", "spec.tokenRequests"),
            Column::text("RequiresRepublish", "spec.requiresRepublish").boolean(),
            Column::text("Modes", "spec.volumeLifecycleModes"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let flag = |key: &str| Cell::from(object::flag(object, &["spec", key]));
        let join =
            |texts: Vec<&str>, none: &str| Cell::from(if texts.is_empty() { none.to_owned() } else { texts.join(",") });
        let audiences = object::list(object, &["spec", "tokenRequests"]);
        let modes = object::list(object, &["spec", "volumeLifecycleModes"]);
        vec![
            object::name(object).into(),
            flag("attachRequired"),
            flag("podInfoOnMount"),
            flag("storageCapacity"),
            join(audiences.iter().map(|token| object::text(token, &["audience"])).collect(), "<unset>"),
            flag("requiresRepublish"),
            join(modes.iter().filter_map(Value::as_str).collect(), "<none>"),
            table::age(object),
        ]
    }
}

/// Checks the name of a driver.
pub fn driver_name(name: &Field<'_>, causes: &mut Vec<Cause>) {
    if !name.needs_text(causes) {
        return;
    }
    if name.text().len() > MAX_NAME {
        causes.push(Cause::too_long(name.path.as_str(), MAX_NAME));
    }
    name.check(|text| text::dns1123_subdomain(&text.to_lowercase()), causes);
}

fn tokens(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for token in spec.items("tokenRequests") {
        let (audience, seconds) = (token.at("audience"), token.at("expirationSeconds"));
        if seen.contains(&audience.text()) {
            causes.push(Cause::duplicate(audience.path, &json!(token.str("audience"))));
            continue;
        }
        seen.insert(audience.text());
        match seconds.int() {
            Some(..MIN_TOKEN_SECONDS) => {
                seconds.invalid("may not specify a duration less than 10 minutes", causes);
            }
            Some(too_long) if too_long > MAX_TOKEN_SECONDS => {
                seconds.invalid("may not specify a duration larger than 2^32 seconds", causes);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_the_spec_is_a_new_generation() {
        let driver = |pod_info: bool| json!({"metadata": {"name": "d"}, "spec": {"podInfoOnMount": pod_info}});
        let updated = |pod_info: bool| {
            let mut new = driver(pod_info);
            CsiDrivers.prepare_update(&mut new, &driver(false), Timestamp::UNIX_EPOCH);
            object::int(&new, &["metadata", "generation"])
        };
        assert_eq!(updated(false), None);
        assert_eq!(updated(true), Some(1));
    }

    #[test]
    fn tokens_in_attributes_are_told_of_when_they_are_asked_for() {
        let driver =
            |seconds: i64| json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": seconds}]}});
        assert_eq!(CsiDrivers.warnings(&driver(600), None), [TOKENS_IN_ATTRIBUTES]);
        assert!(CsiDrivers.warnings(&driver(600), Some(&driver(600))).is_empty());
        assert_eq!(CsiDrivers.warnings(&driver(700), Some(&driver(600))), [TOKENS_IN_ATTRIBUTES]);
        assert!(CsiDrivers.warnings(&json!({"spec": {}}), Some(&driver(600))).is_empty());
    }
}
