//! What resource claims use of a quota: devices, by their class.

use martello_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::{core::pod_usage::Amounts, object};

/// What a quota calls the devices of a class, after the class's name.
pub(super) const BY_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that a claim for all of them may get at most, which is what it is charged for.
const ALL: i64 = 32;

/// The devices that a claim asks for.
pub(super) fn of_claim(claim: &Value) -> Amounts {
    let mut used = Amounts::new();
    for request in object::list(claim, &["spec", "devices", "requests"]) {
        let mut worst = Amounts::new();
        let choices = object::list(request, &["firstAvailable"]);
        // The oldest version that is served has a single choice in the request itself.
        let single = request.get("exactly").unwrap_or(request);
        let choices = if choices.is_empty() { std::slice::from_ref(single) } else { choices };
        for choice in choices {
            let name = format!("{}{BY_CLASS}", object::text(choice, &["deviceClassName"]));
            let count = match object::text(choice, &["allocationMode"]) {
                "ExactCount" => object::int(choice, &["count"]).unwrap_or(0),
                "All" => ALL,
                _ => 0,
            };
            let most = worst.entry(name).or_default();
            *most = (*most).max(Quantity::from_units(count));
        }
        for (name, count) in worst {
            let sum = used.entry(name).or_default();
            *sum = *sum + count;
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_charged_for_the_most_that_it_may_get_of_each_class() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"name": "b", "exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
            {"name": "c", "firstAvailable": [
                {"name": "x", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                {"name": "y", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 4},
                {"name": "z", "deviceClassName": "fpga", "allocationMode": "ExactCount", "count": 1},
            ]},
        ]}}});
        let shown: Vec<String> = of_claim(&claim).iter().map(|(name, count)| format!("{name}={count}")).collect();
        assert_eq!(
            shown,
            [
                "fpga.deviceclass.resource.k8s.io/devices=1",
                "gpu.deviceclass.resource.k8s.io/devices=6",
                "nic.deviceclass.resource.k8s.io/devices=32"
            ]
        );
    }
}
