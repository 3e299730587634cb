//! What holds for PersistentVolumes, and for volumes that are written into an attachment.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::{Map, Value};

use super::{
    claim_rules::access_modes,
    persistent_volume::OLD_CLASS,
    volume_sources::{self, SOURCES},
};
use crate::registry::{
    object,
    validation::{
        difference,
        field::{Field, sorted},
        internal, node_labels, pod, text,
    },
};

const INLINE: &str = "may not be specified in the context of inline volumes";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Sources that are mounted with the options that an annotation once held.
const MOUNTED_WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
/// Sources that are told of, and what is said.
const OLD_SOURCES: [(&str, &str); 6] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Checks the spec of the volume of this name.
pub fn check(spec: &Field<'_>, name: &str, causes: &mut Vec<Cause>) {
    access_modes(spec, "", causes);
    capacity(spec, causes);
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        policy.one_of(&["Delete", "Recycle", "Retain"], causes);
    }
    if let Some(affinity) = spec.get("nodeAffinity") {
        match affinity.get("required") {
            Some(required) => pod::node_selector(&required, causes),
            None => affinity.at("required").required("must specify required node constraints", causes),
        }
    }
    sources(spec, name, spec.get("nodeAffinity").is_some(), causes);
    if policy.text() == "Recycle" && is_root(spec.at("hostPath").str("path")) {
        policy.forbidden("may not be 'recycle' for a hostPath mount of '/'", causes);
    }
    spec.at("storageClassName").check_if_set(text::dns1123_subdomain, causes);
    if let Some(mode) = spec.get("volumeMode") {
        mode.one_of(&["Block", "Filesystem"], causes);
    }
    if let Some(class) = spec.get("volumeAttributesClassName") {
        if class.text().is_empty() {
            class.required("an empty string is disallowed", causes);
        }
        class.check_if_set(text::dns1123_subdomain, causes);
        if spec.get("csi").is_none() {
            spec.at("csi").required("has to be specified when using volumeAttributesClassName", causes);
        }
    }
}

/// Checks that a volume whose source knows no options of mounts has none in its annotations.
pub fn mount_options(volume: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(volume, "");
    let known = MOUNTED_WITH_OPTIONS.iter().any(|source| whole.at("spec").get(source).is_some());
    if !known && whole.at("metadata").at("annotations").get(MOUNT_OPTIONS).is_some() {
        let path = format!("metadata.annotations.{MOUNT_OPTIONS}");
        causes.push(Cause::forbidden(path, "may not specify mount options for this volume type"));
    }
}

/// Checks the spec of a volume that an attachment holds.
pub fn inline(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["claimRef", "capacity"] {
        if !spec.at(key).is_empty() {
            spec.at(key).forbidden(INLINE, causes);
        }
    }
    if spec.get("csi").is_none() {
        spec.at("csi").required("has to be specified in the context of inline volumes", causes);
    }
    access_modes(spec, "", causes);
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if !matches!(policy.text(), "" | "Retain") {
        policy.forbidden("may only be Retain in the context of inline volumes", causes);
    }
    if spec.get("nodeAffinity").is_some() {
        spec.at("nodeAffinity").forbidden(INLINE, causes);
    }
    sources(spec, "", false, causes);
    if !spec.str("storageClassName").is_empty() {
        spec.at("storageClassName").forbidden(INLINE, causes);
    }
    if !matches!(spec.str("volumeMode"), "" | "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        spec.at("volumeMode").forbidden(why, causes);
    }
    if spec.get("volumeAttributesClassName").is_some() {
        spec.at("volumeAttributesClassName").forbidden(INLINE, causes);
    }
}

fn capacity(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let capacity = spec.at("capacity");
    let amounts = spec.entries("capacity");
    if amounts.is_empty() {
        capacity.required("", causes);
    }
    if amounts.len() != 1 || amounts.iter().any(|(name, _)| *name != "storage") {
        causes.push(Cause::not_supported(capacity.path.as_str(), &sorted(capacity.value), &["storage"]));
    }
    for (_, amount) in &amounts {
        not_negative(amount, causes);
        positive(amount, causes);
    }
}

/// Checks an amount of which there may be none.
pub(super) fn not_negative(amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let units = amount.text().parse::<Quantity>().map_or(0, |quantity| quantity.units());
    if units < 0 {
        causes.push(Cause::invalid(amount.path.as_str(), &units.into(), "must be a valid resource quantity"));
    }
}

/// Checks an amount of which there must be some.
pub(super) fn positive(amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Ok(quantity) = amount.text().parse::<Quantity>() else { return };
    if quantity.is_negative() || quantity.is_zero() {
        amount.invalid("must be greater than zero", causes);
    }
}

fn sources(spec: &Field<'_>, name: &str, has_affinity: bool, causes: &mut Vec<Cause>) {
    let mut any = false;
    for kind in SOURCES {
        let Some(found) = spec.get(kind) else { continue };
        if any && kind != "flexVolume" {
            spec.at(pod::volumes::refused_as(kind)).forbidden("may not specify more than 1 volume type", causes);
            continue;
        }
        any = true;
        let source = Field::new(found.value, spec.at(pod::volumes::checked_as(kind)).path);
        volume_sources::check(kind, &source, name, causes);
        if kind == "local" && !has_affinity {
            spec.at("nodeAffinity").required("Local volume requires node affinity", causes);
        }
    }
    if !any {
        spec.required("must specify a volume type", causes);
    }
}

fn is_root(path: &str) -> bool {
    let mut depth = 0;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => depth = i32::max(0, depth - 1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

const AFFINITY: &str = "io.k8s.api.core.v1.VolumeNodeAffinity";

/// Checks a changed volume.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    // Upstream checks the spec of an update twice, and lists what it finds twice.
    check(&Field::new(new, "").at("spec"), object::name(new), causes);
    let (mut compared, before) = (source_of(new), source_of(old));
    // The secret for growing may be added later.
    let had = |path: &[&str]| object::at(&before, path).is_some_and(|found| !found.is_null());
    if had(&["csi"]) && !had(&["csi", "controllerExpandSecretRef"]) {
        object::remove(&mut compared, &["csi"], "controllerExpandSecretRef");
    }
    if !object::same_of("io.k8s.api.core.v1.PersistentVolumeSpec", Some(&compared), Some(&before)) {
        let shown = |source: &Value| volume_sources::shown(source);
        let diff = difference::unified(&shown(&before), &shown(&compared));
        let why = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        causes.push(Cause::forbidden("spec.persistentvolumesource", &why));
    }
    let of = |volume: &Value, key: &str| object::at(volume, &["spec", key]).cloned().unwrap_or(Value::Null);
    if of(new, "volumeMode") != of(old, "volumeMode") {
        causes.push(Cause::invalid("volumeMode", &of(new, "volumeMode"), "field is immutable"));
    }
    let (now, before) = (of(new, "nodeAffinity"), of(old, "nodeAffinity"));
    if !before.is_null() && !object::same_of(AFFINITY, Some(&now), Some(&renamed(before, &now))) {
        let shown = if now.is_null() { Value::Null } else { internal::of(AFFINITY, &now) };
        let why = "field is immutable, except for updating from beta label to GA";
        causes.push(Cause::invalid("nodeAffinity", &shown, why));
    }
    if !of(old, "volumeAttributesClassName").is_null() && of(new, "volumeAttributesClassName").is_null() {
        causes
            .push(Cause::forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden"));
    }
}

/// An affinity by the newer names of labels where `now` has these: a volume may be moved to them, and not back.
fn renamed(mut affinity: Value, now: &Value) -> Value {
    const TERMS: [&str; 2] = ["required", "nodeSelectorTerms"];
    let terms = object::list_mut(&mut affinity, &TERMS).into_iter().flatten().zip(object::list(now, &TERMS));
    for (term, new_term) in terms {
        for part in ["matchExpressions", "matchFields"] {
            let own = object::list_mut(term, &[part]).into_iter().flatten();
            for (own, new) in own.zip(object::list(new_term, &[part])) {
                let new = object::text(new, &["key"]);
                if node_labels::successor(object::text(own, &["key"])) == Some(new) {
                    object::set(own, &[], "key", new);
                }
            }
        }
    }
    affinity
}

fn source_of(volume: &Value) -> Value {
    let spec = volume.get("spec").and_then(Value::as_object);
    let kept = spec.into_iter().flatten().filter(|(key, _)| SOURCES.contains(&key.as_str()));
    Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
}

/// What a client is told of a volume that is taken nevertheless.
#[must_use]
pub fn warnings(volume: &Value) -> Vec<String> {
    let whole = Field::new(volume, "");
    let (spec, mut said) = (whole.at("spec"), Vec::new());
    let annotations = whole.at("metadata").at("annotations");
    for (key, since, field) in [(OLD_CLASS, "v1.8", "storageClassName"), (MOUNT_OPTIONS, "v1.31", "mountOptions")] {
        if annotations.get(key).is_some() {
            said.push(format!(
                "metadata.annotations[{key}]: deprecated since {since}; use {field:?} attribute instead"
            ));
        }
    }
    if spec.str("persistentVolumeReclaimPolicy") == "Recycle" {
        said.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    for term in spec.at("nodeAffinity").at("required").items("nodeSelectorTerms") {
        said.extend(node_labels::term_warnings(&term, false));
    }
    let old = OLD_SOURCES.iter().filter(|(kind, _)| spec.get(kind).is_some());
    // Upstream calls one source otherwise than its field is called.
    let called = |kind: &'static str| if kind == "storageos" { "storageOS" } else { kind };
    said.extend(old.map(|&(kind, why)| format!("spec.{}: {why}", called(kind))));
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_update(new, old, &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn labels_get_their_newer_names_and_never_the_older() {
        let volume = |key: &str| {
            let expression = json!({"key": key, "operator": "In", "values": ["a"]});
            json!({"metadata": {"name": "v"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "hostPath": {"path": "/a", "type": ""},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            }})
        };
        let (old, new) = (volume("beta.kubernetes.io/os"), volume("kubernetes.io/os"));
        assert_eq!(told(&new, &old), Vec::<String>::new());
        assert_eq!(told(&old, &new), ["nodeAffinity"]);
        let mut gone = new.clone();
        gone["spec"]["nodeAffinity"] = Value::Null;
        let mut causes = Vec::new();
        check_update(&gone, &new, &mut causes);
        assert_eq!(
            causes[0].message,
            "Invalid value: null: field is immutable, except for updating from beta label to GA"
        );
    }

    #[test]
    fn what_is_old_is_told_of_class_first() {
        let volume = json!({
            "metadata": {"annotations": {MOUNT_OPTIONS: "ro", OLD_CLASS: "a"}},
            "spec": {"storageos": {}},
        });
        assert_eq!(
            warnings(&volume),
            [
                r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#,
                r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#,
                "spec.storageOS: deprecated in v1.22, non-functional in v1.25+",
            ]
        );
        assert_eq!(warnings(&json!({"spec": {"flocker": {}}})), Vec::<String>::new());
    }

    #[test]
    fn options_of_mounts_are_for_sources_that_know_them() {
        let found = |source: &str| {
            let mut causes = Vec::new();
            let volume = json!({"metadata": {"annotations": {MOUNT_OPTIONS: "ro"}}, "spec": {source: {}}});
            mount_options(&volume, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert_eq!(found("nfs"), Vec::<String>::new());
        assert_eq!(
            found("hostPath"),
            [
                "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type"
            ]
        );
    }
}
