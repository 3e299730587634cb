//! The downward API: what a container may learn of its own pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::{qos, quantity::Amount};

/// Why a field can't be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// No such field can be shown.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// No such resource can be shown.
    #[error("unsupported container resource: {0}")]
    Resource(String),
    /// The container that is named isn't part of the pod.
    #[error("container {0} not found")]
    Container(String),
}

/// What the node knows and the pod's object may not say yet.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// Addresses of the pod.
    pub pod_ips: &'a [String],
    /// Addresses of the node.
    pub host_ips: &'a [String],
    /// What the node can give away of each resource: shown where a container has no limit.
    pub allocatable: BTreeMap<String, Amount>,
}

/// The text of a field of the pod.
///
/// # Errors
/// If no such field can be shown.
pub fn field(pod: &Pod, path: &str, facts: &Facts<'_>) -> Result<String, DownwardError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(entry(meta.labels.as_ref(), key));
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(entry(meta.annotations.as_ref(), key));
    }
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(listing(meta.labels.as_ref())),
        "metadata.annotations" => Some(listing(meta.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" => facts.pod_ips.first().cloned(),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        "status.hostIP" => facts.host_ips.first().cloned(),
        "status.hostIPs" => Some(facts.host_ips.join(",")),
        _ => return Err(DownwardError::Field(path.to_owned())),
    };
    Ok(text.unwrap_or_default())
}

/// The key in `path` if it is `name['key']`.
fn subscript<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.strip_prefix(name)?.strip_prefix("['")?.strip_suffix("']")
}

fn entry(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
}

/// One `key="value"` per line, sorted, values escaped as Go writes them.
fn listing(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 256 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text of a container's request or limit, in units of the divisor, rounded up.
///
/// # Errors
/// If the resource can't be shown or the container isn't there.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts<'_>,
) -> Result<String, DownwardError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => own.ok_or_else(|| DownwardError::Container(String::new()))?,
        Some(name) => find(pod, name).ok_or_else(|| DownwardError::Container(name.to_owned()))?,
    };
    let (kind, name) =
        selector.resource.split_once('.').ok_or_else(|| DownwardError::Resource(selector.resource.clone()))?;
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    let amount = match kind {
        "limits" if known => qos::limit(container, name).or_else(|| facts.allocatable.get(name).copied()),
        "requests" if known => qos::request(container, name).or_else(|| qos::limit(container, name)),
        _ => return Err(DownwardError::Resource(selector.resource.clone())),
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| Amount::parse(&divisor.0));
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or_else(|| Amount::of(1));
    Ok(amount.unwrap_or_default().divided_by(divisor).to_string())
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_listed_sorted_and_quoted() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"labels": {"b": "x\"y\n", "a": "1"}}})).unwrap();
        assert_eq!(field(&pod, "metadata.labels", &Facts::default()).unwrap(), "a=\"1\"\nb=\"x\\\"y\\n\"");
        assert!(field(&pod, "spec.containers", &Facts::default()).is_err());
    }

    #[test]
    fn a_missing_limit_is_what_the_node_can_give() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}}]}}))
        .unwrap();
        let facts = Facts { allocatable: [("cpu".to_owned(), Amount::of(2))].into(), ..Facts::default() };
        let show = |resource: &str, divisor: &str| {
            let selector = json!({"containerName": "a", "resource": resource, "divisor": divisor});
            super::resource(&pod, None, &serde_json::from_value(selector).unwrap(), &facts).unwrap()
        };
        assert_eq!(show("limits.cpu", "1"), "2");
        assert_eq!(show("requests.cpu", "1m"), "250");
        assert_eq!(show("requests.cpu", "0"), "1");
        assert_eq!(show("limits.memory", "1Mi"), "64");
        assert_eq!(show("requests.memory", "1Mi"), "64");
    }
}
