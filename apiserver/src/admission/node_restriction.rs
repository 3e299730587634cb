//! A node agent writes only its own Node, its own Lease and the pods that are bound to it.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::PodSpec;
use martello_api::status::ApiError;
use martello_policy::node::{Referenced, references};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Operation;
use crate::{
    registry::{call::Call, kind::Kind, object, validation::pod::MIRROR},
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
        ("", "Pod") => pod(core, kind, call, node, operation, object, old).await,
        ("coordination.k8s.io", "Lease") => lease(kind, call, node, object),
        ("storage.k8s.io", "CSINode") => own_name(kind, call, node, object),
        ("resource.k8s.io", "ResourceSlice") => slice(kind, call, node, object.or(old)),
        ("", "PersistentVolumeClaim") => claim_status(kind, call, node, operation, object, old),
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
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (Some(object), true) = (object, operation != Operation::Delete) else { return Ok(()) };
    if let Some(old) = old {
        // An owner that does not exist would have the garbage collector delete the Node, and with it its taints and labels.
        for (path, what) in [(["spec", "taints"], "taints"), (["metadata", "ownerReferences"], "ownerReferences")] {
            if !object::same_at("io.k8s.api.core.v1.Node", &path, object, old) {
                return refuse(format!("node {node:?} is not allowed to modify {what}"));
            }
        }
    }
    let forbidden = changed_labels(object, old);
    if forbidden.is_empty() {
        return Ok(());
    }
    let forbidden: Vec<&str> = forbidden.into_iter().collect();
    let forbidden = forbidden.join(", ");
    refuse(match operation {
        Operation::Create => format!("node {node:?} is not allowed to set the following labels: {forbidden}"),
        _ => format!("is not allowed to modify labels: {forbidden}"),
    })
}

/// The restricted labels that are new, different or gone.
fn changed_labels<'a>(object: &'a Value, old: Option<&'a Value>) -> BTreeSet<&'a str> {
    let labels = |object: &'a Value| object::at(object, &["metadata", "labels"]).and_then(Value::as_object);
    let (new, old) = (labels(object), old.and_then(labels));
    let keys = new.into_iter().chain(old).flat_map(|labels| labels.keys().map(String::as_str));
    let value = |labels: Option<&'a Map<String, Value>>, key: &str| labels.and_then(|labels| labels.get(key));
    keys.filter(|key| value(new, key) != value(old, key) && is_restricted(key)).collect()
}

fn is_restricted(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let under = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if ALLOWED_LABELS.contains(&key) || ALLOWED_PREFIXES.iter().any(|allowed| under(allowed)) {
        return false;
    }
    RESTRICTED_SUFFIXES.iter().any(|suffix| under(suffix))
}

async fn pod(
    core: &Arc<Core>,
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
    let refuse = |why: &str| Err(kind.forbidden(name, why));
    match operation {
        Operation::Create => match object {
            Some(object) => mirror_pod(core, kind, node, object).await,
            None => Ok(()),
        },
        Operation::Update | Operation::Delete if of(old) != node => {
            let what = if operation == Operation::Delete { "delete pods" } else { "update pod status for pods" };
            refuse(&format!("node {node:?} can only {what} with spec.nodeName set to itself"))
        }
        Operation::Update => {
            let (Some(object), Some(old)) = (object, old) else { return Ok(()) };
            let differ = |path: &[&str]| !object::same_at("io.k8s.api.core.v1.Pod", path, object, old);
            if differ(&["metadata", "labels"]) {
                return refuse(&format!("node {node:?} cannot update labels through pod status"));
            }
            if differ(&["status", "resourceClaimStatuses"]) || differ(&["status", "extendedResourceClaimStatus"]) {
                return refuse(&format!("node {node:?} cannot update resource claim statues"));
            }
            Ok(())
        }
        Operation::Delete | Operation::Connect => Ok(()),
    }
}

/// A node makes only the mirror pods of what it runs by itself: owned by its Node, and without a way to other objects.
async fn mirror_pod(core: &Arc<Core>, kind: &Kind, node: &str, pod: &Value) -> Result<(), ApiError> {
    let refuse = |why: String| Err(kind.forbidden(object::name(pod), &why));
    if object::at(pod, &["metadata", "annotations", MIRROR]).is_none() {
        return refuse(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if object::text(pod, &["spec", "nodeName"]) != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match object::list(pod, &["metadata", "ownerReferences"]) {
        [owner] => owner,
        [] => return refuse(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return refuse(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let says = |field: &str| object::text(owner, &[field]);
    if (says("apiVersion"), says("kind"), says("name")) != ("v1", "Node", node) {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if object::at(owner, &["controller"]) != Some(&Value::Bool(true)) {
        return refuse(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if object::at(owner, &["blockOwnerDeletion"]) == Some(&Value::Bool(true)) {
        return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let nodes = core.registry.find("", "v1", "nodes").ok_or_else(ApiError::no_such_route)?;
    let own = core.get(nodes, "", node).await?;
    if *own.uid != *says("uid") {
        return refuse(format!("node {node} UID mismatch: expected {} got {}", says("uid"), own.uid));
    }
    let spec: PodSpec = object::at(pod, &["spec"])
        .map(PodSpec::deserialize)
        .transpose()
        .map_err(|error| ApiError::bad_request(format!("the pod's spec can't be read: {error}")))?
        .unwrap_or_default();
    if spec.service_account_name.as_deref().is_some_and(|account| !account.is_empty()) {
        return refuse(format!("node {node:?} can not create pods that reference a service account"));
    }
    for referenced in references(&spec, object::name(pod)) {
        let what = match referenced {
            Referenced::Secret(_) => "secrets",
            Referenced::ConfigMap(_) => "configmaps",
            Referenced::Claim(_) => "persistentvolumeclaims",
            Referenced::ResourceClaim(_) => "resourceclaims",
            // Upstream's rule is on the field alone, above: no field means no token.
            Referenced::ServiceAccount(_) => continue,
        };
        return refuse(format!("node {node:?} can not create pods that reference {what}"));
    }
    Ok(())
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
    if object::same_of("io.k8s.api.core.v1.PersistentVolumeClaim", Some(&rest(object)), Some(&rest(old))) {
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
