//! The APIServices of what this server itself serves.

use serde_json::{Value, json};

use crate::registry::{Registry, object};

/// Says that the server keeps the object.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// When: at every start, or as groups come and go.
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// Priorities of groups, as upstream's: the first come first in discovery.
const GROUPS: [(&str, i64); 22] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("storagemigration.k8s.io", 15_800),
];
/// Priorities of groups that are not in the list: upstream's for custom resources.
const OTHER_GROUP: i64 = 1000;
const OTHER_VERSION: i64 = 100;

/// One for each group and version but the one that they belong to themselves.
#[must_use]
pub fn services(registry: &Registry) -> Vec<Value> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for resource in registry.resources() {
        let key = (&*resource.gvk.group, &*resource.gvk.version);
        if key.0 != super::api_service::GROUP && !seen.contains(&key) {
            seen.push(key);
        }
    }
    seen.into_iter().map(|(group, version)| service(group, version, ON_START)).collect()
}

/// One for a version of custom resources, which comes and goes with what defines them.
#[must_use]
pub fn of_custom(group: &str, version: &str) -> Value {
    service(group, version, ALWAYS)
}

/// Whether an object is one that [`of_custom`] made and nobody has made their own.
#[must_use]
pub fn is_of_custom(service: &Value) -> bool {
    object::text(service, &["metadata", "labels", MANAGED]) == ALWAYS
}

fn service(group: &str, version: &str, managed: &str) -> Value {
    let (group_priority, version_priority) = priorities(group, version);
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority,
        },
    })
}

/// The priorities of a group and of one of its versions, where this server itself serves them.
#[must_use]
pub fn priorities(group: &str, version: &str) -> (i64, i64) {
    let Some((_, priority)) = GROUPS.iter().find(|(name, _)| *name == group) else {
        return (OTHER_GROUP, OTHER_VERSION);
    };
    let version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", "v1") => 21,
        (_, stable) if !stable.contains("alpha") && !stable.contains("beta") => 15,
        _ => 9,
    };
    (*priority, version)
}
