//! Pods bear the zone and region of their node as labels (upstream's plugin PodTopologyLabels), for containers that read them
//! through the downward API.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{registry::object, server::Core};

/// The labels of a node that its pods get.
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Labels a binding by the node that it names; the pod gets what a binding has.
pub(super) async fn of_binding(core: &Arc<Core>, binding: &mut Value) -> Result<(), ApiError> {
    if object::text(binding, &["target", "kind"]) != "Node" {
        return Ok(());
    }
    let node = object::text(binding, &["target", "name"]).to_owned();
    label(core, binding, &node).await
}

/// Labels a new pod that names its node itself.
pub(super) async fn of_pod(core: &Arc<Core>, pod: &mut Value) -> Result<(), ApiError> {
    let node = object::text(pod, &["spec", "nodeName"]).to_owned();
    label(core, pod, &node).await
}

async fn label(core: &Arc<Core>, object: &mut Value, node: &str) -> Result<(), ApiError> {
    let Some(kind) = core.registry.find("", "v1", "nodes").filter(|_| !node.is_empty()) else { return Ok(()) };
    // A node that is not there is somebody else's to refuse.
    let Some(entry) = core.find(kind, "", node).await? else { return Ok(()) };
    for name in LABELS {
        if let Some(value) = entry.labels.get(name) {
            object::set(object, &["metadata", "labels"], name, value);
        }
    }
    Ok(())
}
