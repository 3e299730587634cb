//! Fields of features that upstream has, and that are off where nobody switches them on: they are taken and dropped.

use serde_json::Value;

use crate::registry::object;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Drops from a pod spec what belongs to features that are off.
pub fn drop_disabled(spec: &mut Value) {
    // GenericWorkload.
    object::remove(spec, &[], "schedulingGroup");
    for list in CONTAINERS {
        for container in object::list_mut(spec, &[list]).into_iter().flatten() {
            // ContainerStopSignals.
            let had = object::remove(container, &["lifecycle"], "stopSignal").is_some();
            let nothing =
                object::at(container, &["lifecycle"]).and_then(Value::as_object).is_some_and(|map| map.is_empty());
            if had && nothing {
                object::remove(container, &[], "lifecycle");
            }
        }
    }
    for volume in object::list_mut(spec, &["volumes"]).into_iter().flatten() {
        for source in object::list_mut(volume, &["projected", "sources"]).into_iter().flatten() {
            // ClusterTrustBundleProjection and PodCertificateRequest.
            object::remove(source, &[], "clusterTrustBundle");
            object::remove(source, &[], "podCertificate");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_off_is_dropped() {
        let mut spec = json!({
            "containers": [{"lifecycle": {"stopSignal": "SIGTERM"}}, {"lifecycle": {}}],
            "volumes": [{"projected": {"sources": [{"clusterTrustBundle": {"path": "a"}}]}}],
        });
        drop_disabled(&mut spec);
        assert_eq!(spec, json!({"containers": [{}, {"lifecycle": {}}], "volumes": [{"projected": {"sources": [{}]}}]}));
    }
}
