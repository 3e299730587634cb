//! `metadata`: what holds for every kind.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{internal, text};
use crate::registry::{kind::Kind, object, options::check_manager};

/// Most bytes that the annotations of one object may have, keys and values together.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
/// Longest name of a subresource in `managedFields`.
const MAX_SUBRESOURCE_BYTES: usize = 256;
/// How often all owners are shown.
const MAX_TOLD: usize = 64;
/// Finalizers that need no prefix.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
/// Groups whose kinds take finalizers without a prefix, beside custom resources: their servers' rules are looser upstream.
const LOOSE_GROUPS: [&str; 4] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io"];
/// Kinds that do too, since their own rules do not look at metadata.
const LOOSE_KINDS: [(&str, &str); 2] = [("", "Event"), ("policy", "PodDisruptionBudget")];
/// Kinds that may not own.
const NO_OWNERS: [(&str, &str); 1] = [("v1", "Event")];

/// Checks the metadata of a new object.
pub fn create(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    name(kind, object, causes);
    common(kind, object, causes);
}

/// Kinds whose own rules for updates check all of the metadata once more upstream, and how often.
const CHECKED_WHOLE: [(&str, &str, usize); 29] = [
    ("", "ConfigMap", 1),
    ("", "Endpoints", 1),
    ("", "LimitRange", 1),
    ("", "Namespace", 1),
    ("", "Node", 1),
    ("", "PersistentVolume", 2),
    ("", "PersistentVolumeClaim", 2),
    ("", "Pod", 1),
    ("", "ReplicationController", 1),
    ("", "Secret", 1),
    ("", "ServiceAccount", 1),
    ("admissionregistration.k8s.io", "", 1),
    ("apiregistration.k8s.io", "APIService", 1),
    ("apps", "DaemonSet", 1),
    ("apps", "ReplicaSet", 1),
    ("batch", "Job", 1),
    ("certificates.k8s.io", "CertificateSigningRequest", 1),
    ("discovery.k8s.io", "EndpointSlice", 1),
    ("flowcontrol.apiserver.k8s.io", "", 1),
    ("networking.k8s.io", "Ingress", 1),
    ("networking.k8s.io", "IngressClass", 1),
    ("networking.k8s.io", "NetworkPolicy", 1),
    ("node.k8s.io", "RuntimeClass", 1),
    ("rbac.authorization.k8s.io", "", 2),
    ("storage.k8s.io", "CSINode", 2),
    ("storage.k8s.io", "CSIStorageCapacity", 1),
    ("storage.k8s.io", "StorageClass", 1),
    ("storage.k8s.io", "VolumeAttachment", 2),
    ("storage.k8s.io", "VolumeAttributesClass", 2),
];
/// Kinds whose own rules for updates do not look at what the metadata were.
const COMPARED_ONCE: [(&str, &str); 9] = [
    ("", "Event"),
    ("", "LimitRange"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", ""),
    ("discovery.k8s.io", "EndpointSlice"),
    ("flowcontrol.apiserver.k8s.io", ""),
    ("policy", "PodDisruptionBudget"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Kinds whose rules for a status do not look at metadata.
const STATUS_ALONE: [(&str, &str); 2] = [("batch", "CronJob"), ("policy", "PodDisruptionBudget")];
/// Kinds whose rules for a status check all of the metadata as those for the rest do.
const CHECKED_ALIKE: (&str, &str) = ("certificates.k8s.io", "CertificateSigningRequest");

/// Checks the metadata of an object against what it was; `main` is false for what is written through a subresource.
///
/// Upstream's kinds check once more what is checked for all; the message lists each fault once, and the causes each time.
pub fn update(kind: &Kind, object: &Value, old: &Value, main: bool, causes: &mut Vec<Cause>) {
    let base = object::text(object, &["metadata", "generateName"]);
    for fault in text::path_segment(&without_dash(base)) {
        causes.push(Cause::invalid("metadata.generateName", &json!(base), &fault));
    }
    described(object, true, causes);
    changed(object, old, causes);
    described(object, false, causes);
    let is = |(group, name): (&str, &str)| group == kind.group() && (name.is_empty() || name == kind.name());
    let compared_once: &[(&str, &str)] = if main { &COMPARED_ONCE } else { &STATUS_ALONE };
    if !compared_once.iter().copied().any(is) {
        changed(object, old, causes);
        described(object, false, causes);
        prefixed(kind, object, causes);
    }
    let whole = CHECKED_WHOLE.into_iter().find(|(group, name, _)| (main || is(CHECKED_ALIKE)) && is((*group, *name)));
    for _ in 0..whole.map_or(0, |(_, _, times)| times) {
        self::name(kind, object, causes);
        common(kind, object, causes);
    }
}

fn changed(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if object::is_terminating(old) {
        let before: HashSet<&str> = object::finalizers(old).into_iter().collect();
        let added: Vec<&str> =
            object::finalizers(object).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                go_strings(&added)
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, was) = (object::at(object, &["metadata", key]), object::at(old, &["metadata", key]));
        if new != was {
            causes.push(Cause::invalid(format!("metadata.{key}"), new.unwrap_or(&Value::Null), "field is immutable"));
        }
    }
}

fn go_strings(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

fn name(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let name = object::name(object);
    let base = object::text(object, &["metadata", "generateName"]);
    if !base.is_empty() {
        for fault in kind.name_rule().faults(&without_dash(base)) {
            causes.push(Cause::invalid("metadata.generateName", &json!(base), &fault));
        }
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        for fault in kind.name_rule().faults(name) {
            causes.push(Cause::invalid("metadata.name", &json!(name), &fault));
        }
    }
    let namespace = object::namespace(object);
    if kind.resource.namespaced {
        if namespace.is_empty() {
            causes.push(Cause::required("metadata.namespace", ""));
        } else {
            for fault in text::dns1123_label(namespace) {
                causes.push(Cause::invalid("metadata.namespace", &json!(namespace), &fault));
            }
        }
    } else if !namespace.is_empty() {
        causes.push(Cause::forbidden("metadata.namespace", "not allowed on this type"));
    }
    if let Some(generation) = object::int(object, &["metadata", "generation"])
        && generation < 0
    {
        causes.push(Cause::invalid("metadata.generation", &json!(generation), "must be greater than or equal to 0"));
    }
}

/// A base of names as it is judged: its end is not the end of a name.
pub(in crate::registry) fn without_dash(base: &str) -> String {
    match base.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => base.to_owned(),
    }
}

fn common(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    described(object, true, causes);
    prefixed(kind, object, causes);
}

/// Checks what describes an object: labels, annotations, owners, whose fields are whose, and finalizers if they are asked
/// for.
fn described(object: &Value, with_finalizers: bool, causes: &mut Vec<Cause>) {
    labels(object::at(object, &["metadata", "labels"]), "metadata.labels", causes);
    annotations(object::at(object, &["metadata", "annotations"]), "metadata.annotations", causes);
    owners(object::list(object, &["metadata", "ownerReferences"]), causes);
    if with_finalizers {
        finalizers(object, causes);
    }
    managers(object, causes);
}

fn managers(object: &Value, causes: &mut Vec<Cause>) {
    for (at, entry) in object::list(object, &["metadata", "managedFields"]).iter().enumerate() {
        let path = format!("metadata.managedFields[{at}]");
        check_manager(object::text(entry, &["manager"]), &format!("{path}.manager"), causes);
        if object::text(entry, &["subresource"]).len() > MAX_SUBRESOURCE_BYTES {
            causes.push(Cause::too_long(format!("{path}.subresource"), MAX_SUBRESOURCE_BYTES));
        }
    }
}

/// Checks that finalizers have a prefix, of kinds where they need one.
fn prefixed(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let loose = LOOSE_GROUPS.contains(&kind.group()) || LOOSE_KINDS.contains(&(kind.group(), kind.name()));
    if kind.is_custom() || loose {
        return;
    }
    for (index, finalizer) in object::finalizers(object).iter().enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(finalizer) {
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{index}]"),
                &json!(finalizer),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

/// What clients are told of finalizers that were not there before, of kinds that take them without a prefix.
#[must_use]
pub fn finalizer_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let known: HashSet<&str> = old.map(object::finalizers).unwrap_or_default().into_iter().collect();
    let mut added: Vec<&str> = object::finalizers(object).into_iter().filter(|name| !known.contains(name)).collect();
    added.sort_unstable();
    added.dedup();
    let mut told = Vec::new();
    for name in added {
        told.extend(
            text::qualified_name(name).into_iter().map(|fault| format!("metadata.finalizers: {name:?}: {fault}")),
        );
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
            let how = if name.contains('.') { " including a path (/)" } else { "" };
            told.push(format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{how} to avoid accidental conflicts with other finalizer writers"
            ));
        }
    }
    told
}

/// Checks the metadata of an object within another, which messages call `path`. It needs no name.
pub fn embedded(meta: &Value, path: &str, causes: &mut Vec<Cause>) {
    let base = object::text(meta, &["generateName"]);
    if !base.is_empty() {
        for fault in text::path_segment(&without_dash(base)) {
            causes.push(Cause::invalid(format!("{path}.generateName"), &json!(base), &fault));
        }
    }
    let name = object::text(meta, &["name"]);
    for fault in text::path_segment(name) {
        causes.push(Cause::invalid(format!("{path}.name"), &json!(name), &fault));
    }
    let namespace = object::text(meta, &["namespace"]);
    if !namespace.is_empty() {
        for fault in text::dns1123_label(namespace) {
            causes.push(Cause::invalid(format!("{path}.namespace"), &json!(namespace), &fault));
        }
    }
    if let Some(generation) = object::int(meta, &["generation"])
        && generation < 0
    {
        causes.push(Cause::invalid(
            format!("{path}.generation"),
            &json!(generation),
            "must be greater than or equal to 0",
        ));
    }
    let mut found = Vec::new();
    described(&json!({"metadata": meta}), true, &mut found);
    for mut cause in found {
        if let Some(rest) = cause.field.strip_prefix("metadata") {
            cause.field = format!("{path}{rest}");
        }
        causes.push(cause);
    }
}

/// Checks labels at `path`.
pub fn labels(labels: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        for fault in text::label_key(key) {
            causes.push(Cause::invalid(path, &json!(key), &fault));
        }
        let value = value.as_str().unwrap_or_default();
        for fault in text::label_value(value) {
            causes.push(Cause::invalid(path, &json!(value), &fault));
        }
    }
}

/// Checks annotations at `path`.
pub fn annotations(annotations: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        for fault in text::label_key(&key.to_lowercase()) {
            causes.push(Cause::invalid(path, &json!(key), &fault));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATION_BYTES {
        causes.push(Cause::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

fn owners(owners: &[Value], causes: &mut Vec<Cause>) {
    const PATH: &str = "metadata.ownerReferences";
    let (mut controller, mut told): (Option<String>, usize) = (None, 0);
    for owner in owners {
        let (version, kind) = (object::text(owner, &["apiVersion"]), object::text(owner, &["kind"]));
        // Of `group/`, too, the version is empty.
        if version.is_empty() || version.ends_with('/') || version.matches('/').count() > 1 {
            causes.push(Cause::invalid(format!("{PATH}.apiVersion"), &json!(version), "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if object::text(owner, &[key]).is_empty() {
                causes.push(Cause::invalid(format!("{PATH}.{key}"), &json!(""), "must not be empty"));
            }
        }
        if NO_OWNERS.contains(&(version, kind)) {
            let why = format!("/{version}, Kind={kind} is disallowed from being an owner");
            causes.push(Cause::invalid(PATH, &owner_shown(owner), &why));
        }
        if object::flag(owner, &["controller"]) {
            let this = format!("{kind}/{}", object::text(owner, &["name"]));
            match &controller {
                // Each shows all of them.
                Some(_) if told >= MAX_TOLD => {}
                Some(first) => {
                    told += 1;
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    causes.push(Cause::invalid(PATH, &owners.iter().map(owner_shown).collect::<Value>(), &why));
                }
                None => controller = Some(this),
            }
        }
    }
}

fn owner_shown(owner: &Value) -> Value {
    internal::of("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", owner)
}

fn finalizers(object: &Value, causes: &mut Vec<Cause>) {
    let finalizers = object::finalizers(object);
    let (mut orphan, mut foreground) = (false, false);
    for finalizer in &finalizers {
        for fault in text::qualified_name(finalizer) {
            causes.push(Cause::invalid("metadata.finalizers", &json!(finalizer), &fault));
        }
        orphan |= *finalizer == "orphan";
        foreground |= *finalizer == "foregroundDeletion";
    }
    if orphan && foreground {
        causes.push(Cause::invalid(
            "metadata.finalizers",
            &json!(finalizers),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{batch::cron_job::CronJobs, core::pod::Pods};

    #[test]
    fn a_fault_is_told_as_often_as_it_is_found() {
        let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"a b": "c"}}});
        let told = |kind: &Kind, main: bool| {
            let mut causes = Vec::new();
            update(kind, &object, &object, main, &mut causes);
            causes.iter().filter(|cause| cause.field == "metadata.labels").count()
        };
        let (pods, cron_jobs) = (Kind::new(Pods), Kind::new(CronJobs));
        assert_eq!((told(&pods, true), told(&pods, false)), (4, 3));
        assert_eq!((told(&cron_jobs, true), told(&cron_jobs, false)), (3, 2));
    }
}
