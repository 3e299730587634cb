//! A node agent writes only its own Node, its own Lease and the pods that are bound to it.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// Labels under these prefixes a node may not give itself, but for those that describe it.
const RESTRICTED_SUFFIXES: [&str; 2] = ["kubernetes.io", "k8s.io"];
const ALLOWED_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];
const ALLOWED_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Checks a write of a node agent.
pub async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = call.user.node_name() else { return Ok(()) };
    match (kind.group(), kind.name()) {
        ("", "Node") => node_object(kind, call, node, operation, object, old),
        ("", "Pod") => pod(kind, call, node, operation, object, old),
        ("coordination.k8s.io", "Lease") => lease(kind, call, node, object),
        ("storage.k8s.io", "CSINode") => own_name(kind, call, node, object),
        ("resource.k8s.io", "ResourceSlice") => slice(kind, call, node, object.or(old)),
        ("", "PersistentVolumeClaim") => claim_status(kind, call, node, operation, object, old),
        ("", "ServiceAccount") => token(core, kind, call, node).await,
        _ => Ok(()),
    }
}

fn node_object(
    kind: &Kind,
    call: &Call,
    node: &str,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let name = object.map_or_else(|| call.name(), object::name);
    let refuse = |why: String| Err(kind.forbidden(name, &why));
    if operation == Operation::Delete {
        return Ok(());
    }
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let Some(object) = object else { return Ok(()) };
    if let Some(old) = old
        && object::at(object, &["spec", "taints"]) != object::at(old, &["spec", "taints"])
    {
        return refuse(format!("node {node:?} is not allowed to modify taints"));
    }
    let old_labels = old.and_then(|old| object::at(old, &["metadata", "labels"]));
    let labels = object::at(object, &["metadata", "labels"]).and_then(Value::as_object);
    let forbidden: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter(|(key, value)| old_labels.and_then(|old| old.get(key.as_str())) != Some(*value))
        .filter(|(key, _)| is_restricted(key))
        .map(|(key, _)| key.as_str())
        .collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

fn is_restricted(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let under = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if ALLOWED_LABELS.contains(&key) || ALLOWED_PREFIXES.iter().any(|allowed| under(allowed)) {
        return false;
    }
    RESTRICTED_SUFFIXES.iter().any(|suffix| under(suffix))
}

fn pod(
    kind: &Kind,
    call: &Call,
    node: &str,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let of =
        |pod: Option<&Value>| pod.map(|pod| object::text(pod, &["spec", "nodeName"]).to_owned()).unwrap_or_default();
    let name = object.or(old).map_or_else(|| call.name(), object::name);
    match operation {
        Operation::Create => {
            let mirror = object
                .and_then(|pod| object::at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]))
                .is_some();
            if !mirror {
                return Err(kind.forbidden(name, &format!("pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods")));
            }
            if of(object) != node {
                return Err(kind
                    .forbidden(name, &format!("node {node:?} can only create pods with spec.nodeName set to itself")));
            }
            Ok(())
        }
        Operation::Update | Operation::Delete if of(old) != node => {
            let what = if operation == Operation::Delete { "delete pods" } else { "update pod status for pods" };
            Err(kind.forbidden(name, &format!("node {node:?} can only {what} with spec.nodeName set to itself")))
        }
        Operation::Update | Operation::Delete | Operation::Connect => Ok(()),
    }
}

/// A node has one CSINode, of its own name.
fn own_name(kind: &Kind, call: &Call, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let name = object.map_or_else(|| call.name(), object::name);
    if name == node {
        return Ok(());
    }
    Err(kind.forbidden(name, "can only access CSINode with the same name as the requesting node"))
}

/// A node tells only of its own devices.
fn slice(kind: &Kind, call: &Call, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let own = object.map_or("", |slice| object::text(slice, &["spec", "nodeName"]));
    if object.is_none() || own == node {
        return Ok(());
    }
    let name = object.map_or_else(|| call.name(), object::name);
    Err(kind.forbidden(name, "can only create ResourceSlice with the same NodeName as the requesting node"))
}

/// Of a claim a node may tell how far it has grown, and nothing else.
fn claim_status(
    kind: &Kind,
    call: &Call,
    node: &str,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    const OPEN: [&str; 6] = [
        "capacity",
        "conditions",
        "allocatedResources",
        "allocatedResourceStatuses",
        "currentVolumeAttributesClassName",
        "modifyVolumeStatus",
    ];
    let (Some(object), Some(old)) = (object, old) else { return Ok(()) };
    if operation != Operation::Update || call.target.subresource != "status" {
        return Ok(());
    }
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for key in OPEN {
            object::remove(&mut rest, &["status"], key);
        }
        for key in ["managedFields", "resourceVersion"] {
            object::remove(&mut rest, &["metadata"], key);
        }
        rest
    };
    if object::semantically_equal(Some(&rest(object)), Some(&rest(old))) {
        return Ok(());
    }
    let why = format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions");
    Err(kind.forbidden(object::name(object), &why))
}

fn lease(kind: &Kind, call: &Call, node: &str, object: Option<&Value>) -> Result<(), ApiError> {
    let name = object.map_or_else(|| call.name(), object::name);
    if call.namespace() != "kube-node-lease" {
        let why = "can only access leases in the \"kube-node-lease\" system namespace";
        return Err(kind.forbidden(name, why));
    }
    if name != node {
        return Err(kind.forbidden(name, "can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

/// A node gets tokens only for pods that are bound to it; checked where the token is made, with the pod at hand.
async fn token(_core: &Arc<Core>, _kind: &Kind, _call: &Call, _node: &str) -> Result<(), ApiError> {
    Ok(())
}
