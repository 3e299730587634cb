//! What claims and slices have where nothing is said.

use jiff::Timestamp;
use martello_api::clock::rfc3339_seconds;
use serde_json::Value;

use crate::registry::object;

/// Fills in the requests of a claim's spec.
pub fn claim(spec: &mut Value) {
    for request in object::list_mut(spec, &["devices", "requests"]).into_iter().flatten() {
        if let Some(exact) = request.get_mut("exactly").filter(|exact| exact.is_object()) {
            one(exact);
        }
        for alternative in object::list_mut(request, &["firstAvailable"]).into_iter().flatten() {
            one(alternative);
        }
    }
}

/// Fills in what is asked for, in one request or one alternative.
pub(super) fn one(request: &mut Value) {
    if object::text(request, &["allocationMode"]).is_empty() {
        object::set(request, &[], "allocationMode", "ExactCount");
    }
    if object::text(request, &["allocationMode"]) == "ExactCount" && object::int(request, &["count"]).unwrap_or(0) == 0
    {
        object::set(request, &[], "count", 1);
    }
    tolerations(request);
}

/// Fills in the operators of tolerations.
pub fn tolerations(owner: &mut Value) {
    for toleration in object::list_mut(owner, &["tolerations"]).into_iter().flatten() {
        if object::text(toleration, &["operator"]).is_empty() {
            object::set(toleration, &[], "operator", "Equal");
        }
    }
}

/// Fills in since when a device is tainted.
pub fn taints(device: &mut Value, now: Timestamp) {
    for taint in object::list_mut(device, &["taints"]).into_iter().flatten() {
        object::set_default(taint, &[], "timeAdded", rfc3339_seconds(now));
    }
}
