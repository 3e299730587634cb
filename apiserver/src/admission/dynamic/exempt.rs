//! What configured admission does not touch, so that a mistake in it can be mended and the cluster can heal.

use super::request::Request;
use crate::registry::kind::Kind;

/// Configuration of admission itself: a policy that could refuse its own removal could not be removed.
const CONFIGURATION: [&str; 6] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
];
/// Questions about identities and rights; nothing is written.
const REVIEWS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];
/// The namespace of what the cluster itself needs.
const SYSTEM_NAMESPACE: &str = "kube-system";
/// What runs users' containers, and what they get by users' templates: here a webhook that can't be reached decides as its
/// failure policy says, whoever asks.
const WORKLOADS: [(&str, &str); 11] = [
    ("", "bindings"),
    ("", "persistentvolumeclaims"),
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("resource.k8s.io", "resourceclaims"),
];

/// Whether a resource is not admitted by configuration.
pub(super) fn resource(kind: &Kind) -> bool {
    kind.group() == "admissionregistration.k8s.io" && CONFIGURATION.contains(&&*kind.resource.plural)
}

/// Whether policies don't see a resource; webhooks do.
pub(super) fn question(kind: &Kind) -> bool {
    REVIEWS.contains(&(kind.group(), &*kind.resource.plural))
}

/// Whether a webhook that can't be reached lets this request pass, whatever its failure policy: it comes from a part of
/// the system itself, and is not a workload of a user.
pub(super) fn fails_open(request: &Request<'_>) -> bool {
    // Who only acts as such a part is none.
    let system = request.call.authenticated.is_part_of_system();
    let kind = request.kind;
    let whole = matches!(request.subresource(), "" | "binding");
    let workload = whole && WORKLOADS.contains(&(kind.group(), &*kind.resource.plural));
    let own = request.namespace == SYSTEM_NAMESPACE;
    system && (own || !workload || request.is_delete())
}
