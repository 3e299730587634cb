//! Whether the pod tolerates the node's taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::Request;
use crate::snapshot::NodeInfo;

/// Whether `toleration` tolerates `taint`.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => key.is_empty() || key == taint.key,
        _ => key == taint.key && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    }
}

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
