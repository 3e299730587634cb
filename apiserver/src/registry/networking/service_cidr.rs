//! ServiceCIDRs: the ranges from which Services get their addresses.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    clock::{self, rfc3339_seconds},
    resource::Resource,
    status::Cause,
};
use serde_json::{Value, json};

use super::cidr;
use crate::{
    registry::{
        kind::{Cell, Column, Strategy, resource},
        object, table,
        validation::field::Field,
    },
    server::{Core, followup},
};

/// ServiceCIDRs.
pub struct ServiceCidrs;

/// The range that the server was started with.
const DEFAULT: &str = "kubernetes";
const IMMUTABLE: &str = "field is immutable";
/// Ranges of one object: one of each family.
const MAX_RANGES: usize = 2;

impl Strategy for ServiceCidrs {
    fn resource(&self) -> Resource {
        resource("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs").cluster_scoped().status().build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        let spec = whole.at("spec");
        let (new, was) = (spec.items("cidrs"), object::list(old, &["spec", "cidrs"]));
        match (was.len(), new.len()) {
            (before, after) if before == after => {
                for (range, _) in new.iter().zip(was).filter(|(range, was)| range.value != *was) {
                    range.invalid(IMMUTABLE, causes);
                }
            }
            (1, 2) => {
                if let Some(first) = new.first().filter(|first| was.first() != Some(first.value)) {
                    first.invalid(IMMUTABLE, causes);
                }
                check(object, causes);
            }
            _ => spec.at("cidrs").invalid(IMMUTABLE, causes),
        }
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, _old: Option<&Value>, _revision: u64) {
        let Some(range) = object.filter(|range| object::list(range, &["status", "conditions"]).is_empty()) else {
            return;
        };
        let (core, name) = (Arc::clone(core), object::name(range).to_owned());
        let condition = condition(&name, &rfc3339_seconds(clock::now()));
        followup::spawn("tell whether a ServiceCIDR is used", &name.clone(), async move {
            let path = format!("/apis/networking.k8s.io/v1/servicecidrs/{name}/status");
            followup::patch(&core.own_client(), &path, &json!({"status": {"conditions": [condition]}})).await
        });
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [Column::name(), Column::text("CIDRs", "spec.cidrs"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let ranges: Vec<&str> = object::list(object, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
        vec![object::name(object).into(), ranges.join(",").into(), table::age(object)]
    }
}

/// Addresses come from the range that the server was started with, and from no other.
fn condition(name: &str, now: &str) -> Value {
    let (status, reason, message) = if name == DEFAULT {
        ("True", "", "Kubernetes Service CIDR is ready")
    } else {
        ("False", "NotUsed", "this server gives Services addresses of its own range (--service-cidr) only")
    };
    json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

fn check(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec");
    let (all, ranges) = (spec.at("cidrs"), spec.items("cidrs"));
    if ranges.is_empty() {
        return all.required("at least one CIDR required", causes);
    }
    if ranges.len() > MAX_RANGES {
        let shown = json!({"CIDRs": all.value});
        return causes.push(Cause::invalid(all.path, &shown, "may only hold up to 2 values"));
    }
    ranges.iter().for_each(|range| range.check(cidr::canonical_range, causes));
    if let [first, second] = ranges.as_slice() {
        let family = |range: &Field<'_>| cidr::any_range(range.text()).map(|range| range.addr().is_ipv4());
        if family(first).is_some_and(|one| Some(one) == family(second)) {
            let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            all.invalid(why, causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_range_brings_no_status_of_its_own() {
        let mut range = json!({"status": {"conditions": [{"type": "Ready"}]}});
        ServiceCidrs.prepare_create(&mut range, Timestamp::UNIX_EPOCH);
        assert_eq!(range, json!({"status": {}}));
        assert!(ServiceCidrs.keeps_status());
    }

    #[test]
    fn each_range_is_checked_before_their_families() {
        let told = |ranges: &[&str]| {
            let mut causes = Vec::new();
            check(&json!({"spec": {"cidrs": ranges}}), &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert_eq!(told(&["10.0.0.0/24", "2001:db8::/64"]), Vec::<String>::new());
        let both = told(&["10.0.0.1/24", "10.0.1.0/24"]);
        assert_eq!(
            both[0],
            "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length"
        );
        assert!(both[1].starts_with("spec.cidrs: Invalid value: [\"10.0.0.1/24\",\"10.0.1.0/24\"]: may specify"));
        assert_eq!(
            told(&["a", "b", "c"]),
            ["spec.cidrs: Invalid value: {\"CIDRs\":[\"a\",\"b\",\"c\"]}: may only hold up to 2 values"]
        );
    }
}
