//! The sources of PersistentVolumes.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{field::Field, internal, pod::volumes::no_steps_back, text},
    volumes::csi_driver::driver_name,
};

/// Sources in the order in which upstream looks at them.
pub const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const BYTE: &str = "must be between 0 and 255, inclusive";
/// What is said of a partition that is none; zero is taken, and means the whole disk.
const PARTITION: &str = "must be between 1 and 255, inclusive";
/// What is said of a longer name of a target: with an initiator's name the machine builds a path of both.
pub const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
/// Longest name of a volume and portal together, with what is between.
const MAX_PORTAL: usize = 64;
const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
/// Longest tenant of Quobyte: a UUID with room.
const MAX_TENANT: usize = 64;
const MANAGED: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const UNMANAGED: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

/// Fills in what a source leaves out.
pub fn default(object: &mut Value, path: &[&str]) {
    const DEFAULTS: [(&str, &str, &str); 10] = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "kind", "Shared"),
        ("azureDisk", "fsType", "ext4"),
        ("hostPath", "type", ""),
    ];
    let Some(holder) = object::at_mut(object, path) else { return };
    for (source, key, value) in DEFAULTS {
        let Some(found) = holder.get_mut(source).filter(|found| found.is_object()) else { continue };
        let unset = object::text(found, &[key]).is_empty();
        if unset && (source != "hostPath" || found.get(key).is_none_or(Value::is_null)) {
            object::set(found, &[], key, value);
        }
    }
    if let Some(disk) = holder.get_mut("azureDisk").filter(|disk| disk.is_object()) {
        object::set_default(disk, &[], "readOnly", false);
    }
}

/// Sources as the internal type shows them.
#[must_use]
pub fn shown(source: &Value) -> Value {
    const TYPE: &str = "io.k8s.api.core.v1.PersistentVolumeSpec";
    let Value::Object(mut all) = internal::of(TYPE, source) else { return source.clone() };
    for key in [
        "Capacity",
        "AccessModes",
        "ClaimRef",
        "PersistentVolumeReclaimPolicy",
        "StorageClassName",
        "MountOptions",
        "VolumeMode",
        "NodeAffinity",
        "VolumeAttributesClassName",
    ] {
        all.shift_remove(key);
    }
    Value::Object(all)
}

/// Checks a source of this kind, of the volume of this name.
pub fn check(kind: &str, field: &Field<'_>, volume: &str, causes: &mut Vec<Cause>) {
    match kind {
        "hostPath" => host_path(field, causes),
        "gcePersistentDisk" => disk(field, "pdName", causes),
        "awsElasticBlockStore" => disk(field, "volumeID", causes),
        "glusterfs" => glusterfs(field, causes),
        "flocker" => flocker(field, causes),
        "nfs" => nfs(field, causes),
        "rbd" => each_required(field, &["monitors", "image"], causes),
        "quobyte" => quobyte(field, causes),
        "cephfs" => each_required(field, &["monitors"], causes),
        "iscsi" => iscsi(field, Target::Volume { name: volume }, causes),
        "cinder" => {
            each_required(field, &["volumeID"], causes);
            if let Some(secret) = field.get("secretRef") {
                each_required(&secret, &["name", "namespace"], causes);
            }
        }
        "fc" => fibre_channel(field, causes),
        "flexVolume" => flex(field, causes),
        "azureFile" => {
            each_required(field, &["secretName", "shareName"], causes);
            if field.get("secretNamespace").is_some_and(|own| own.text().is_empty()) {
                field.at("secretNamespace").required("", causes);
            }
        }
        "vsphereVolume" => each_required(field, &["volumePath"], causes),
        "photonPersistentDisk" => each_required(field, &["pdID"], causes),
        "portworxVolume" => each_required(field, &["volumeID"], causes),
        "azureDisk" => azure_disk(field, causes),
        "scaleIO" => each_required(field, &["gateway", "system", "volumeName"], causes),
        "local" => local(field, causes),
        "storageos" => storageos(field, causes),
        "csi" => csi(field, causes),
        _ => {}
    }
}

fn each_required(field: &Field<'_>, keys: &[&str], causes: &mut Vec<Cause>) {
    for key in keys {
        if field.at(key).is_empty() {
            field.at(key).required("", causes);
        }
    }
}

fn byte(number: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    if number.int().is_some_and(|number| !(0..=255).contains(&number)) {
        number.invalid(why, causes);
    }
}

fn host_path(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let path = field.at("path");
    if path.needs_text(causes) {
        no_steps_back(&path, causes);
        field.at("type").one_of(&HOST_PATH_TYPES, causes);
    }
}

fn local(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let path = field.at("path");
    if path.needs_text(causes) {
        no_steps_back(&path, causes);
    }
}

fn disk(field: &Field<'_>, name: &str, causes: &mut Vec<Cause>) {
    each_required(field, &[name], causes);
    byte(&field.at("partition"), PARTITION, causes);
}

fn glusterfs(field: &Field<'_>, causes: &mut Vec<Cause>) {
    each_required(field, &["endpoints", "path"], causes);
    if let Some(namespace) = field.get("endpointsNamespace") {
        if namespace.text().is_empty() {
            namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name", causes);
        }
        namespace.check_if_set(text::dns1123_label, causes);
    }
}

fn flocker(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let (name, uuid) = (field.at("datasetName"), field.at("datasetUUID"));
    match (name.text().is_empty(), uuid.text().is_empty()) {
        (true, true) => field.required("one of datasetName and datasetUUID is required", causes),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            causes.push(Cause::invalid(field.path.as_str(), &json!("resource"), why));
        }
        _ => {}
    }
    if name.text().contains('/') {
        name.invalid("must not contain '/'", causes);
    }
}

fn nfs(field: &Field<'_>, causes: &mut Vec<Cause>) {
    each_required(field, &["server"], causes);
    let path = field.at("path");
    path.needs_text(causes);
    if !path.text().starts_with('/') {
        causes.push(Cause::invalid(path.path.as_str(), &json!(path.text()), "must be an absolute path"));
    }
}

fn quobyte(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let registry = field.at("registry");
    if registry.text().is_empty() {
        registry.required(REGISTRY, causes);
    } else if field.str("tenant").len() > MAX_TENANT {
        field.at("tenant").required("must be a UUID and may not exceed a length of 64 characters", causes);
    } else {
        for pair in registry.text().split(',') {
            if !is_host_and_port(pair) {
                registry.invalid(REGISTRY, causes);
            }
        }
    }
    each_required(field, &["volume"], causes);
}

/// Whether Go can split it into a host, which may be in brackets, and a port. Both may be empty.
fn is_host_and_port(text: &str) -> bool {
    let Some((before, port)) = text.rsplit_once(':') else { return false };
    let bracket = |text: &str| text.contains(['[', ']']);
    match before.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|host| !bracket(host)) && !bracket(port),
        None => !before.contains(':') && !bracket(before) && !bracket(port),
    }
}

/// Whose target of iSCSI it is.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// A pod's.
    Pod,
    /// That of the volume of this name.
    Volume {
        /// The name.
        name: &'a str,
    },
}

/// Whether a volume's name and its portal are too long together for an initiator with a name of its own.
#[must_use]
pub fn is_long_portal(name: &str, source: &Field<'_>) -> bool {
    source.get("initiatorName").is_some() && name.len() + 1 + source.str("targetPortal").len() > MAX_PORTAL
}

/// Checks a target of iSCSI.
pub fn iscsi(field: &Field<'_>, target: Target<'_>, causes: &mut Vec<Cause>) {
    let unknown = match target {
        Target::Pod => "must be valid format starting with iqn, eui, or naa",
        Target::Volume { .. } => "must be valid format",
    };
    each_required(field, &["targetPortal"], causes);
    if let Target::Volume { name } = target
        && is_long_portal(name, field)
    {
        let portal = Field::new(field.at("targetPortal").value, field.at("targetportal").path);
        portal.invalid(LONG_PORTAL, causes);
    }
    let name = field.at("iqn");
    if name.needs_text(causes) {
        iscsi_name(&name, unknown, causes);
    }
    byte(&field.at("lun"), BYTE, causes);
    let secret = field.get("secretRef");
    if (field.flag("chapAuthDiscovery") || field.flag("chapAuthSession")) && secret.is_none() {
        field.at("secretRef").required("", causes);
    }
    if let (Some(secret), Target::Volume { .. }) = (&secret, target) {
        each_required(secret, &["name"], causes);
    }
    if let Some(own) = field.get("initiatorName") {
        let own = Field::new(own.value, field.at("initiatorname").path);
        iscsi_name(&own, unknown, causes);
    }
}

fn iscsi_name(name: &Field<'_>, unknown: &str, causes: &mut Vec<Cause>) {
    let text = name.text();
    let why = match text.get(..3) {
        Some("iqn") if has_qualified(text) => return,
        Some("eui") if has_digits(text, 16) => return,
        Some("naa") if has_digits(text, 32) => return,
        Some("iqn" | "eui" | "naa") => "must be valid format",
        _ => unknown,
    };
    name.invalid(why, causes);
}

/// Three letters, any one character, and so many letters or digits.
fn has_digits(text: &str, count: usize) -> bool {
    let mut rest = text.get(3..).unwrap_or_default().chars();
    let separated = rest.next().is_some_and(|separator| separator != '\n');
    let digits = rest.as_str();
    separated && digits.len() == count && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether the text ends with `iqn.yyyy-mm.reversed.domain:own`, RFC 3720 section 3.2.6.3.1; what is before is let be.
fn has_qualified(text: &str) -> bool {
    text.match_indices("iqn.").any(|(at, start)| text.get(at + start.len()..).is_some_and(is_qualified))
}

fn is_qualified(rest: &str) -> bool {
    let digits = |text: Option<&str>| text.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let date = digits(rest.get(..4)) && rest.get(4..5) == Some("-") && digits(rest.get(5..7));
    let Some((authority, own)) = rest.get(8..).and_then(|rest| rest.split_once(':')) else { return false };
    date && rest.get(7..8) == Some(".")
        && !authority.is_empty()
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && !own.is_empty()
        && !own.contains(|letter: char| ",;*&$|".contains(letter) || letter.is_ascii_whitespace())
}

fn fibre_channel(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let (targets, ids) = (field.at("targetWWNs"), field.at("wwids"));
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => targets.required("must specify either targetWWNs or wwids, but not both", causes),
        (false, false) => targets.invalid("targetWWNs and wwids can not be specified simultaneously", causes),
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    let lun = field.at("lun");
    if lun.value.is_null() {
        lun.required("lun is required if targetWWNs is specified", causes);
    }
    byte(&lun, BYTE, causes);
}

fn flex(field: &Field<'_>, causes: &mut Vec<Cause>) {
    each_required(field, &["driver"], causes);
    for (key, option) in field.entries("options") {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if [".kubernetes.io", ".k8s.io"].iter().any(|own| domain.ends_with(own)) {
            causes.push(Cause::invalid(option.path, &json!(key), "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

fn azure_disk(field: &Field<'_>, causes: &mut Vec<Cause>) {
    each_required(field, &["diskName", "diskURI"], causes);
    if let Some(mode) = field.get("cachingMode") {
        mode.one_of(&["None", "ReadOnly", "ReadWrite"], causes);
    }
    if let Some(kind) = field.get("kind") {
        kind.one_of(&["Dedicated", "Managed", "Shared"], causes);
        let (managed, uri) = (kind.text() == "Managed", field.at("diskURI"));
        if managed && !uri.text().starts_with("/subscriptions/") {
            causes.push(Cause::not_supported(uri.path.as_str(), &json!(uri.text()), &[MANAGED]));
        }
        if !managed && !uri.text().starts_with("https://") {
            causes.push(Cause::not_supported(uri.path.as_str(), &json!(uri.text()), &[UNMANAGED]));
        }
    }
}

fn storageos(field: &Field<'_>, causes: &mut Vec<Cause>) {
    field.at("volumeName").check_required(text::dns1123_label, causes);
    field.at("volumeNamespace").check_if_set(text::dns1123_label, causes);
    if let Some(secret) = field.get("secretRef") {
        each_required(&secret, &["name", "namespace"], causes);
    }
}

fn csi(field: &Field<'_>, causes: &mut Vec<Cause>) {
    driver_name(&field.at("driver"), causes);
    each_required(field, &["volumeHandle"], causes);
    let secrets =
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    for secret in secrets.iter().filter_map(|key| field.get(key)) {
        secret.at("name").check_required(text::dns1123_subdomain, causes);
        secret.at("namespace").check_required(text::dns1123_label, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(kind: &str, source: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(kind, &Field::new(source, "s"), "pv", &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_registry_is_pairs_of_hosts_and_ports() {
        for good in ["a:1", "[::1]:80", ":", "a:b"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["a", "[::1]", "::1:80", "[a:1", "a]:1", "[a]b:1"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }

    #[test]
    fn names_of_targets_have_one_of_three_forms() {
        let right = |name: &str| faults("iscsi", &json!({"targetPortal": "a", "iqn": name})).is_empty();
        assert!(right("iqn.2001-04.com.example:disk"));
        assert!(right("eui.0123456789ABCDEF"));
        assert!(right(&format!("naa.{}", "a".repeat(32))));
        for wrong in ["iqn.2001-04.com.example", "iqn.2001-4.com.example:d", "eui.01", "naa.0123456789ABCDEF", "x"] {
            assert!(!right(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_volumes_target_needs_the_name_of_its_secret() {
        let source = json!({"targetPortal": "a", "iqn": "eui.0123456789ABCDEF", "secretRef": {}});
        assert_eq!(faults("iscsi", &source), ["s.secretRef.name: Required value"]);
    }

    #[test]
    fn a_partition_that_is_none_is_told_as_upstream_tells_it() {
        let source = json!({"pdName": "a", "partition": 300});
        assert_eq!(
            faults("gcePersistentDisk", &source),
            ["s.partition: Invalid value: 300: must be between 1 and 255, inclusive"]
        );
    }
}
