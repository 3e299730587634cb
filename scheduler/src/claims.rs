//! The claims of devices that a pod makes. Nothing here allocates devices: a pod whose claims nobody allocated waits.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};

/// How far the claims of a pod are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claims {
    /// There is none, or all are allocated.
    Allocated,
    /// All are there, and not all are allocated.
    Unallocated,
    /// Not all are there, or not to stay.
    Missing,
}

/// Whether the pod makes claims.
pub(crate) fn asks(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|claims| !claims.is_empty())
}

/// Looks at the pod's claims, which `find` finds by their names.
pub(crate) fn look(pod: &Pod, find: impl Fn(&str) -> Option<Arc<ResourceClaim>>) -> Claims {
    let asked = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default();
    let told = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
    let mut found = Claims::Allocated;
    for claim in asked {
        let name = match (&claim.resource_claim_name, told.iter().find(|told| told.name == claim.name)) {
            (Some(name), _) => Some(name),
            (None, Some(told)) => told.resource_claim_name.as_ref(),
            (None, None) => return Claims::Missing,
        };
        // A claim that was found not to be needed has no name.
        let Some(name) = name else { continue };
        let Some(present) = find(name).filter(|present| present.metadata.deletion_timestamp.is_none()) else {
            return Claims::Missing;
        };
        if present.status.as_ref().is_none_or(|status| status.allocation.is_none()) {
            found = Claims::Unallocated;
        }
    }
    found
}

/// Why a pod with such claims finds no node.
pub(crate) fn unallocated(nodes: usize) -> String {
    let none = format!("0/{nodes} nodes are available: {nodes}");
    format!(
        "{none} cannot allocate all claims. no new claims to deallocate, preemption: {none} Preemption is not helpful for scheduling."
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_waits_for_its_claims() {
        let pod = |told: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "resourceClaims": [
                {"name": "a", "resourceClaimName": "own"}, {"name": "b", "resourceClaimTemplateName": "t"}]},
                "status": {"resourceClaimStatuses": told}}))
            .unwrap()
        };
        let claim = |allocated: bool| -> Arc<ResourceClaim> {
            let status = if allocated { json!({"allocation": {}}) } else { json!({}) };
            let claim = json!({"metadata": {"name": "x"}, "spec": {}, "status": status});
            Arc::new(serde_json::from_value(claim).unwrap())
        };
        let told = json!([{"name": "b", "resourceClaimName": "made"}]);
        assert_eq!(look(&pod(json!([])), |_| Some(claim(true))), Claims::Missing);
        assert_eq!(look(&pod(told.clone()), |name| (name == "own").then(|| claim(true))), Claims::Missing);
        assert_eq!(look(&pod(told.clone()), |name| Some(claim(name == "own"))), Claims::Unallocated);
        assert_eq!(look(&pod(told), |_| Some(claim(true))), Claims::Allocated);
        assert_eq!(look(&pod(json!([{"name": "b"}])), |_| Some(claim(true))), Claims::Allocated);
        assert_eq!(look(&Pod::default(), |_| None), Claims::Allocated);
    }
}
