//! Whether the pod tolerates the node's taints.

use martello_api::taints::tolerates;

use super::Request;
use crate::snapshot::NodeInfo;

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let tolerations = request.spec.tolerations.as_deref().unwrap_or_default();
    let binding = node.taints().iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let mut open = binding.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    open.next()
        .map(|taint| {
            let value = taint.value.as_deref().unwrap_or("");
            format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)
        })
        .into_iter()
        .collect()
}
