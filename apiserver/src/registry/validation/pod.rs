//! What holds for pod specs, in pods and in templates.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::{Value, json};

use super::{metadata, text};
use crate::registry::object;

/// Checks a pod spec at `at`, which messages call `path`.
pub fn spec(object: &Value, at: &[&str], path: &str, causes: &mut Vec<Cause>) {
    let Some(spec) = object::at(object, at) else {
        causes.push(Cause::required(format!("{path}.containers"), ""));
        return;
    };
    let volumes = volumes(spec, path, causes);
    let mut names: Vec<&str> = Vec::new();
    let main = object::list(spec, &["containers"]);
    if main.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, item) in object::list(spec, &[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            container(item, &path, &volumes, causes);
            let name = object::text(item, &["name"]);
            if !name.is_empty() && names.contains(&name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
            names.push(name);
        }
    }
    let supported = |value: &str, allowed: &[&str], key: &str, causes: &mut Vec<Cause>| {
        if !allowed.contains(&value) {
            causes.push(Cause::not_supported(format!("{path}.{key}"), &json!(value), allowed));
        }
    };
    supported(object::text(spec, &["restartPolicy"]), &["Always", "OnFailure", "Never"], "restartPolicy", causes);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    supported(object::text(spec, &["dnsPolicy"]), &policies, "dnsPolicy", causes);
    metadata::labels(object::at(spec, &["nodeSelector"]), &format!("{path}.nodeSelector"), causes);
    if let Some(seconds) = object::int(spec, &["terminationGracePeriodSeconds"])
        && seconds < 0
    {
        causes.push(Cause::invalid(
            format!("{path}.terminationGracePeriodSeconds"),
            &json!(seconds),
            "must be greater than or equal to 0",
        ));
    }
    if let Some(seconds) = object::int(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        causes.push(Cause::invalid(
            format!("{path}.activeDeadlineSeconds"),
            &json!(seconds),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (key, rule) in [
        ("serviceAccountName", text::dns1123_subdomain as fn(&str) -> text::Faults),
        ("nodeName", text::dns1123_subdomain),
        ("hostname", text::dns1123_label),
        ("subdomain", text::dns1123_label),
    ] {
        let value = object::text(spec, &[key]);
        if !value.is_empty() {
            for fault in rule(value) {
                causes.push(Cause::invalid(format!("{path}.{key}"), &json!(value), &fault));
            }
        }
    }
}

/// Checks volumes; answers their names.
fn volumes<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (index, volume) in object::list(spec, &["volumes"]).iter().enumerate() {
        let here = format!("{path}.volumes[{index}]");
        let name = object::text(volume, &["name"]);
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else {
            for fault in text::dns1123_label(name) {
                causes.push(Cause::invalid(format!("{here}.name"), &json!(name), &fault));
            }
        }
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{here}.name"), &json!(name)));
        }
        names.push(name);
        let sources: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key.as_str())
            .collect();
        for extra in sources.iter().skip(1) {
            causes.push(Cause::forbidden(format!("{here}.{extra}"), "may not specify more than 1 volume type"));
        }
    }
    names
}

fn container(container: &Value, path: &str, volumes: &[&str], causes: &mut Vec<Cause>) {
    let name = object::text(container, &["name"]);
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
    } else {
        for fault in text::dns1123_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &json!(name), &fault));
        }
    }
    let image = object::text(container, &["image"]);
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        causes.push(Cause::invalid(
            format!("{path}.image"),
            &json!(image),
            "must not have leading or trailing whitespace",
        ));
    }
    let policy = object::text(container, &["imagePullPolicy"]);
    if !matches!(policy, "Always" | "IfNotPresent" | "Never") {
        causes.push(Cause::not_supported(
            format!("{path}.imagePullPolicy"),
            &json!(policy),
            &["Always", "IfNotPresent", "Never"],
        ));
    }
    ports(container, path, causes);
    environment(container, path, causes);
    mounts(container, path, volumes, causes);
    resources(container, path, causes);
}

fn ports(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut names: Vec<&str> = Vec::new();
    for (index, port) in object::list(container, &["ports"]).iter().enumerate() {
        let here = format!("{path}.ports[{index}]");
        let name = object::text(port, &["name"]);
        if !name.is_empty() {
            for fault in text::port_name(name) {
                causes.push(Cause::invalid(format!("{here}.name"), &json!(name), &fault));
            }
            if names.contains(&name) {
                causes.push(Cause::duplicate(format!("{here}.name"), &json!(name)));
            }
            names.push(name);
        }
        match object::int(port, &["containerPort"]).unwrap_or(0) {
            0 => causes.push(Cause::required(format!("{here}.containerPort"), "")),
            number => {
                for fault in text::port_number(number) {
                    causes.push(Cause::invalid(format!("{here}.containerPort"), &json!(number), &fault));
                }
            }
        }
        let protocol = object::text(port, &["protocol"]);
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            causes.push(Cause::not_supported(format!("{here}.protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
    }
}

fn environment(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (index, variable) in object::list(container, &["env"]).iter().enumerate() {
        let here = format!("{path}.env[{index}]");
        let name = object::text(variable, &["name"]);
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else {
            for fault in text::env_var_name(name) {
                causes.push(Cause::invalid(format!("{here}.name"), &json!(name), &fault));
            }
        }
        let sources = object::at(variable, &["valueFrom"]).and_then(Value::as_object).map(serde_json::Map::len);
        let why = match sources {
            Some(0) => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            Some(_) if !object::text(variable, &["value"]).is_empty() => {
                "may not be specified when `value` is not empty"
            }
            Some(2..) => "may not have more than one field specified at a time",
            _ => continue,
        };
        causes.push(Cause::invalid(format!("{here}.valueFrom"), &json!(""), why));
    }
}

fn mounts(container: &Value, path: &str, volumes: &[&str], causes: &mut Vec<Cause>) {
    let mut paths: Vec<&str> = Vec::new();
    for (index, mount) in object::list(container, &["volumeMounts"]).iter().enumerate() {
        let here = format!("{path}.volumeMounts[{index}]");
        let (name, place) = (object::text(mount, &["name"]), object::text(mount, &["mountPath"]));
        if name.is_empty() {
            causes.push(Cause::required(format!("{here}.name"), ""));
        } else if !volumes.contains(&name) {
            causes.push(Cause::new("FieldValueNotFound", format!("{here}.name"), format!("Not found: {name:?}")));
        }
        if place.is_empty() {
            causes.push(Cause::required(format!("{here}.mountPath"), ""));
        }
        if paths.contains(&place) {
            causes.push(Cause::invalid(format!("{here}.mountPath"), &json!(place), "must be unique"));
        }
        paths.push(place);
    }
}

fn resources(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let read = |part: &str, key: &str| {
        let text = object::text(container, &["resources", part, key]);
        text.parse::<Quantity>().ok()
    };
    let requests = object::at(container, &["resources", "requests"]).and_then(Value::as_object);
    for (key, value) in requests.into_iter().flatten() {
        if let (Some(request), Some(limit)) = (read("requests", key), read("limits", key))
            && request > limit
        {
            let shown = value.as_str().unwrap_or_default();
            let limit = object::text(container, &["resources", "limits", key]);
            let why = format!("must be less than or equal to {key} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.resources.requests"), &json!(shown), &why));
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by what cpu and memory are requested and limited.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for list in ["containers", "initContainers"] {
        for container in object::list(pod, &["spec", list]) {
            for resource in ["cpu", "memory"] {
                let read = |part: &str| {
                    let text = object::text(container, &["resources", part, resource]);
                    text.parse::<Quantity>().ok().filter(|_| !matches!(text, "0"))
                };
                let (request, limit) = (read("requests"), read("limits"));
                any |= request.is_some() || limit.is_some();
                guaranteed &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What a client is told about a pod spec besides.
#[must_use]
pub fn warnings(object: &Value, old: Option<&Value>, at: &[&str], path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_some() {
        return warnings;
    }
    for list in ["initContainers", "containers"] {
        let list_path: Vec<&str> = at.iter().copied().chain([list]).collect();
        for (index, container) in object::list(object, &list_path).iter().enumerate() {
            let mut seen: Vec<&str> = Vec::new();
            for (place, variable) in object::list(container, &["env"]).iter().enumerate() {
                let name = object::text(variable, &["name"]);
                if seen.contains(&name) {
                    warnings.push(format!("{path}.{list}[{index}].env[{place}]: hides previous definition of {name:?}, which may be dropped when using apply"));
                }
                seen.push(name);
            }
        }
    }
    warnings
}
