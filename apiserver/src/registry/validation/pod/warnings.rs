//! What a client is told about a pod spec that is taken nevertheless.

use martello_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::{object, validation::field::Field};

/// Labels of nodes that have newer names; none has no successor.
const OLD_NODE_LABELS: [(&str, &str, Option<&str>); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", Some("kubernetes.io/arch")),
    ("beta.kubernetes.io/os", "v1.14", Some("kubernetes.io/os")),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", Some("topology.kubernetes.io/region")),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", Some("topology.kubernetes.io/zone")),
    ("beta.kubernetes.io/instance-type", "v1.17", Some("node.kubernetes.io/instance-type")),
];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const MATCHES_NO_POD: &str = "a null labelSelector results in matching no pod";

/// Warnings about the pod spec at `at`, which messages call `path`.
#[must_use]
pub fn warnings(object: &Value, old: Option<&Value>, at: &[&str], path: &str) -> Vec<String> {
    let mut said = Vec::new();
    let found = object::at(object, at).unwrap_or(&Value::Null);
    if old.is_some_and(|old| object::semantically_equal(object::at(old, at), Some(found))) || old.is_some() {
        return said;
    }
    let spec = Field::new(found, path);
    node_labels(&spec, &mut said);
    selectors(&spec, &mut said);
    volumes(&spec, &mut said);
    for secret in spec.items("imagePullSecrets").iter().filter(|secret| secret.str("name").is_empty()) {
        said.push(format!("{}: invalid empty name {:?}", secret.path, ""));
    }
    for list in ["initContainers", "containers"] {
        for container in spec.items(list) {
            environment(&container, &mut said);
            fractions(&container, &mut said);
            ports(&container, &mut said);
        }
    }
    if spec.at("terminationGracePeriodSeconds").int().is_some_and(|seconds| seconds < 0) {
        said.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    said
}

fn node_labels(spec: &Field<'_>, said: &mut Vec<String>) {
    let mut tell = |key: &str, path: &str| {
        let Some((_, since, successor)) = OLD_NODE_LABELS.iter().find(|(old, _, _)| *old == key) else { return };
        let instead = successor.map(|new| format!("; use {new:?} instead")).unwrap_or_default();
        said.push(format!("{path}: deprecated since {since}{instead}"));
    };
    for (key, field) in spec.entries("nodeSelector") {
        tell(key, &field.path);
    }
    let nodes = spec.at("affinity").at("nodeAffinity");
    let required = nodes.at(REQUIRED).items("nodeSelectorTerms");
    let preferred = nodes.items(PREFERRED).into_iter().map(|term| term.at("preference"));
    for term in required.into_iter().chain(preferred) {
        for expression in term.items("matchExpressions") {
            tell(expression.str("key"), &format!("{}.key", expression.path));
        }
    }
    for constraint in spec.items("topologySpreadConstraints") {
        tell(constraint.str("topologyKey"), &format!("{}.topologyKey", constraint.path));
    }
}

fn selectors(spec: &Field<'_>, said: &mut Vec<String>) {
    let mut terms = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = spec.at("affinity").at(kind);
        terms.extend(pods.items(REQUIRED));
        terms.extend(pods.items(PREFERRED).into_iter().map(|term| term.at("podAffinityTerm")));
    }
    terms.extend(spec.items("topologySpreadConstraints"));
    for term in terms.iter().filter(|term| term.get("labelSelector").is_none()) {
        said.push(format!("{}.labelSelector: {MATCHES_NO_POD}", term.path));
    }
}

fn volumes(spec: &Field<'_>, said: &mut Vec<String>) {
    const DEPRECATED: [(&str, &str); 10] = [
        ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("flexVolume", "deprecated in v1.23"),
    ];
    for volume in spec.items("volumes") {
        for (kind, why) in DEPRECATED {
            if let Some(found) = volume.get(kind) {
                said.push(format!("{}: {why}", found.path));
            }
        }
    }
}

fn environment(container: &Field<'_>, said: &mut Vec<String>) {
    let mut seen: Vec<&str> = Vec::new();
    for variable in container.items("env") {
        let name = variable.str("name");
        if seen.contains(&name) {
            said.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
        seen.push(name);
    }
}

fn fractions(container: &Field<'_>, said: &mut Vec<String>) {
    for part in ["limits", "requests"] {
        for (name, amount) in container.at("resources").entries(part) {
            let whole = amount.text().parse::<Quantity>().is_ok_and(|quantity| quantity.millis() % 1000 == 0);
            if matches!(name, "memory" | "ephemeral-storage") && !whole {
                let shown = amount.text();
                said.push(format!("{}: fractional byte value {shown:?} is invalid, must be an integer", amount.path));
            }
        }
    }
}

fn ports(container: &Field<'_>, said: &mut Vec<String>) {
    let ports = container.items("ports");
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &&Field<'_>| {
            ["containerPort", "hostPort", "protocol", "hostIP"]
                .iter()
                .all(|key| other.at(key).value == port.at(key).value)
        };
        if let Some(first) = ports.iter().take(index).find(same) {
            said.push(format!("{}: duplicate port definition with {}", port.path, first.path));
        }
    }
}
