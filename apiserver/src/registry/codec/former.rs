//! Kinds that upstream can still read and no longer serves, and those that only ever were part of other requests. What a
//! client is told of them differs from what it is told of kinds that nobody knows.

use martello_api::resource::GroupVersionKind;

/// Groups, versions and kinds; the lists of all of them are known, too.
const KNOWN: [(&str, &[&str], &[&str]); 16] = [
    (
        "",
        &["v1"],
        &[
            "List",
            "NodeProxyOptions",
            "PodAttachOptions",
            "PodExecOptions",
            "PodLogOptions",
            "PodPortForwardOptions",
            "PodProxyOptions",
            "PodStatusResult",
            "RangeAllocation",
            "SerializedReference",
            "ServiceProxyOptions",
        ],
    ),
    ("admissionregistration.k8s.io", &["v1beta1"], &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]),
    ("apps", &["v1beta1"], &["ControllerRevision", "Deployment", "Scale", "StatefulSet"]),
    ("apps", &["v1beta2"], &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "Scale", "StatefulSet"]),
    ("authentication.k8s.io", &["v1beta1"], &["TokenReview"]),
    (
        "authorization.k8s.io",
        &["v1beta1"],
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    ("batch", &["v1beta1"], &["CronJob"]),
    ("certificates.k8s.io", &["v1beta1"], &["CertificateSigningRequest"]),
    ("coordination.k8s.io", &["v1beta1"], &["Lease"]),
    ("discovery.k8s.io", &["v1beta1"], &["EndpointSlice"]),
    ("events.k8s.io", &["v1beta1"], &["Event"]),
    ("extensions", &["v1beta1"], &["DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "ReplicaSet", "Scale"]),
    ("networking.k8s.io", &["v1beta1"], &["Ingress", "IngressClass"]),
    ("policy", &["v1beta1"], &["Eviction", "PodDisruptionBudget"]),
    (
        "rbac.authorization.k8s.io",
        &["v1alpha1", "v1beta1"],
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    ("storage.k8s.io", &["v1beta1"], &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
];

/// Whether upstream knows a kind besides those that it serves.
pub(super) fn knows(gvk: &GroupVersionKind) -> bool {
    let single = gvk.kind.strip_suffix("List").unwrap_or(&gvk.kind);
    KNOWN.iter().any(|(group, versions, kinds)| {
        gvk.group == *group
            && versions.iter().any(|version| gvk.version == *version)
            && kinds.iter().any(|kind| gvk.kind == *kind || *kind == single)
    })
}

/// Whether a kind is taken for another version of it: of all requests only evictions may be of the version before.
pub(super) fn stands_for(wanted: &GroupVersionKind, kind: &str, version: &str) -> bool {
    let is_eviction = &*wanted.group == "policy" && &*wanted.kind == "Eviction";
    is_eviction && kind == "Eviction" && version == "policy/v1beta1"
}

/// Where the form of a kind is that has no version, if it has left its group.
pub(super) fn new_home(gvk: &GroupVersionKind) -> Option<&'static str> {
    match (&*gvk.group, &*gvk.kind) {
        ("extensions", "Ingress" | "NetworkPolicy") => Some("networking"),
        ("extensions", _) => Some("apps"),
        _ => None,
    }
}
