//! Volumes of pods.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::environment::{field_ref, resource_ref};
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
    "scaleIO",
    "projected",
    "csi",
    "ephemeral",
    "image",
];
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const DOWNWARD_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";
/// Highest mode of a file: 0777.
const MAX_MODE: i64 = 0o777;
/// Shortest life of a projected token: ten minutes.
const MIN_TOKEN_SECONDS: i64 = 600;
/// Longest life of a projected token.
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// Checks volumes; answers the names of those that are right.
pub(super) fn check<'a>(spec: &Field<'a>, causes: &mut Vec<Cause>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for volume in spec.items("volumes") {
        let before = causes.len();
        sources(&volume, causes);
        let name = volume.at("name");
        name.check_required(text::dns1123_label, causes);
        if names.contains(&name.text()) {
            name.duplicate(causes);
        }
        if causes.len() == before {
            names.push(name.text());
        }
    }
    names
}

fn sources(volume: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut any = false;
    for kind in SOURCES {
        let Some(found) = volume.get(kind) else { continue };
        if any {
            found.forbidden(ONE_TYPE, causes);
        } else {
            source(kind, &found, causes);
        }
        any = true;
    }
    if !any {
        volume.required("must specify a volume type", causes);
    }
}

fn source(kind: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    match kind {
        "emptyDir" if field.str("sizeLimit").starts_with('-') => {
            field.at("sizeLimit").forbidden("SizeLimit field must be a valid resource quantity", causes);
        }
        "hostPath" => {
            let path = field.at("path");
            if path.needs_text(causes) {
                no_steps_back(&path, causes);
            }
            field.at("type").one_of(&HOST_PATH_TYPES, causes);
        }
        "gitRepo" => {
            field.at("repository").needs_text(causes);
            local_path(&field.at("directory"), false, causes);
        }
        "secret" => files(field, "secretName", causes),
        "configMap" => files(field, "name", causes),
        "downwardAPI" => {
            mode(&field.at("defaultMode"), causes);
            downward_files(field, causes);
        }
        "projected" => projected(field, causes),
        "persistentVolumeClaim" => {
            field.at("claimName").needs_text(causes);
        }
        "csi" => {
            driver_name(&field.at("driver"), causes);
            if let Some(secret) = field.get("nodePublishSecretRef") {
                secret.at("name").needs_text(causes);
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
            let policy = field.at("pullPolicy");
            policy.one_of(&["", "Always", "IfNotPresent", "Never"], causes);
        }
        "ephemeral" => claim_template(&field.at("volumeClaimTemplate"), causes),
        _ => volume_sources::check(kind, field, causes),
    }
}

/// The claim that is made for the pod has its name from there.
fn claim_template(template: &Field<'_>, causes: &mut Vec<Cause>) {
    let metadata = template.at("metadata");
    metadata::annotations(metadata.value.get("annotations"), &metadata.at("annotations").path, causes);
    metadata::labels(metadata.value.get("labels"), &metadata.at("labels").path, causes);
    for (key, value) in metadata.value.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "annotations" | "labels") && !value.is_null() {
            metadata.at(key).forbidden("cannot be set", causes);
        }
    }
    claim_rules::check(&template.at("spec"), causes);
}

fn files(source: &Field<'_>, name: &str, causes: &mut Vec<Cause>) {
    source.at(name).needs_text(causes);
    mode(&source.at("defaultMode"), causes);
    key_files(source, causes);
}

fn key_files(source: &Field<'_>, causes: &mut Vec<Cause>) {
    for item in source.items("items") {
        item.at("key").needs_text(causes);
        let path = item.at("path");
        if path.needs_text(causes) {
            local_path(&path, true, causes);
        }
        mode(&item.at("mode"), causes);
    }
}

fn downward_files(source: &Field<'_>, causes: &mut Vec<Cause>) {
    for item in source.items("items") {
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
}

fn projected(field: &Field<'_>, causes: &mut Vec<Cause>) {
    mode(&field.at("defaultMode"), causes);
    for source in field.items("sources") {
        let mut any = false;
        for kind in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"] {
            let Some(found) = source.get(kind) else { continue };
            if any {
                found.forbidden(ONE_TYPE, causes);
                continue;
            }
            any = true;
            match kind {
                "secret" | "configMap" => {
                    found.at("name").needs_text(causes);
                    key_files(&found, causes);
                }
                "downwardAPI" => downward_files(&found, causes),
                "serviceAccountToken" => token(&found, causes),
                _ => local_path(&found.at("path"), true, causes),
            }
        }
    }
}

fn token(token: &Field<'_>, causes: &mut Vec<Cause>) {
    let seconds = token.at("expirationSeconds");
    match seconds.int().unwrap_or(0) {
        ..MIN_TOKEN_SECONDS => seconds.invalid("may not specify a duration less than 10 minutes", causes),
        too_long if too_long > MAX_TOKEN_SECONDS => {
            seconds.invalid("may not specify a duration larger than 2^32 seconds", causes);
        }
        _ => {}
    }
    let path = token.at("path");
    if path.needs_text(causes) {
        local_path(&path, true, causes);
    }
}

fn mode(mode: &Field<'_>, causes: &mut Vec<Cause>) {
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

fn no_steps_back(path: &Field<'_>, causes: &mut Vec<Cause>) {
    if path.text().split('/').any(|step| step == "..") {
        path.invalid("must not contain '..'", causes);
    }
}

/// Checks mounts and devices of a container. `volumes` are the names of those that are right.
pub(super) fn mounts(spec: &Field<'_>, container: &Field<'_>, volumes: &[&str], causes: &mut Vec<Cause>) {
    let (mounts, devices) = (container.items("volumeMounts"), container.items("volumeDevices"));
    let any = |all: &[Field<'_>], key: &str, text: &str| all.iter().any(|one| one.str(key) == text);
    let mut paths: Vec<&str> = Vec::new();
    for mount in &mounts {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        name.needs_text(causes);
        if !volumes.contains(&name.text()) {
            name.not_found(causes);
        }
        path.needs_text(causes);
        if paths.contains(&path.text()) {
            path.invalid("must be unique", causes);
        }
        paths.push(path.text());
        if any(&devices, "name", name.text()) {
            name.invalid("must not already exist in volumeDevices", causes);
        }
        if any(&devices, "devicePath", path.text()) {
            path.invalid("must not already exist as a path in volumeDevices", causes);
        }
        sub_paths(container, mount, causes);
        propagation(container, mount, causes);
        read_only(mount, causes);
    }
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in &devices {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.needs_text(causes);
        if names.contains(&name.text()) {
            name.invalid("must be unique", causes);
        }
        device_source(spec, &name, volumes, causes);
        path.needs_text(causes);
        if paths.contains(&path.text()) {
            path.invalid("must be unique", causes);
        }
        if path.text().split('/').any(|step| step == "..") {
            path.invalid("can not contain backsteps ('..')", causes);
        } else {
            paths.push(path.text());
        }
        if any(&mounts, "name", name.text()) {
            name.invalid("must not already exist in volumeMounts", causes);
        }
        if any(&mounts, "mountPath", path.text()) {
            path.invalid("must not already exist as a path in volumeMounts", causes);
        }
        names.push(name.text());
    }
}

/// A raw device is a claim's.
fn device_source(spec: &Field<'_>, name: &Field<'_>, volumes: &[&str], causes: &mut Vec<Cause>) {
    if !volumes.contains(&name.text()) {
        return name.not_found(causes);
    }
    let own = spec.items("volumes").into_iter().find(|volume| volume.str("name") == name.text());
    let claim = |volume: &Field<'_>| volume.get("persistentVolumeClaim").or(volume.get("ephemeral")).is_some();
    if !own.is_some_and(|volume| claim(&volume)) {
        let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
        name.invalid(why, causes);
    }
}

fn read_only(mount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(mode) = mount.get("recursiveReadOnly") else { return };
    mode.one_of(&["Disabled", "Enabled", "IfPossible"], causes);
    if !matches!(mode.text(), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.flag("readOnly") {
        mode.forbidden("may only be specified when readOnly is true", causes);
    }
    if !matches!(mount.str("mountPropagation"), "" | "None") {
        mode.forbidden("may only be specified when mountPropagation is None or not specified", causes);
    }
}

fn sub_paths(container: &Field<'_>, mount: &Field<'_>, causes: &mut Vec<Cause>) {
    let both = ["subPath", "subPathExpr"].map(|key| mount.str(key));
    if both.iter().all(|path| !path.is_empty()) {
        mount.at("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive", causes);
    }
    for (key, path) in ["subPath", "subPathExpr"].into_iter().zip(both) {
        if !path.is_empty() {
            // Upstream leaves the place of the mount out of this path.
            let value = Value::from(path);
            let list = container.at("volumeMounts");
            local_path(&Field::new(&value, format!("{}.{key}", list.path)), false, causes);
        }
    }
}

fn propagation(container: &Field<'_>, mount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(propagation) = mount.get("mountPropagation") else { return };
    // Upstream leaves the place of the mount out of this path.
    let path = format!("{}.mountPropagation", container.at("volumeMounts").path);
    let propagation = Field::new(propagation.value, path);
    propagation.one_of(&["Bidirectional", "HostToContainer", "None"], causes);
    if propagation.text() == "Bidirectional" && !container.at("securityContext").flag("privileged") {
        propagation.forbidden("Bidirectional mount propagation is available only to privileged containers", causes);
    }
}
