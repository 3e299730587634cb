//! Whether the pod tolerates the node's taints.

use martello_api::taints::tolerates;

use super::Request;
use crate::snapshot::NodeInfo;

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let tolerations = request.spec.tolerations.as_deref().unwrap_or_default();
    let binding = node.taints().iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let mut open = binding.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    // Which taint it is does not show: pods that wait are told apart by their words, and a cluster has many taints.
    open.next().map(|_| "node(s) had untolerated taint(s)".to_owned()).into_iter().collect()
}
