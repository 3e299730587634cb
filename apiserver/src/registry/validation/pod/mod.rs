//! What holds for pod specs, in pods and in templates.

use martello_api::status::Cause;
use serde_json::Value;

use super::{field::Field, metadata, text};
use crate::registry::object;

pub mod affinity;
mod annotations;
mod claims;
pub mod container;
pub mod environment;
pub mod handlers;
mod host;
mod mounts;
pub mod network;
pub mod overlaps;
pub mod platform;
mod projected;
pub mod qos;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod volumes;
pub mod warnings;
mod windows;

pub use super::resource_name::check_of_containers as container_resource_name;
pub use affinity::node_selector;
pub use annotations::{MIRROR, profile_of as app_armor_profile};
pub use handlers::port as port_or_name;
pub use qos::qos_class;
pub use resources::check as container_resources;
pub use scheduling::{taint_effect, tolerations};
pub use warnings::{OLD_APP_ARMOR, template_warnings, warnings};

/// Checks a pod: its spec, and the annotations that mean something.
pub fn pod(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    annotations::check(&whole.at("metadata").at("annotations"), &whole.at("spec"), "metadata.annotations", causes);
    let mirror = object::at(object, &["metadata", "annotations", MIRROR]).is_some();
    spec(object, &["spec"], "spec", Some(Owner { name: object::name(object), mirror }), causes);
    volumes::tokens(&whole.at("spec"), causes);
    container::check_images(&whole.at("spec"), causes);
}

/// What the spec of a pod has to be checked with of the pod itself; templates lack it.
#[derive(Clone, Copy)]
struct Owner<'a> {
    name: &'a str,
    /// Whether a node's own files describe it.
    mirror: bool,
}

/// Checks annotations of a changed pod: which changed, and whether all are right.
pub fn annotations_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let of = |pod| Field::new(pod, "").at("metadata");
    annotations::check_update(&of(new), &of(old), causes);
    let spec = Field::new(new, "").at("spec");
    annotations::check(&of(new).at("annotations"), &spec, "metadata.annotations", causes);
}

/// All containers of a spec, in the order in which upstream visits them.
#[must_use]
pub fn all_containers<'a>(spec: &Field<'a>) -> Vec<Field<'a>> {
    ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| spec.items(list)).collect()
}

/// Checks a pod spec at `at`, which messages call `path`.
fn spec(object: &Value, at: &[&str], path: &str, pod: Option<Owner<'_>>, causes: &mut Vec<Cause>) {
    let Some(found) = object::at(object, at).filter(|spec| !spec.is_null()) else {
        causes.push(Cause::required(format!("{path}.containers"), ""));
        return;
    };
    let spec = Field::new(found, path);
    let volumes = volumes::check(&spec, pod.map(|pod| pod.name), causes);
    claims::check_pod(&spec, pod.is_some_and(|pod| pod.mirror), causes);
    container::check_all(&spec, &volumes, causes);
    resources::check_pod(&spec, causes);
    host::check(&spec, pod.is_some(), causes);
    spec.at("restartPolicy").needs_one_of(&["Always", "OnFailure", "Never"], causes);
    spec.at("dnsPolicy").needs_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    let node_selector = spec.at("nodeSelector");
    metadata::labels(Some(node_selector.value), &node_selector.path, causes);
    security::check_pod(&spec, causes);
    if let Some(affinity) = spec.get("affinity") {
        affinity::check(&affinity, causes);
    }
    network::dns_config(&spec, causes);
    scheduling::gates(&spec, causes);
    scheduling::spread(&spec, causes);
    host::processes(&spec, causes);
    host::users(&spec, causes);
    host::name(&spec, causes);
    spec.at("serviceAccountName").check_if_set(text::dns1123_subdomain, causes);
    spec.at("nodeName").check_if_set(text::dns1123_subdomain, causes);
    let deadline = spec.at("activeDeadlineSeconds");
    if deadline.int().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        deadline.invalid("must be between 1 and 2147483647, inclusive", causes);
    }
    spec.at("hostname").check_if_set(text::dns1123_label, causes);
    spec.at("subdomain").check_if_set(text::dns1123_label, causes);
    scheduling::tolerations(&spec, causes);
    network::host_aliases(&spec, causes);
    spec.at("priorityClassName").check_if_set(text::dns1123_subdomain, causes);
    if let Some(class) = spec.get("runtimeClassName") {
        class.check(text::dns1123_subdomain, causes);
    }
    if let Some(policy) = spec.get("preemptionPolicy") {
        policy.needs_one_of(&["PreemptLowerPriority", "Never"], causes);
    }
    if spec.get("overhead").is_some() {
        resources::overhead(&spec.at("overhead"), causes);
    }
    platform::check(&spec, causes);
    environment::file_volumes(&spec, causes);
}

/// Checks a pod template at `at`, which messages call `path`.
pub fn template(object: &Value, at: &[&str], path: &str, causes: &mut Vec<Cause>) {
    let found = object::at(object, at).unwrap_or(&Value::Null);
    template_metadata(found, path, causes);
    let whole = Field::new(found, path);
    let own = whole.at("metadata").at("annotations");
    spec(found, &["spec"], &format!("{path}.spec"), None, causes);
    let spec = whole.at("spec");
    annotations::agree(&own, &spec, causes);
    if spec.count("ephemeralContainers") > 0 {
        spec.at("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template", causes);
    }
}

/// Checks labels and annotations of the pod template `found`.
pub fn template_metadata(found: &Value, path: &str, causes: &mut Vec<Cause>) {
    let of = |key: &str| object::at(found, &["metadata", key]);
    metadata::labels(of("labels"), &format!("{path}.labels"), causes);
    metadata::annotations(of("annotations"), &format!("{path}.annotations"), causes);
    let whole = Field::new(found, path);
    let own = whole.at("metadata").at("annotations");
    annotations::check(&own, &whole.at("spec"), &format!("{path}.annotations"), causes);
}

/// Checks what may not be in a pod that is just made.
pub fn creation(pod: &Value, causes: &mut Vec<Cause>) {
    let spec = Field::new(pod, "").at("spec");
    if spec.count("ephemeralContainers") > 0 {
        spec.at("ephemeralContainers").forbidden("cannot be set on create", causes);
    }
    if spec.count("schedulingGates") > 0 && !spec.str("nodeName").is_empty() {
        spec.at("nodeName").forbidden("cannot be set until all schedulingGates have been cleared", causes);
    }
    annotations::agree(&Field::new(pod, "").at("metadata").at("annotations"), &spec, causes);
}

#[cfg(test)]
mod tests;
