//! Nodes.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{
    resource::{GroupVersionKind, Resource},
    status::Cause,
};
use serde_json::{Value, json};

use super::proxied::Proxied;
use crate::registry::{
    kind::{Column, Connect, Strategy, resource},
    networking::cidr::strict_range,
    object, table,
    validation::{
        field::{Field, go_form},
        internal, pod, resource_name, text,
    },
};

/// Nodes.
pub struct Nodes;

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
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
        if !cidr.is_empty() && first != Some(cidr.as_str()) {
            object::set(object, &["spec"], "podCIDRs", vec![cidr]);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
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

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        taints(&whole.at("spec"), causes);
        resources(&whole.at("status"), causes);
        swap(&whole.at("status"), causes);
        let cidrs = whole.at("spec").at("podCIDRs");
        let items = whole.at("spec").items("podCIDRs");
        for cidr in &items {
            cidr.check(strict_range, causes);
        }
        let is_six = |cidr: &Field<'_>| cidr.text().contains(':');
        let one_family = items.iter().all(is_six) || !items.iter().any(is_six);
        if items.len() > 2 || items.len() == 2 && one_family {
            cidrs.invalid("may specify no more than one CIDR for each IP family", causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream checks much of an update twice, and lists what it finds twice.
        self.validate_status(object, old, causes);
        let (new, was) = (object::text(object, &["spec", "providerID"]), object::text(old, &["spec", "providerID"]));
        let cidrs = |node| object::list(node, &["spec", "podCIDRs"]).to_vec();
        if !cidrs(old).is_empty() && cidrs(object) != cidrs(old) {
            causes.push(Cause::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        if !was.is_empty() && new != was {
            causes.push(Cause::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
        taints(&Field::new(object, "").at("spec"), causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        resources(&status, causes);
        let all = status.items("addresses");
        for (place, address) in all.iter().enumerate() {
            if all.iter().take(place).any(|other| other.value == address.value) {
                let shown = internal::of("io.k8s.api.core.v1.NodeAddress", address.value);
                causes.push(Cause::duplicate(address.path.as_str(), &shown));
            }
        }
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

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let info = |key: &str| object::text(object, &["status", "nodeInfo", key]);
        let known = |text: &str| Value::from(if text.is_empty() { "<unknown>" } else { text });
        vec![
            object::name(object).into(),
            status(object).into(),
            roles(object).into(),
            table::age(object, now),
            info("kubeletVersion").into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            known(info("osImage")),
            known(info("kernelVersion")),
            known(info("containerRuntimeVersion")),
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
        .find(|condition| object::text(condition, &["type"]) == "Ready")
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
