//! Whether the node has room.

use super::Request;
use crate::snapshot::NodeInfo;

/// Whether the pod asks for more than the node has, empty or not.
pub(super) fn exceeds(request: &Request<'_>, node: &NodeInfo) -> bool {
    request.resources.iter().any(|(name, wanted)| wanted > 0 && wanted > node.allocatable.get(name))
}

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let mut reasons = Vec::new();
    let most_pods = node.allocatable.get("pods");
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= most_pods {
        reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in request.resources.iter() {
        let free = node.allocatable.get(name) - node.requested.get(name);
        if wanted > 0 && wanted > free {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}
