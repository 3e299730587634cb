//! Volumes of pods.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::json;

use super::{
    environment::{field_ref, resource_ref},
    projected,
};
use crate::registry::{
    core::{claim_rules, volume_sources},
    validation::{field::Field, metadata, text},
    volumes::csi_driver::driver_name,
};

/// Sources in the order in which upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const DOWNWARD_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// What the metadata of a template of claims may not have, and what messages call it.
const NOT_OF_TEMPLATES: [(&str, &str); 13] = [
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managedFields", "managedFields"),
];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";
/// Highest mode of a file: 0777.
const MAX_MODE: i64 = 0o777;

/// Checks volumes of the pod of this name, which templates lack; answers the names of those that are right.
pub(super) fn check<'a>(spec: &Field<'a>, pod: Option<&str>, causes: &mut Vec<Cause>) -> HashSet<&'a str> {
    let volumes = spec.items("volumes");
    let pod = pod.filter(|name| !name.is_empty());
    let made = |name: &str| pod.map(|pod| format!("{pod}-{name}"));
    let claims: HashSet<String> = volumes
        .iter()
        .filter(|volume| volume.get("ephemeral").is_some())
        .filter_map(|volume| made(volume.str("name")))
        .collect();
    let mut names: HashSet<&str> = HashSet::new();
    for volume in &volumes {
        let before = causes.len();
        sources(volume, &made, causes);
        let name = volume.at("name");
        name.check_required(text::dns1123_label, causes);
        if names.contains(&name.text()) {
            name.duplicate(causes);
        }
        if causes.len() == before {
            names.insert(name.text());
        }
        let claim = volume.at("persistentVolumeClaim").at("claimName");
        if claims.contains(claim.text()) {
            claim.invalid("must not reference a PVC that gets created for an ephemeral volume", causes);
        }
    }
    names
}

/// Checks that tokens are asked for only where the pod has an account.
pub(super) fn tokens(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    if !spec.str("serviceAccountName").is_empty() {
        return;
    }
    for source in spec.items("volumes").iter().flat_map(|volume| volume.at("projected").items("sources")) {
        if let Some(token) = source.get("serviceAccountToken") {
            token.forbidden("must not be specified when serviceAccountName is not set", causes);
        }
    }
}

fn sources(volume: &Field<'_>, made: &dyn Fn(&str) -> Option<String>, causes: &mut Vec<Cause>) {
    let mut any = false;
    for kind in SOURCES {
        let Some(found) = volume.get(kind) else { continue };
        if any {
            volume.at(refused_as(kind)).forbidden(ONE_TYPE, causes);
        } else {
            source(kind, &Field::new(found.value, volume.at(checked_as(kind)).path), causes);
        }
        if kind == "iscsi" && volume_sources::is_long_portal(volume.str("name"), &found) {
            let name = volume.at("name");
            causes.push(Cause::invalid(name.path, &json!(volume.str("name")), volume_sources::LONG_PORTAL));
        }
        if kind == "ephemeral" && !any {
            claim_name(volume, made, causes);
        }
        any = true;
    }
    if !any {
        volume.required("must specify a volume type", causes);
    }
}

/// What messages about a source call it.
#[must_use]
pub fn checked_as(kind: &str) -> &str {
    if kind == "gcePersistentDisk" { "persistentDisk" } else { kind }
}

/// What messages call a source that comes besides another.
#[must_use]
pub fn refused_as(kind: &str) -> &str {
    match kind {
        "cephfs" => "cephFS",
        // Upstream's slip.
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// The claim that is made for the pod bears the names of both.
fn claim_name(volume: &Field<'_>, made: &dyn Fn(&str) -> Option<String>, causes: &mut Vec<Cause>) {
    let name = volume.at("name");
    let Some(claim) = made(name.text()).filter(|_| !name.text().is_empty()) else { return };
    for fault in text::dns1123_subdomain(&claim) {
        name.invalid(&format!("PVC name {claim:?}: {fault}"), causes);
    }
}

fn source(kind: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    match kind {
        "emptyDir" if field.str("sizeLimit").starts_with('-') => {
            field.at("sizeLimit").forbidden("SizeLimit field must be a valid resource quantity", causes);
        }
        "gitRepo" => {
            field.at("repository").needs_text(causes);
            local_path(&field.at("directory"), false, causes);
        }
        "secret" => files(field, "secretName", causes),
        "configMap" => files(field, "name", causes),
        "downwardAPI" => {
            mode(&field.at("defaultMode"), causes);
            field.items("items").iter().for_each(|item| downward_file(field, item, causes));
        }
        "projected" => projected::check(field, causes),
        "persistentVolumeClaim" => {
            field.at("claimName").needs_text(causes);
        }
        "csi" => {
            driver_name(&field.at("driver"), causes);
            if let Some(secret) = field.get("nodePublishSecretRef") {
                let name = secret.at("name");
                if name.needs_text(causes) {
                    // Upstream names the source here, not the reference.
                    Field::new(name.value, field.at("name").path).check(text::dns1123_subdomain, causes);
                }
            }
        }
        "cinder" => {
            field.at("volumeID").needs_text(causes);
            if let Some(secret) = field.get("secretRef") {
                secret.at("name").needs_text(causes);
            }
        }
        "azureFile" => {
            field.at("secretName").needs_text(causes);
            field.at("shareName").needs_text(causes);
        }
        "ephemeral" if field.get("volumeClaimTemplate").is_none() => {
            field.at("volumeClaimTemplate").required("", causes);
        }
        "image" => {
            field.at("reference").needs_text(causes);
            field.at("pullPolicy").needs_one_of(&["Always", "IfNotPresent", "Never"], causes);
        }
        "storageos" => {
            field.at("volumeName").check_required(text::dns1123_label, causes);
            field.at("volumeNamespace").check_if_set(text::dns1123_label, causes);
            if let Some(secret) = field.get("secretRef") {
                secret.at("name").needs_text(causes);
            }
        }
        "iscsi" => volume_sources::iscsi(field, volume_sources::Target::Pod, causes),
        "ephemeral" => claim_template(&field.at("volumeClaimTemplate"), causes),
        _ => volume_sources::check(kind, field, "", causes),
    }
}

/// The claim that is made for the pod has its name from there.
fn claim_template(template: &Field<'_>, causes: &mut Vec<Cause>) {
    template_metadata(&template.at("metadata"), causes);
    claim_rules::check(&template.at("spec"), causes);
}

/// Checks the metadata of a template of claims, of volumes or devices: they are labels and annotations.
pub fn template_metadata(metadata: &Field<'_>, causes: &mut Vec<Cause>) {
    metadata::annotations(metadata.value.get("annotations"), &metadata.at("annotations").path, causes);
    metadata::labels(metadata.value.get("labels"), &metadata.at("labels").path, causes);
    for (key, shown) in NOT_OF_TEMPLATES {
        if !metadata.at(key).is_empty() {
            metadata.at(shown).forbidden("cannot be set", causes);
        }
    }
}

fn files(source: &Field<'_>, name: &str, causes: &mut Vec<Cause>) {
    source.at(name).needs_text(causes);
    mode(&source.at("defaultMode"), causes);
    source.items("items").iter().for_each(|item| key_file(item, causes));
}

/// Checks a key that is put into a file.
pub(super) fn key_file(item: &Field<'_>, causes: &mut Vec<Cause>) {
    item.at("key").needs_text(causes);
    let path = item.at("path");
    if path.needs_text(causes) {
        local_path(&path, true, causes);
    }
    mode(&item.at("mode"), causes);
}

/// Checks a file about the pod, which is an item of `source`.
pub(super) fn downward_file(source: &Field<'_>, item: &Field<'_>, causes: &mut Vec<Cause>) {
    // Upstream leaves the place of the file out of the path.
    let item = Field::new(item.value, source.path.as_str());
    let path = item.at("path");
    path.needs_text(causes);
    local_path(&path, true, causes);
    match (item.get("fieldRef"), item.get("resourceFieldRef")) {
        (Some(field), other) => {
            field_ref(&field, &DOWNWARD_FIELDS, causes);
            if other.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                causes.push(Cause::invalid(item.path.as_str(), &json!("resource"), why));
            }
        }
        (None, Some(resource)) => resource_ref(&resource, true, causes),
        (None, None) => item.required("one of fieldRef and resourceFieldRef is required", causes),
    }
    mode(&item.at("mode"), causes);
}

pub(super) fn mode(mode: &Field<'_>, causes: &mut Vec<Cause>) {
    if mode.int().is_some_and(|bits| !(0..=MAX_MODE).contains(&bits)) {
        mode.invalid(MODE, causes);
    }
}

/// Checks a path below something: relative, without steps back, and (where `reserved`) not of the agent's own names.
pub(super) fn local_path(path: &Field<'_>, reserved: bool, causes: &mut Vec<Cause>) {
    if path.text().starts_with('/') {
        path.invalid("must be a relative path", causes);
    }
    no_steps_back(path, causes);
    if reserved && path.text().starts_with("..") && !path.text().starts_with("../") {
        path.invalid("must not start with '..'", causes);
    }
}

/// Checks that a path does not lead upwards.
pub fn no_steps_back(path: &Field<'_>, causes: &mut Vec<Cause>) {
    if path.text().split('/').any(|step| step == "..") {
        path.invalid("must not contain '..'", causes);
    }
}
