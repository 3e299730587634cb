//! The environment of containers, and references to fields of the pod.

use std::collections::HashMap;

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::json;

use super::volumes::no_steps_back;
use crate::registry::validation::{field::Field, text};

/// What may be referred to at all; each use allows some of these.
const LABELS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const NO_SOURCE: &str =
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
const TWO_SOURCES: &str = "may not have more than one field specified at a time";

/// Checks `env` and `envFrom` of a container.
pub(super) fn check(container: &Field<'_>, causes: &mut Vec<Cause>) {
    for variable in container.items("env") {
        variable.at("name").check_required(text::env_var_name, causes);
        if let Some(from) = variable.get("valueFrom") {
            value_from(&variable, &from, causes);
        }
    }
    for source in container.items("envFrom") {
        source.at("prefix").check_if_set(text::env_var_name, causes);
        let found: Vec<Field<'_>> =
            ["configMapRef", "secretRef"].into_iter().filter_map(|key| source.get(key)).collect();
        for reference in &found {
            // Upstream takes a trailing dash, as if a name were made of this one.
            reference
                .at("name")
                .check_required(|name| text::dns1123_subdomain(&text::mask_trailing_dash(name)), causes);
        }
        let why = match found.len() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => TWO_SOURCES,
        };
        // Upstream leaves the place of the source out of this path.
        causes.push(Cause::invalid(container.at("envFrom").path, &json!(""), why));
    }
}

fn value_from(variable: &Field<'_>, from: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut sources = 0;
    if let Some(field) = from.get("fieldRef") {
        sources += 1;
        field_ref(&field, &ENV_FIELDS, causes);
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        sources += 1;
        resource_ref(&resource, false, causes);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = from.get(key) {
            sources += 1;
            reference.at("name").check(text::dns1123_subdomain, causes);
            reference.at("key").check_required(text::config_map_key, causes);
        }
    }
    if let Some(file) = from.get("fileKeyRef") {
        sources += 1;
        file.at("key").check_required(text::env_var_name, causes);
        file.at("volumeName").check_required(text::dns1123_label, causes);
        let path = file.at("path");
        if path.needs_text(causes) {
            no_steps_back(&path, causes);
        }
    }
    let why = match sources {
        0 => NO_SOURCE,
        _ if !variable.str("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => TWO_SOURCES,
    };
    causes.push(Cause::invalid(from.path.as_str(), &json!(""), why));
}

/// Checks a reference to a field of the pod.
pub(super) fn field_ref(reference: &Field<'_>, allowed: &[&str], causes: &mut Vec<Cause>) {
    let (version, path) = (reference.at("apiVersion"), reference.at("fieldPath"));
    if !version.needs_text(causes) || !path.needs_text(causes) {
        return;
    }
    if version.text() != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {}", version.text());
        return path.invalid(&why, causes);
    }
    let parts = path.text().strip_suffix("']").and_then(|rest| rest.split_once("['"));
    let parts = parts.filter(|(plain, _)| !plain.is_empty());
    let plain = parts.map_or(path.text(), |(plain, _)| plain);
    let subscripted = matches!(plain, "metadata.annotations" | "metadata.labels");
    if parts.is_some() && !subscripted {
        let why = format!("error converting fieldPath: field label does not support subscript: {}", path.text());
        return path.invalid(&why, causes);
    }
    if !LABELS.contains(&plain) {
        let why = format!("error converting fieldPath: field label not supported: {}", path.text());
        return path.invalid(&why, causes);
    }
    if let Some((_, key)) = parts {
        let key = if plain == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
        for fault in text::qualified_name(&key) {
            causes.push(Cause::invalid(reference.path.as_str(), &json!(key), &fault));
        }
    } else {
        // The old name of the other.
        let meant = if plain == "spec.host" { "spec.nodeName" } else { plain };
        if !allowed.contains(&meant) {
            causes.push(Cause::not_supported(path.path, &json!(meant), allowed));
        }
    }
}

/// Checks a reference to a resource of a container; in volumes the container has to be named.
pub(super) fn resource_ref(reference: &Field<'_>, in_volume: bool, causes: &mut Vec<Cause>) {
    let resource = reference.at("resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.text().starts_with(prefix));
    if in_volume && reference.str("containerName").is_empty() {
        reference.at("containerName").required("", causes);
    } else if resource.text().is_empty() {
        resource.required("", causes);
    } else if !huge {
        resource.one_of(&RESOURCES, causes);
    }
    divisor(reference, resource.text(), causes);
}

/// Checks that an amount is told in units that are known, written as they are.
fn divisor(reference: &Field<'_>, resource: &str, causes: &mut Vec<Cause>) {
    let divisor = reference.at("divisor");
    let Ok(unit) = divisor.text().parse::<Quantity>() else { return };
    let (unit, zero) = (unit.to_string(), unit.is_zero());
    let Some(("limits" | "requests", name)) = resource.split_once('.') else { return };
    let why = match name {
        _ if zero => return,
        "cpu" if !matches!(unit.as_str(), "1m" | "1") => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        "cpu" => return,
        _ if SIZES.contains(&unit.as_str()) => return,
        "memory" => sizes_only("memory"),
        "ephemeral-storage" => sizes_only("local ephemeral storage"),
        _ if name.starts_with("hugepages-") => sizes_only("hugepages"),
        _ => return,
    };
    causes.push(Cause::invalid(divisor.path, &json!(resource), &why));
}

fn sizes_only(what: &str) -> String {
    format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", "))
}

/// Checks that the files which variables are read from are in volumes that the pod can fill itself.
pub(super) fn file_volumes(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    // Of two of one name the last counts. Told is whether the pod can fill it.
    let volumes: HashMap<&str, bool> =
        spec.items("volumes").iter().map(|volume| (volume.str("name"), volume.get("emptyDir").is_some())).collect();
    for container in super::all_containers(spec) {
        for variable in container.items("env") {
            let Some(file) = variable.at("valueFrom").get("fileKeyRef") else { continue };
            let name = file.at("volumeName");
            match volumes.get(name.text()) {
                None => name.not_found(causes),
                Some(false) => {
                    causes.push(Cause::invalid(
                        name.path.as_str(),
                        &json!(name.text()),
                        "referenced volume must be of type emptyDir",
                    ));
                }
                Some(true) => {}
            }
        }
    }
}
