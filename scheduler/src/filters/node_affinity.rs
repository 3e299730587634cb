//! Whether the node is one that the pod's node selector and node affinity name.

use martello_api::node_selector::selects;

use super::Request;
use crate::snapshot::NodeInfo;

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    if selects(&request.spec, &node.node) {
        return Vec::new();
    }
    vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]
}
