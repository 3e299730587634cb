//! Defaults of pods and pod templates that depend on more than one field.

use serde_json::{Value, json};

use super::{claim, pod_features, pod_usage, volume_sources};
use crate::registry::object;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Default mode of files in volumes: 0644.
const FILE_MODE: i64 = 420;

/// Fills in a pod spec; `of_pod` is false for templates, which keep some things open.
pub fn spec(object: &mut Value, path: &[&str], of_pod: bool) {
    let Some(spec) = object::at_mut(object, path) else { return };
    if !spec.is_object() {
        return;
    }
    let here: &[&str] = &[];
    pod_features::drop_disabled(spec);
    object::set_default(spec, here, "restartPolicy", "Always");
    object::set_default(spec, here, "dnsPolicy", "ClusterFirst");
    object::set_default(spec, here, "schedulerName", "default-scheduler");
    object::set_default(spec, here, "terminationGracePeriodSeconds", 30);
    object::set_default(spec, here, "securityContext", json!({}));
    if of_pod {
        object::set_default(spec, here, "enableServiceLinks", true);
    }
    account(spec);
    // A template leaves the ports of the host open: its pods are given them when they are made.
    let host_network = of_pod && object::flag(spec, &["hostNetwork"]);
    for list in CONTAINERS {
        for item in object::list_mut(spec, &[list]).into_iter().flatten() {
            container(item, host_network, list == "ephemeralContainers");
        }
    }
    for item in object::list_mut(spec, &["volumes"]).into_iter().flatten() {
        volume(item);
    }
    for constraint in object::list_mut(spec, &["topologySpreadConstraints"]).into_iter().flatten() {
        object::set_default(constraint, here, "whenUnsatisfiable", "DoNotSchedule");
    }
    if of_pod {
        requests_from_limits(spec);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn account(spec: &mut Value) {
    let (new, old) =
        (object::text(spec, &["serviceAccountName"]).to_owned(), object::text(spec, &["serviceAccount"]).to_owned());
    let name = if new.is_empty() { old } else { new };
    if !name.is_empty() {
        object::set(spec, &[], "serviceAccountName", name.as_str());
        object::set(spec, &[], "serviceAccount", name);
    }
}

fn container(container: &mut Value, host_network: bool, ephemeral: bool) {
    let here: &[&str] = &[];
    object::set_default(container, here, "terminationMessagePath", "/dev/termination-log");
    object::set_default(container, here, "terminationMessagePolicy", "File");
    if !ephemeral || object::at(container, &["resources"]).is_none() {
        object::set_default(container, here, "resources", json!({}));
    }
    if object::text(container, &["imagePullPolicy"]).is_empty() {
        let policy = pull_policy(object::text(container, &["image"]));
        object::set(container, here, "imagePullPolicy", policy);
    }
    for port in object::list_mut(container, &["ports"]).into_iter().flatten() {
        object::set_default(port, here, "protocol", "TCP");
        if host_network && object::int(port, &["hostPort"]).unwrap_or(0) == 0 {
            let number = object::int(port, &["containerPort"]).unwrap_or(0);
            object::set(port, here, "hostPort", number);
        }
    }
    for variable in object::list_mut(container, &["env"]).into_iter().flatten() {
        if object::at(variable, &["valueFrom", "fieldRef"]).is_some() {
            object::set_default(variable, &["valueFrom", "fieldRef"], "apiVersion", "v1");
        }
        if object::at(variable, &["valueFrom", "resourceFieldRef"]).is_some() {
            object::set_default(variable, &["valueFrom", "resourceFieldRef"], "divisor", "0");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if object::at(container, &[name]).is_some_and(Value::is_object) {
            probe(container, name);
        }
    }
    for hook in ["postStart", "preStop"] {
        if object::at(container, &["lifecycle", hook, "httpGet"]).is_some() {
            http_get(container, &["lifecycle", hook, "httpGet"]);
        }
    }
}

fn probe(container: &mut Value, name: &str) {
    let path: &[&str] = &[name];
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if object::int(container, &[name, key]).unwrap_or(0) == 0 {
            object::set(container, path, key, value);
        }
    }
    if object::at(container, &[name, "httpGet"]).is_some() {
        http_get(container, &[name, "httpGet"]);
    }
    if object::at(container, &[name, "grpc"]).is_some() {
        object::set_default(container, &[name, "grpc"], "service", "");
    }
}

fn http_get(container: &mut Value, path: &[&str]) {
    if object::at(container, path).is_some_and(|get| object::text(get, &["path"]).is_empty()) {
        object::set(container, path, "path", "/");
    }
    if object::at(container, path).is_some_and(|get| object::text(get, &["scheme"]).is_empty()) {
        object::set(container, path, "scheme", "HTTP");
    }
}

/// An image whose tag moves is pulled anew each time.
fn pull_policy(image: &str) -> &'static str {
    if tag(image) == "latest" { "Always" } else { "IfNotPresent" }
}

/// The tag of an image reference; `latest` where there is none, nothing where there is a digest.
#[must_use]
pub fn tag(image: &str) -> &str {
    if image.contains('@') {
        return "";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn volume(volume: &mut Value) {
    let has_source =
        volume.as_object().is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        object::set(volume, &[], "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if object::at(volume, &[source]).is_some_and(Value::is_object) {
            object::set_default(volume, &[source], "defaultMode", FILE_MODE);
        }
    }
    volume_sources::default(volume, &[]);
    if object::at(volume, &["image"]).is_some_and(Value::is_object) {
        let policy = pull_policy(object::text(volume, &["image", "reference"]));
        object::set_default(volume, &["image"], "pullPolicy", policy);
    }
    claim::default_spec(volume, &["ephemeral", "volumeClaimTemplate", "spec"]);
    for item in object::list_mut(volume, &["downwardAPI", "items"]).into_iter().flatten() {
        downward(item);
    }
    for source in object::list_mut(volume, &["projected", "sources"]).into_iter().flatten() {
        if object::at(source, &["serviceAccountToken"]).is_some_and(Value::is_object) {
            object::set_default(source, &["serviceAccountToken"], "expirationSeconds", 3600);
        }
        for item in object::list_mut(source, &["downwardAPI", "items"]).into_iter().flatten() {
            downward(item);
        }
    }
}

fn downward(item: &mut Value) {
    if object::at(item, &["fieldRef"]).is_some_and(Value::is_object) {
        object::set_default(item, &["fieldRef"], "apiVersion", "v1");
    }
    if object::at(item, &["resourceFieldRef"]).is_some_and(Value::is_object) {
        object::set_default(item, &["resourceFieldRef"], "divisor", "0");
    }
}

/// What is limited and not requested is requested.
fn requests_from_limits(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in object::list_mut(spec, &[list]).into_iter().flatten() {
            let limits = object::at(container, &["resources", "limits"]).and_then(Value::as_object).cloned();
            for (key, value) in limits.into_iter().flatten() {
                object::set_default(container, &["resources", "requests"], &key, value);
            }
        }
    }
    whole(spec);
}

/// A pod as a whole has what its containers have, or else what it is limited to.
fn whole(spec: &mut Value) {
    if object::at(spec, &["resources"]).is_none_or(object::is_zero) {
        return;
    }
    let huge = |name: &str| name.starts_with("hugepages-");
    for (key, sum) in pod_usage::summed(spec, "limits").into_iter().filter(|(key, _)| huge(key)) {
        object::set_default(spec, &["resources", "limits"], &key, sum.to_string());
    }
    for (key, sum) in pod_usage::summed(spec, "requests") {
        if matches!(key.as_str(), "cpu" | "memory") {
            object::set_default(spec, &["resources", "requests"], &key, sum.to_string());
        }
    }
    let limits = object::at(spec, &["resources", "limits"]).and_then(Value::as_object).cloned();
    for (key, value) in limits.into_iter().flatten() {
        if matches!(key.as_str(), "cpu" | "memory") || huge(&key) {
            object::set_default(spec, &["resources", "requests"], &key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_pulled_always() {
        assert_eq!(tag("registry:5000/a/b"), "latest");
        assert_eq!(tag("a:1.2"), "1.2");
        assert_eq!(tag("a@sha256:00"), "");
    }

    #[test]
    fn limits_become_requests() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}]}});
        spec(&mut pod, &["spec"], true);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["spec"]["restartPolicy"], "Always");
    }
}
