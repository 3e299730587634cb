//! What a write of a claim needs besides the right to write it: the label of a namespace for devices that others use, and
//! rights of their own for what the status says of devices.

use std::{collections::BTreeSet, sync::Arc};

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
    status::{ApiError, Cause},
};
use martello_policy::Decision;
use serde_json::Value;

use crate::{
    registry::{call::Call, object, validation::text},
    server::Core,
};

/// The label of namespaces in which claims may see devices that others use.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
/// What the token of a pod's service account says of the node that the pod is on.
const NODE_OF_TOKEN: &str = "authentication.kubernetes.io/node-name";
/// What stands before the verb of a right to tell of devices: of those of the caller's own node, and of any.
const OWN_NODE: &str = "associated-node:";
const ANY_NODE: &str = "arbitrary-node:";
/// What is part of a claim for rights alone: who got which devices, and what their drivers tell of them.
const BINDING: &str = "binding";
const DRIVER: &str = "driver";

/// What is wrong with what a new claim asks for, whose spec is under `spec` in an object.
pub(super) async fn asked(core: &Core, call: &Call, object: &Value, spec: &[&str]) -> Result<Vec<Cause>, ApiError> {
    let spec = object::at(object, spec).unwrap_or(&Value::Null);
    let mut requests = object::list(spec, &["devices", "requests"]).iter();
    let Some(place) = requests.position(|request| object::flag(request, &["exactly", "adminAccess"])) else {
        return Ok(Vec::new());
    };
    if is_labeled(core, call).await? {
        return Ok(Vec::new());
    }
    // Upstream's path is that of older versions, of templates too.
    Ok(vec![unlabeled(format!("spec.devices.requests[{place}].adminAccess"))])
}

/// What is wrong with what a changed status says of devices.
pub(super) async fn told(core: &Core, call: &Call, claim: &Value, old: &Value) -> Result<Vec<Cause>, ApiError> {
    let mut causes = Vec::new();
    if let (None, Some(place)) = (granted(old), granted(claim))
        && !is_labeled(core, call).await?
    {
        causes.push(unlabeled(format!("status.allocation.devices.results[{place}].adminAccess")));
    }
    let same = |key: &str| object::same_at("io.k8s.api.resource.v1.ResourceClaim", &["status", key], claim, old);
    if !(same("allocation") && same("reservedFor")) {
        let target = ResourceTarget {
            subresource: BINDING.to_owned(),
            namespace: String::new(),
            name: String::new(),
            ..call.target.clone()
        };
        if let Some(denial) = denial(core, call, call.verb, target) {
            let why = format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{}\" permission: {denial}",
                call.verb
            );
            causes.push(Cause::forbidden("status", &why));
        }
    }
    let verbs = verbs(&call.user, call.verb, node_of(claim));
    for driver in changed_drivers(claim, old) {
        let target = |verb: &String| {
            let target =
                ResourceTarget { subresource: DRIVER.to_owned(), name: driver.to_owned(), ..call.target.clone() };
            denial(core, call, verb, target)
        };
        // One of them is enough; the first refusal is told.
        let denials: Option<Vec<String>> = verbs.iter().map(target).collect();
        if let Some(denial) = denials.and_then(|denials| denials.into_iter().next()) {
            let why = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {denial}",
                verbs.join(" ")
            );
            causes.push(Cause::forbidden("status.devices", &why));
        }
    }
    Ok(causes)
}

fn unlabeled(path: String) -> Cause {
    let why = format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
    Cause::forbidden(path, &why)
}

async fn is_labeled(core: &Core, call: &Call) -> Result<bool, ApiError> {
    let namespaces = core.registry.find("", "v1", "namespaces").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(namespaces, "", call.namespace()).await?;
    let namespace = core.value(namespaces, &entry).await?;
    Ok(object::text(&namespace, &["metadata", "labels", ADMIN_LABEL]) == "true")
}

/// The first device that was given although others use it.
fn granted(claim: &Value) -> Option<usize> {
    let results = object::list(claim, &["status", "allocation", "devices", "results"]);
    results.iter().position(|result| object::flag(result, &["adminAccess"]))
}

/// Why that is refused, if it is.
fn denial(core: &Core, call: &Call, verb: &str, target: ResourceTarget) -> Option<String> {
    let (user, target) = (Arc::clone(&call.user), Target::Resource(target));
    match core.authorizer.authorize(&Attributes { user, verb: verb.to_owned(), target }) {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => Some(denial.to_api_error().message),
    }
}

/// Drivers of whose devices something else is told than before.
fn changed_drivers<'a>(claim: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let devices = |claim: &'a Value| object::list(claim, &["status", "devices"]);
    let key = |device: &'a Value| ["driver", "pool", "device", "shareID"].map(|key| object::text(device, &[key]));
    let differs = |device: &'a Value, others: &'a [Value]| {
        let same = others.iter().find(|other| key(other) == key(device));
        !same.is_some_and(|other| {
            object::same_of("io.k8s.api.resource.v1.AllocatedDeviceStatus", Some(device), Some(other))
        })
    };
    let (now, before) = (devices(claim), devices(old));
    let changed = now.iter().filter(|device| differs(device, before));
    let gone = before.iter().filter(|device| differs(device, now));
    changed.chain(gone).map(|device| object::text(device, &["driver"])).collect()
}

/// The node that the devices of a claim are on, where they are on one alone.
fn node_of(claim: &Value) -> &str {
    let terms = object::list(claim, &["status", "allocation", "nodeSelector", "nodeSelectorTerms"]);
    let [term] = terms else { return "" };
    let [field] = object::list(term, &["matchFields"]) else { return "" };
    let named = object::text(field, &["key"]) == "metadata.name" && object::text(field, &["operator"]) == "In";
    match object::list(field, &["values"]) {
        [node] if named && object::list(term, &["matchExpressions"]).is_empty() => node.as_str().unwrap_or_default(),
        _ => "",
    }
}

/// Verbs of which one must be allowed.
fn verbs(user: &User, verb: &str, node: &str) -> Vec<String> {
    let own = user.extra.get(NODE_OF_TOKEN).map_or(&[][..], Vec::as_slice);
    let is_there = matches!(own, [own] if own == node)
        && !node.is_empty()
        && user.as_service_account().is_some()
        && text::dns1123_subdomain(node).is_empty();
    let prefixes: &[&str] = if is_there { &[OWN_NODE, ANY_NODE] } else { &[ANY_NODE] };
    prefixes.iter().map(|prefix| format!("{prefix}{verb}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn drivers_are_asked_about_whose_devices_came_changed_or_went() {
        let device =
            |driver: &str, data: i64| json!({"driver": driver, "pool": "p", "device": "d", "data": {"n": data}});
        let claim = |devices: Value| json!({"status": {"devices": devices}});
        let old = claim(json!([device("same", 1), device("changed", 1), device("gone", 1)]));
        let new = claim(json!([device("same", 1), device("changed", 2), device("new", 1)]));
        let found: Vec<_> = changed_drivers(&new, &old).into_iter().collect();
        assert_eq!(found, ["changed", "gone", "new"]);
        assert!(changed_drivers(&old, &old).is_empty());
    }

    #[test]
    fn who_is_on_the_node_of_the_devices_needs_less() {
        let field = json!({"key": "metadata.name", "operator": "In", "values": ["n1"]});
        let claim =
            json!({"status": {"allocation": {"nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]}}}});
        assert_eq!(node_of(&claim), "n1");
        assert_eq!(node_of(&json!({})), "");
        let user = |name: &str, node: &str| User {
            name: name.to_owned(),
            uid: None,
            groups: Vec::new(),
            extra: [(NODE_OF_TOKEN.to_owned(), vec![node.to_owned()])].into(),
        };
        let account = "system:serviceaccount:d:driver";
        assert_eq!(verbs(&user(account, "n1"), "update", "n1"), ["associated-node:update", "arbitrary-node:update"]);
        assert_eq!(verbs(&user(account, "n2"), "update", "n1"), ["arbitrary-node:update"]);
        assert_eq!(verbs(&user("jane", "n1"), "patch", "n1"), ["arbitrary-node:patch"]);
        assert_eq!(verbs(&user(account, ""), "update", ""), ["arbitrary-node:update"]);
    }
}
