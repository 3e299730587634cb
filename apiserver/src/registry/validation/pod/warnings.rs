//! What a client is told about a pod spec that is taken nevertheless.

use std::collections::HashMap;
use std::collections::HashSet;

use martello_api::quantity::Quantity;
use serde_json::Value;

use super::overlaps;
use crate::registry::{
    core::claim,
    object,
    validation::{address, field::Field, node_labels},
};

/// Annotations that became fields, and what is said of them.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const POD_SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const CONTAINER_APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const OLD_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
/// What is said of profiles of AppArmor that are annotations.
pub const OLD_APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// Most ports that one is compared with, and most pairs that are told: pairs grow with the square of what a client sends.
const MOST_PAIRS: usize = 1_000;
/// What is counted in bytes.
const FRACTIONS: [&str; 2] = ["memory", "ephemeral-storage"];
const MATCHES_NO_POD: &str = "a null labelSelector results in matching no pod";
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Warnings about a new pod.
#[must_use]
pub fn warnings(pod: &Value) -> Vec<String> {
    template_warnings(pod, &[], "")
}

/// Warnings about the pod template at `at`, which messages call `path`.
#[must_use]
pub fn template_warnings(object: &Value, at: &[&str], path: &str) -> Vec<String> {
    let whole = Field::new(object::at(object, at).unwrap_or(&Value::Null), path);
    let (metadata, spec) = (whole.at("metadata"), whole.at("spec"));
    let mut said = Vec::new();
    placing(&spec, &mut said);
    old_annotations(&metadata, &mut said);
    volumes(&spec, &mut said);
    said.extend(overlaps::warnings(&spec));
    duplicates(&spec, &mut said);
    said.extend(FRACTIONS.iter().filter_map(|name| fraction(&spec.at("overhead"), name)));
    pod_profiles(&metadata, &spec, &mut said);
    for container in CONTAINERS.into_iter().flat_map(|list| spec.items(list)) {
        container_profiles(&metadata, &spec, &container, &mut said);
        let resources = container.at("resources");
        for name in FRACTIONS {
            for part in ["limits", "requests"] {
                said.extend(fraction(&resources.at(part), name));
            }
        }
        environment(&container, &mut said);
    }
    ports(&spec, &mut said);
    port_names(&spec, &mut said);
    if spec.at("terminationGracePeriodSeconds").int().is_some_and(|seconds| seconds < 0) {
        let path = spec.at("terminationGracePeriodSeconds").path;
        said.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity(&spec, &mut said);
    for server in spec.at("dnsConfig").items("nameservers") {
        said.extend(address::warning(&server));
    }
    for alias in spec.items("hostAliases") {
        said.extend(address::warning(&alias.at("ip")));
    }
    said
}

fn placing(spec: &Field<'_>, said: &mut Vec<String>) {
    said.extend(spec.entries("nodeSelector").iter().filter_map(|(key, field)| node_labels::warning(key, &field.path)));
    let nodes = spec.at("affinity").at("nodeAffinity");
    for term in nodes.at(REQUIRED).items("nodeSelectorTerms") {
        said.extend(node_labels::term_warnings(&term, false));
    }
    for term in nodes.items(PREFERRED) {
        said.extend(node_labels::term_warnings(&term.at("preference"), true));
    }
    for constraint in spec.items("topologySpreadConstraints") {
        let key = constraint.str("topologyKey");
        if let Some(age) = node_labels::age(key) {
            said.push(format!("{}.topologyKey: {key} is {age}", constraint.path));
        }
        if constraint.get("labelSelector").is_none() {
            said.push(format!("{}.labelSelector: {MATCHES_NO_POD}", constraint.path));
        }
    }
}

fn affinity(spec: &Field<'_>, said: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = spec.at("affinity").at(kind);
        let preferred = pods.items(PREFERRED).into_iter().map(|term| term.at("podAffinityTerm"));
        for term in pods.items(REQUIRED).into_iter().chain(preferred) {
            if term.get("labelSelector").is_none() {
                said.push(format!("{}.labelSelector: {MATCHES_NO_POD}", term.path));
            }
        }
    }
}

fn old_annotations(metadata: &Field<'_>, said: &mut Vec<String>) {
    for (key, why) in OLD_ANNOTATIONS {
        if metadata.at("annotations").get(key).is_some() {
            said.push(format!("{}.annotations[{key}]: {why}", metadata.path));
        }
    }
}

fn volumes(spec: &Field<'_>, said: &mut Vec<String>) {
    const DEPRECATED: [(&str, &str); 9] = [
        ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    for volume in spec.items("volumes") {
        said.extend(claim::warnings(&volume.at("ephemeral").at("volumeClaimTemplate").at("spec")));
        for (kind, why) in DEPRECATED {
            if let Some(found) = volume.get(kind) {
                let path = if kind == "storageos" { volume.at("storageOS").path } else { found.path };
                said.push(format!("{path}: {why}"));
            }
        }
    }
}

fn duplicates(spec: &Field<'_>, said: &mut Vec<String>) {
    for (list, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen: HashSet<&str> = HashSet::new();
        for item in spec.items(list) {
            let own = item.str(key);
            if seen.contains(&own) {
                said.push(format!("{}: duplicate {key} {own:?}", item.at(key).path));
            }
            seen.insert(own);
        }
    }
    for secret in spec.items("imagePullSecrets").iter().filter(|secret| secret.str("name").is_empty()) {
        said.push(format!("{}: invalid empty name {:?}", secret.at("name").path, ""));
    }
}

fn pod_profiles(metadata: &Field<'_>, spec: &Field<'_>, said: &mut Vec<String>) {
    let old = metadata.at("annotations").get(POD_SECCOMP);
    if old.is_some() && spec.at("securityContext").get("seccompProfile").is_none() {
        said.push(format!("{}.annotations[{POD_SECCOMP}]: {OLD_SECCOMP}", metadata.path));
    }
}

fn container_profiles(metadata: &Field<'_>, spec: &Field<'_>, container: &Field<'_>, said: &mut Vec<String>) {
    let annotations = metadata.at("annotations");
    let name = container.str("name");
    let context = container.at("securityContext");
    let seccomp = format!("{CONTAINER_SECCOMP}{name}");
    if annotations.get(&seccomp).is_some() && context.get("seccompProfile").is_none() {
        said.push(format!("{}.annotations[{seccomp}]: {OLD_SECCOMP}", metadata.path));
    }
    let app_armor = format!("{CONTAINER_APP_ARMOR}{name}");
    // Those of a pod became fields when it was made, which was told then.
    let fielded =
        [&context, &spec.at("securityContext")].iter().any(|context| context.get("appArmorProfile").is_some());
    if spec.path != "spec" && !fielded && annotations.get(&app_armor).is_some() {
        said.push(format!("{}.annotations[{app_armor}]: {OLD_APP_ARMOR}", metadata.path));
    }
}

fn environment(container: &Field<'_>, said: &mut Vec<String>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for variable in container.items("env") {
        let name = variable.str("name");
        // What refers to the value before may be meant to add to it.
        let (value, before) = (variable.str("value"), format!("$({name})"));
        let hides = variable.get("valueFrom").is_some() || value == before || !value.contains(&before);
        if seen.contains(&name) && hides {
            said.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
        seen.insert(name);
    }
}

/// There is no part of a byte.
fn fraction(amounts: &Field<'_>, name: &str) -> Option<String> {
    let shown = amounts.str(name);
    let part = shown.parse::<Quantity>().is_ok_and(|quantity| quantity.millis() % 1000 != 0);
    let path = &amounts.path;
    part.then(|| format!("{path}[{name}]: fractional byte value {shown:?} is invalid, must be an integer"))
}

fn all_ports<'a>(spec: &Field<'a>) -> impl Iterator<Item = Field<'a>> {
    let containers: Vec<Field<'a>> = CONTAINERS.into_iter().flat_map(|list| spec.items(list)).collect();
    containers.into_iter().flat_map(|container| container.items("ports"))
}

fn port_names(spec: &Field<'_>, said: &mut Vec<String>) {
    let mut names: HashMap<&str, String> = HashMap::new();
    for port in all_ports(spec).filter(|port| !port.str("name").is_empty()) {
        let name = port.str("name");
        match names.get(name) {
            Some(first) => said.push(format!(
                "{}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}",
                port.path
            )),
            None => drop(names.insert(name, port.path.clone())),
        }
    }
}

/// A port's number and address on the host, and its path.
type Declared<'p> = (i64, &'p str, String);

fn ports(spec: &Field<'_>, said: &mut Vec<String>) {
    // Those of one number and protocol together.
    let mut seen: HashMap<(i64, &str), Vec<Declared<'_>>> = HashMap::new();
    let mut told = 0;
    for port in all_ports(spec) {
        let number = |port: &Field<'_>, key: &str| port.at(key).int().unwrap_or(0);
        let (host, ip) = (number(&port, "hostPort"), port.str("hostIP"));
        if !ip.is_empty() && host == 0 {
            let (name, own, protocol) = (port.str("name"), number(&port, "containerPort"), port.str("protocol"));
            said.push(format!(
                "{}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}",
                port.path
            ));
        }
        let others = seen.entry((number(&port, "containerPort"), port.str("protocol"))).or_default();
        if told >= MOST_PAIRS {
            continue;
        }
        for (other_host, other_ip, path) in others.iter() {
            let how = if ip == *other_ip && host == *other_host {
                "duplicate"
            } else if host == 0 || *other_host == 0 {
                "overlapping"
            } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            told += 1;
            said.push(format!("{}: {how} port definition with {path}", port.path));
        }
        if others.len() < MOST_PAIRS {
            others.push((host, ip, port.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_that_meet_are_told_over_containers() {
        let port =
            |host: i64, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host, "hostIP": ip});
        let pod = json!({"spec": {"containers": [
            {"name": "a", "ports": [port(0, "")]},
            {"name": "b", "ports": [port(0, ""), port(80, "")]},
        ]}});
        assert_eq!(
            warnings(&pod),
            [
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[1].ports[0]",
            ]
        );
    }

    #[test]
    fn names_of_ports_that_stand_twice_are_told() {
        let container = |port: i64| json!({"ports": [{"containerPort": port, "protocol": "TCP", "name": "web"}]});
        let pod = json!({"spec": {"initContainers": [container(1)], "containers": [container(2)]}});
        let first = "spec.initContainers[0].ports[0]";
        assert_eq!(
            warnings(&pod),
            [format!(
                "spec.containers[0].ports[0]: duplicate port name \"web\" with {first}, services and probes that select ports by name will use {first}"
            )]
        );
    }

    #[test]
    fn what_was_an_annotation_is_told_by_its_place() {
        let template = json!({"metadata": {"annotations": {"security.alpha.kubernetes.io/sysctls": "x"}}, "spec": {}});
        assert_eq!(
            template_warnings(&json!({"spec": {"template": template}}), &["spec", "template"], "spec.template"),
            [
                "spec.template.metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the \"sysctls\" field instead"
            ]
        );
    }
}
