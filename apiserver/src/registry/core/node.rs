//! Nodes.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{
    resource::{GroupVersionKind, Resource},
    status::Cause,
};
use serde_json::{Value, json};

use super::{pod_defaults::whole_millis_of, proxied::Proxied};
use crate::registry::{
    kind::{Cell, Column, Connect, Strategy, resource},
    networking::cidr::{any_range, range_warnings, strict_range},
    object, table,
    validation::{
        field::{Field, go_form},
        internal, pod, resource_name, text,
    },
};

/// Nodes.
pub struct Nodes;

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
const ONE_OF_EACH: &str = "may specify no more than one CIDR for each IP family";
/// Most bytes of the name of a feature that a node has.
const MAX_FEATURE_NAME: usize = 253;
const FEATURE_FORM: &str = "start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

impl Strategy for Nodes {
    fn resource(&self) -> Resource {
        resource("", "v1", "Node", "nodes")
            .cluster_scoped()
            .short(&["no"])
            .status()
            .subresource_of("proxy", GroupVersionKind::new("", "v1", "NodeProxyOptions"), PROXY_VERBS)
            .build()
    }

    fn default(&self, object: &mut Value) {
        if object::at(object, &["status", "allocatable"]).is_none()
            && let Some(capacity) = object::at(object, &["status", "capacity"]).cloned()
        {
            object::set(object, &["status"], "allocatable", capacity);
        }
        // Clients that know of one range only change that one.
        let cidr = object::text(object, &["spec", "podCIDR"]).to_owned();
        let first = object::list(object, &["spec", "podCIDRs"]).first().and_then(Value::as_str);
        match first.map(str::to_owned) {
            first if !cidr.is_empty() && first.as_deref() != Some(cidr.as_str()) => {
                object::set(object, &["spec"], "podCIDRs", vec![cidr]);
            }
            Some(first) if cidr.is_empty() && !first.is_empty() => object::set(object, &["spec"], "podCIDR", first),
            _ => {}
        }
        for part in ["capacity", "allocatable"] {
            whole_millis_of(object::at_mut(object, &["status", part]));
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::remove(object, &["spec"], "configSource");
        object::remove(object, &["status"], "config");
        let taints = object::list(object, &["spec", "taints"]);
        let has = taints.iter().any(|taint| {
            object::text(taint, &["key"]) == NOT_READY && object::text(taint, &["effect"]) == "NoSchedule"
        });
        if !has {
            // A node that just came is not ready until its status says so.
            let mut taints = taints.to_vec();
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            object::set(object, &["spec"], "taints", taints);
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        // The kubelet is no longer configured this way.
        if object::at(old, &["spec", "configSource"]).is_none() {
            object::remove(object, &["spec"], "configSource");
        }
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        if object::at(old, &["status", "config"]).is_none() {
            object::remove(object, &["status"], "config");
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        taints(&whole.at("spec"), causes);
        resources(&whole.at("status"), causes);
        swap(&whole.at("status"), causes);
        declared_features(&whole.at("status"), causes);
        ranges(&whole.at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream checks much of an update twice, and lists what it finds twice.
        self.validate_status(object, old, causes);
        let (cidrs, had) = (object::list(object, &["spec", "podCIDRs"]), object::list(old, &["spec", "podCIDRs"]));
        let changed = if cidrs.len() == had.len() {
            cidrs.iter().zip(had).filter(|(cidr, was)| cidr != was).count()
        } else {
            usize::from(!had.is_empty())
        };
        for _ in 0..changed {
            causes.push(Cause::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        let both = |key: &str| (object::text(object, &["spec", key]), object::text(old, &["spec", key]));
        let (new, was) = both("providerID");
        if !was.is_empty() && new != was {
            causes.push(Cause::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
        taints(&Field::new(object, "").at("spec"), causes);
        let (new, was) = both("externalID");
        if new != was {
            causes.push(Cause::forbidden("spec.externalID", "may not be updated"));
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        resources(&status, causes);
        declared_features(&status, causes);
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for address in status.items("addresses") {
            if !seen.insert((address.str("type"), address.str("address"))) {
                let shown = internal::of("io.k8s.api.core.v1.NodeAddress", address.value);
                causes.push(Cause::duplicate(address.path.as_str(), &shown));
            }
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = Field::new(object, "").at("spec");
        let mut said = Vec::new();
        if spec.get("configSource").is_some() {
            said.push("spec.configSource: the feature is removed".to_owned());
        }
        if !spec.str("externalID").is_empty() {
            said.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        said.extend(spec.items("podCIDRs").iter().flat_map(|cidr| range_warnings(&cidr.path, cidr.text())));
        said
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field(&self, object: &Value, path: &str) -> String {
        let found = crate::registry::kind::plain_field(object, path);
        if found.is_empty() { "false".to_owned() } else { found }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 10] = [
            Column::name(),
            Column::text("Status", "The status of the node"),
            Column::text("Roles", "The roles of the node"),
            Column::age(),
            Column::text("Version", "Kubelet Version reported by the node."),
            Column::text("Internal-IP", "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).").wide(),
            Column::text("External-IP", "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).").wide(),
            Column::text("OS-Image", "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).").wide(),
            Column::text("Kernel-Version", "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).").wide(),
            Column::text("Container-Runtime", "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let info = |key: &str| object::text(object, &["status", "nodeInfo", key]);
        let kernel = known(info("kernelVersion"));
        let kernel = match info("architecture") {
            "" => kernel.to_owned(),
            architecture => format!("{kernel} ({architecture})"),
        };
        vec![
            object::name(object).into(),
            status(object).into(),
            roles(object).into(),
            table::age(object),
            info("kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            known(info("osImage")).into(),
            kernel.into(),
            known(info("containerRuntimeVersion")).into(),
        ]
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        (name == "proxy").then_some(&Proxied::Node as &dyn Connect)
    }
}

/// Checks what a node has of each resource, which is called as if it were a field.
fn resources(status: &Field<'_>, causes: &mut Vec<Cause>) {
    for part in ["capacity", "allocatable"] {
        let part = status.at(part);
        for name in part.value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            resource_name::check_amount(name, &part.at(name), causes);
        }
    }
}

/// Checks the ranges of a node's pods: one of each family at most.
fn ranges(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (cidrs, items) = (spec.at("podCIDRs"), spec.items("podCIDRs"));
    for cidr in &items {
        cidr.check(strict_range, causes);
    }
    if items.len() < 2 {
        return;
    }
    let wrong = items.iter().enumerate().find(|(_, cidr)| any_range(cidr.text()).is_none());
    if let Some((index, wrong)) = wrong {
        let told = wrong.text();
        let why = format!("invalid CIDR[{index}]: <nil> (invalid CIDR address: {told})");
        let message = format!("Internal error: invalid PodCIDRs. failed to check with dual stack with error:{why}");
        causes.push(Cause::new("InternalError", cidrs.path.as_str(), message));
    }
    let is_six = |cidr: &Field<'_>| cidr.text().contains(':');
    if wrong.is_some() || items.len() > 2 || items.iter().all(is_six) || !items.iter().any(is_six) {
        cidrs.invalid(ONE_OF_EACH, causes);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for cidr in items.iter().filter(|cidr| !seen.insert(cidr.text())) {
        cidr.duplicate(causes);
    }
}

/// Checks the features that a node says it has, which are sorted.
fn declared_features(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut last: Option<&str> = None;
    for feature in status.items("declaredFeatures") {
        let own = feature.text();
        // Upstream tells of a place together with the one before it.
        let told = match last {
            Some(last) if last == own => Some(Cause::duplicate(feature.path.as_str(), &json!(own))),
            Some(last) if last > own => {
                Some(Cause::invalid(feature.path.as_str(), &json!(own), "list must be sorted alphabetically"))
            }
            _ => None,
        };
        causes.extend(told);
        if let Some(why) = declared_name(own) {
            feature.invalid(&format!("invalid feature name {own:?}: must {why}"), causes);
        }
        last = Some(own);
    }
}

/// What the name of a feature must be and is not.
fn declared_name(name: &str) -> Option<String> {
    if name.len() > MAX_FEATURE_NAME {
        return Some(format!("be no more than {MAX_FEATURE_NAME} characters"));
    }
    let mut parts = name.split('/');
    let word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let first = parts.next().is_some_and(|part| part.starts_with(|own: char| own.is_ascii_uppercase()) && word(part));
    let fits = first && parts.all(|part| part.starts_with(|own: char| own.is_ascii_alphabetic()) && word(part));
    (!fits).then(|| FEATURE_FORM.to_owned())
}

/// Checks the swap of a node, which upstream takes for a part of the metadata.
fn swap(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let capacity = status.at("nodeInfo").at("swap").at("capacity");
    if capacity.int().is_some_and(|bytes| bytes <= 0) {
        Field::new(capacity.value, "metadata.nodeSwapStatus.capacity").invalid("must be greater than zero", causes);
    }
}

fn taints(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for (index, taint) in spec.items("taints").iter().enumerate() {
        // Upstream takes taints for a part of the metadata here.
        let taint = Field::new(taint.value, format!("metadata.taints[{index}]"));
        taint.at("key").check(text::label_key, causes);
        let faults = text::label_value(taint.str("value"));
        if !faults.is_empty() {
            taint.at("value").invalid(&faults.join(";"), causes);
        }
        pod::taint_effect(&taint.at("effect"), causes);
        let own = (taint.str("key"), taint.str("effect"));
        if seen.contains(&own) {
            let fields = [
                ("key", "Key", json!("")),
                ("value", "Value", json!("")),
                ("effect", "Effect", json!("")),
                ("timeAdded", "TimeAdded", Value::Null),
            ];
            let mut duplicate = Cause::duplicate(taint.path.as_str(), &go_form(taint.value, &fields));
            duplicate.message.push_str(": taints must be unique by key and effect pair");
            causes.push(duplicate);
        }
        seen.insert(own);
    }
}

fn status(node: &Value) -> String {
    let ready = object::list(node, &["status", "conditions"])
        .iter()
        .rfind(|condition| object::text(condition, &["type"]) == "Ready")
        .map(|condition| object::text(condition, &["status"]) == "True");
    let mut text = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object::flag(node, &["spec", "unschedulable"]) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn known(text: &str) -> &str {
    if text.is_empty() { "<unknown>" } else { text }
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = object::at(node, &["metadata", "labels"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address(node: &Value, wanted: &str) -> String {
    object::list(node, &["status", "addresses"])
        .iter()
        .find(|address| object::text(address, &["type"]) == wanted)
        .map_or_else(|| "<none>".to_owned(), |address| object::text(address, &["address"]).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: &Value, old: Option<&Value>) -> Vec<String> {
        let mut causes = Vec::new();
        match old {
            None => Nodes.validate(node, &mut causes),
            Some(old) => Nodes.validate_update(node, old, &mut causes),
        }
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn declared_features_are_sorted_names() {
        let features = ["B", "A/b", "A/b", "a"];
        let found = said(&json!({"status": {"declaredFeatures": features}}), None);
        assert_eq!(
            found,
            [
                "status.declaredFeatures[1]: Invalid value: \"A/b\": list must be sorted alphabetically",
                "status.declaredFeatures[2]: Duplicate value: \"A/b\"",
                &format!(
                    "status.declaredFeatures[3]: Invalid value: \"a\": invalid feature name \"a\": must {FEATURE_FORM}"
                ),
            ]
        );
    }

    #[test]
    fn the_kernel_is_shown_with_its_architecture() {
        let kernel = |info: Value| Nodes.row(&json!({"status": {"nodeInfo": info}})).swap_remove(8);
        assert_eq!(kernel(json!({"kernelVersion": "6.8.0", "architecture": "arm64"})), "6.8.0 (arm64)".into());
        assert_eq!(kernel(json!({"kernelVersion": "6.8.0"})), "6.8.0".into());
        assert_eq!(kernel(json!({"architecture": "arm64"})), "<unknown> (arm64)".into());
        assert_eq!(kernel(json!({})), "<unknown>".into());
    }

    #[test]
    fn each_range_that_changes_is_told_of() {
        let node = |cidrs: &[&str]| json!({"spec": {"podCIDRs": cidrs}});
        let had = node(&["10.0.0.0/24", "fd00::/64"]);
        assert_eq!(said(&node(&["10.0.1.0/24", "fd01::/64"]), Some(&had)).len(), 2);
        assert_eq!(said(&node(&["10.0.1.0/24"]), Some(&had)).len(), 1);
        assert_eq!(said(&had, Some(&node(&[]))).len(), 0);
    }

    #[test]
    fn a_range_that_is_there_twice_is_told_of() {
        let found = said(&json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.0.0/24"]}}), None);
        assert_eq!(found.last().unwrap(), "spec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\"");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_one_range_and_the_first_of_the_list_are_the_same() {
        let filled = |spec: Value| {
            let mut node = json!({"spec": spec, "status": {"capacity": {"cpu": "100u"}}});
            Nodes.default(&mut node);
            (node["spec"].take(), node["status"]["allocatable"]["cpu"].take())
        };
        let both = json!({"podCIDRs": ["10.0.0.0/24"], "podCIDR": "10.0.0.0/24"});
        assert_eq!(filled(json!({"podCIDRs": ["10.0.0.0/24"]})), (both.clone(), json!("1m")));
        assert_eq!(filled(json!({"podCIDR": "10.0.0.0/24"})).0, both);
        assert_eq!(filled(json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.9.0.0/24"]})).0, both);
    }
}
