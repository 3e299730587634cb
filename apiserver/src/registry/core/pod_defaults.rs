//! Defaults of pods and pod templates that depend on more than one field.

use martello_api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{claim, pod_features, pod_usage, volume_sources};
use crate::registry::object;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const INIT_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];
/// Most bytes of the name of an image.
const MAX_IMAGE_NAME: usize = 255;
/// Default mode of files in volumes: 0644.
const FILE_MODE: i64 = 420;

/// Fills in a pod spec; `of_pod` is false for templates, which keep some things open.
pub fn spec(object: &mut Value, path: &[&str], of_pod: bool) {
    drop_old_annotations(object, path);
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
        // What is meant as "at once" still has to be acted upon.
        if object::int(spec, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0) {
            object::set(spec, here, "terminationGracePeriodSeconds", 1);
        }
    }
    account(spec);
    // A template leaves the ports of the host open: its pods are given them when they are made.
    let host_network = of_pod && object::flag(spec, &["hostNetwork"]);
    for list in CONTAINERS {
        for item in object::list_mut(spec, &[list]).into_iter().flatten() {
            container(item, host_network, list == "ephemeralContainers");
        }
    }
    whole_millis(spec, &["resources"]);
    whole_millis_of(object::at_mut(spec, &["overhead"]));
    for item in object::list_mut(spec, &["volumes"]).into_iter().flatten() {
        volume(item);
    }
    if of_pod {
        requests_from_limits(spec);
    }
}

/// Rounds what a status says that a pod and its containers were given.
pub(super) fn status(pod: &mut Value) {
    let Some(status) = object::at_mut(pod, &["status"]) else { return };
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for item in object::list_mut(status, &[list]).into_iter().flatten() {
            given(item);
        }
    }
    given(status);
}

fn given(holder: &mut Value) {
    whole_millis_of(object::at_mut(holder, &["allocatedResources"]));
    whole_millis(holder, &["resources"]);
}

/// Init containers were annotations once, and mean nothing as such any more; `path` is of the spec.
fn drop_old_annotations(object: &mut Value, path: &[&str]) {
    let Some((_, holder)) = path.split_last() else { return };
    let Some(metadata) = object::at_mut(object, &[holder, &["metadata"]].concat()) else { return };
    for key in INIT_ANNOTATIONS {
        object::remove(metadata, &["annotations"], key);
    }
    if object::at(metadata, &["annotations"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        object::remove(metadata, &[], "annotations");
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
    whole_millis(container, &["resources"]);
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

/// The tag of an image reference; `latest` where there is neither tag nor digest, nothing where it is no reference.
#[must_use]
pub fn tag(image: &str) -> &str {
    read_tag(image).unwrap_or_default()
}

fn read_tag(image: &str) -> Option<&str> {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // That would be the identity of an image, which is no reference.
    if image.len() == 64 && image.bytes().all(lower_hex) {
        return None;
    }
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let is_host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (host, path) = match rest.split_once('/').filter(|(first, _)| is_host(first)) {
        Some((host, path)) => (Some(host), path),
        None => (None, rest),
    };
    let (name, tag) = path.split_once(':').map_or((path, None), |(name, tag)| (name, Some(tag)));
    let fits = host.is_none_or(host_fits)
        && name.len() <= MAX_IMAGE_NAME
        && name.split('/').all(component_fits)
        && tag.is_none_or(tag_fits)
        && digest.is_none_or(digest_fits);
    fits.then(|| tag.unwrap_or(if digest.is_some() { "" } else { "latest" }))
}

fn host_fits(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && name.split('.').all(label)
}

/// A part of the name of an image: small letters and digits, parted by a dot, one or two underscores, or any dashes.
fn component_fits(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    let bytes = part.as_bytes();
    let fits = |run: &[u8]| {
        matches!(run, b"." | b"_" | b"__")
            || run.iter().all(|byte| is_word(*byte))
            || run.iter().all(|byte| *byte == b'-')
    };
    ends(bytes.first()) && ends(bytes.last()) && bytes.chunk_by(|a, b| is_word(*a) == is_word(*b)).all(fits)
}

fn tag_fits(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn digest_fits(digest: &str) -> bool {
    let Some((algorithm, hash)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hash.len() == length && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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

/// Rounds what is asked for and what is limited to.
pub(super) fn whole_millis(holder: &mut Value, path: &[&str]) {
    for part in ["limits", "requests"] {
        whole_millis_of(object::at_mut(holder, &[path, &[part]].concat()));
    }
}

/// Rounds amounts up to thousandths.
pub fn whole_millis_of(amounts: Option<&mut Value>) {
    for amount in amounts.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let Some(read) = amount.as_str().and_then(|text| text.parse::<Quantity>().ok()) else { continue };
        let rounded = read.in_millis();
        if rounded != read {
            *amount = rounded.to_string().into();
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

/// A pod that is limited as a whole asks for what its containers ask for, or else for what it is limited to.
fn whole(spec: &mut Value) {
    if object::at(spec, &["resources"]).is_none_or(object::is_zero) {
        return;
    }
    let huge = |name: &str| name.starts_with("hugepages-");
    for (key, sum) in pod_usage::summed(spec, "limits").into_iter().filter(|(key, _)| huge(key)) {
        if object::at(spec, &["resources", "requests", &key]).is_none() {
            object::set_default(spec, &["resources", "limits"], &key, sum.to_string());
        }
    }
    if object::at(spec, &["resources", "limits"]).is_none_or(object::is_zero) {
        return;
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
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(tag(&format!("a@{digest}")), "");
        assert_eq!(tag(&format!("a:latest@{digest}")), "latest");
        assert_eq!(tag("localhost/a__b--c.d/e_f"), "latest");
        for wrong in ["", "A", "a b", "a/b:5000/c", "a@sha256:00", "a..b", "a:", "-a", "a-.b", &"0".repeat(64)] {
            assert_eq!(tag(wrong), "", "{wrong}");
        }
    }

    #[test]
    fn amounts_of_a_status_are_rounded() {
        let odd = json!({"cpu": "100u", "memory": "1"});
        let mut pod = json!({"status": {
            "containerStatuses": [{"name": "c", "allocatedResources": odd, "resources": {"limits": odd}}],
            "allocatedResources": odd,
        }});
        status(&mut pod);
        let whole = json!({"cpu": "1m", "memory": "1"});
        assert_eq!(pod["status"]["allocatedResources"], whole);
        assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"], whole);
        assert_eq!(pod["status"]["containerStatuses"][0]["resources"], json!({"limits": whole}));
    }

    #[test]
    fn a_pod_without_limits_of_its_own_asks_for_nothing_more() {
        let whole_of = |resources: Value, own: Value| {
            let mut pod = json!({"resources": resources, "containers": [{"name": "a", "resources": own}]});
            requests_from_limits(&mut pod);
            pod["resources"].take()
        };
        let asked = json!({"requests": {"cpu": "1"}});
        assert_eq!(whole_of(asked.clone(), json!({"requests": {"cpu": "1", "memory": "1Gi"}})), asked);
        assert_eq!(
            whole_of(json!({"limits": {"cpu": "2"}}), json!({"requests": {"cpu": "1", "memory": "1Gi"}})),
            json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1", "memory": "1Gi"}})
        );
    }

    #[test]
    fn what_old_clients_send_is_met() {
        let mut pod = json!({
            "metadata": {"annotations": {"pod.beta.kubernetes.io/init-containers": "[]", "a": "b"}},
            "spec": {"terminationGracePeriodSeconds": -3},
        });
        spec(&mut pod, &["spec"], true);
        assert_eq!(pod["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1);
        let mut holder = json!({"template": {
            "metadata": {"annotations": {"pod.alpha.kubernetes.io/init-containers": "[]"}},
            "spec": {"terminationGracePeriodSeconds": -3},
        }});
        spec(&mut holder, &["template", "spec"], false);
        assert_eq!(holder["template"]["metadata"], json!({}));
        assert_eq!(holder["template"]["spec"]["terminationGracePeriodSeconds"], -3);
    }

    #[test]
    fn amounts_are_rounded_up_to_thousandths() {
        let asked = json!({"requests": {"cpu": "1n", "memory": "500u"}, "limits": {"cpu": "2"}});
        let mut pod = json!({"spec": {
            "overhead": {"cpu": "1500u"}, "resources": asked.clone(), "initContainers": [{"resources": asked}],
        }});
        spec(&mut pod, &["spec"], false);
        let rounded = json!({"requests": {"cpu": "1m", "memory": "1m"}, "limits": {"cpu": "2"}});
        assert_eq!(pod["spec"]["resources"], rounded);
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], rounded);
        assert_eq!(pod["spec"]["overhead"]["cpu"], "2m");
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
