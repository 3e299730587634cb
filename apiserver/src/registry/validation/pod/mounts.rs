//! Where containers see the volumes of their pod.

use std::collections::{HashMap, HashSet};

use martello_api::status::Cause;

use super::volumes::local_path;
use crate::registry::validation::field::Field;

/// The names of those volumes of a pod that may be raw devices: claims. Of two of one name the first counts.
pub(super) fn devices<'a>(spec: &Field<'a>) -> HashSet<&'a str> {
    let claim = |volume: &Field<'_>| volume.get("persistentVolumeClaim").or(volume.get("ephemeral")).is_some();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut found: HashSet<&str> = HashSet::new();
    for volume in spec.items("volumes") {
        let name = volume.str("name");
        if seen.insert(name) && claim(&volume) {
            found.insert(name);
        }
    }
    found
}

/// Checks mounts and devices of a container. `volumes` are the names of those that are right, `claims` of those that
/// may be devices.
pub(super) fn check(container: &Field<'_>, volumes: &HashSet<&str>, claims: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let (mounts, devices) = (container.items("volumeMounts"), container.items("volumeDevices"));
    let (device_names, device_paths) = (texts(&devices, "name"), last_paths(&devices, "devicePath"));
    let (mount_names, mount_paths) = (texts(&mounts, "name"), last_paths(&mounts, "mountPath"));
    let mut paths: HashSet<&str> = HashSet::new();
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
        paths.insert(path.text());
        if device_names.contains(name.text()) {
            name.invalid("must not already exist in volumeDevices", causes);
        }
        if device_paths.contains(path.text()) {
            path.invalid("must not already exist as a path in volumeDevices", causes);
        }
        sub_paths(container, mount, causes);
        propagation(container, mount, causes);
        read_only(container, mount, causes);
    }
    let (mut names, mut paths): (HashSet<&str>, HashSet<&str>) = (HashSet::new(), HashSet::new());
    for device in &devices {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.needs_text(causes);
        if names.contains(&name.text()) {
            name.invalid("must be unique", causes);
        }
        device_source(&name, volumes, claims, causes);
        path.needs_text(causes);
        if paths.contains(&path.text()) {
            path.invalid("must be unique", causes);
        }
        if path.text().split('/').any(|step| step == "..") {
            path.invalid("can not contain backsteps ('..')", causes);
        } else {
            paths.insert(path.text());
        }
        if mount_names.contains(name.text()) {
            name.invalid("must not already exist in volumeMounts", causes);
        }
        if mount_paths.contains(path.text()) {
            path.invalid("must not already exist as a path in volumeMounts", causes);
        }
        if !name.text().is_empty() {
            names.insert(name.text());
        }
    }
}

/// What stands under a key of any of them.
fn texts<'a>(all: &[Field<'a>], key: &str) -> HashSet<&'a str> {
    all.iter().map(|one| one.str(key)).collect()
}

/// Where they are. Of several of one name upstream knows the last.
fn last_paths<'a>(all: &[Field<'a>], key: &str) -> HashSet<&'a str> {
    let by_name: HashMap<&str, &str> = all.iter().map(|one| (one.str("name"), one.str(key))).collect();
    by_name.into_values().collect()
}

/// A raw device is a claim's.
fn device_source(name: &Field<'_>, volumes: &HashSet<&str>, claims: &HashSet<&str>, causes: &mut Vec<Cause>) {
    if !volumes.contains(&name.text()) {
        return name.not_found(causes);
    }
    if !claims.contains(name.text()) {
        let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
        name.invalid(why, causes);
    }
}

fn read_only(container: &Field<'_>, mount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(mode) = mount.get("recursiveReadOnly") else { return };
    // Upstream leaves the place of the mount out of this path.
    let mode = Field::new(mode.value, format!("{}.recursiveReadOnly", container.at("volumeMounts").path));
    mode.one_of(&["Disabled", "Enabled", "IfPossible"], causes);
    if !matches!(mode.text(), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.flag("readOnly") {
        mode.forbidden("may only be specified when readOnly is true", causes);
    }
    if mount.get("mountPropagation").is_some_and(|propagation| propagation.text() != "None") {
        mode.forbidden("may only be specified when mountPropagation is None or not specified", causes);
    }
}

fn sub_paths(container: &Field<'_>, mount: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["subPath", "subPathExpr"] {
        let path = mount.at(key);
        if path.text().is_empty() {
            continue;
        }
        if key == "subPathExpr" && !mount.str("subPath").is_empty() {
            path.invalid("subPathExpr and subPath are mutually exclusive", causes);
        }
        // Upstream leaves the place of the mount out of this path.
        let list = container.at("volumeMounts");
        local_path(&Field::new(path.value, format!("{}.{key}", list.path)), false, causes);
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
