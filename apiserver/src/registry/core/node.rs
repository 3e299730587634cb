//! Nodes.

use jiff::Timestamp;
use martello_api::{
    resource::{GroupVersionKind, Resource},
    status::Cause,
};
use serde_json::{Value, json};

use super::node_proxy::Unserved;
use crate::registry::{
    kind::{Column, Connect, Strategy, resource},
    object, table,
    validation::text,
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
        if !object::text(object, &["spec", "podCIDR"]).is_empty()
            && object::list(object, &["spec", "podCIDRs"]).is_empty()
        {
            let cidr = object::text(object, &["spec", "podCIDR"]).to_owned();
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
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (index, taint) in object::list(object, &["spec", "taints"]).iter().enumerate() {
            let path = format!("spec.taints[{index}]");
            let (key, effect) = (object::text(taint, &["key"]), object::text(taint, &["effect"]));
            for fault in text::label_key(key) {
                causes.push(Cause::invalid(format!("{path}.key"), &json!(key), &fault));
            }
            for fault in text::label_value(object::text(taint, &["value"])) {
                causes.push(Cause::invalid(format!("{path}.value"), &json!(object::text(taint, &["value"])), &fault));
            }
            match effect {
                "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
                "" => causes.push(Cause::required(format!("{path}.effect"), "")),
                other => {
                    let supported = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
                    causes.push(Cause::not_supported(format!("{path}.effect"), &json!(other), &supported));
                }
            }
            if seen.contains(&(key, effect)) {
                let mut duplicate = Cause::duplicate(path, taint);
                duplicate.message = format!("{}: taints must be unique by key and effect pair", duplicate.message);
                causes.push(duplicate);
            }
            seen.push((key, effect));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let (new, was) = (object::text(object, &["spec", "providerID"]), object::text(old, &["spec", "providerID"]));
        if !was.is_empty() && new != was {
            causes.push(Cause::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
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
            Column::text("Version", "status.nodeInfo.kubeletVersion"),
            Column::text("Internal-IP", "status.addresses").wide(),
            Column::text("External-IP", "status.addresses").wide(),
            Column::text("OS-Image", "status.nodeInfo.osImage").wide(),
            Column::text("Kernel-Version", "status.nodeInfo.kernelVersion").wide(),
            Column::text("Container-Runtime", "status.nodeInfo.containerRuntimeVersion").wide(),
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
        (name == "proxy").then_some(&Unserved as &dyn Connect)
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
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address(node: &Value, wanted: &str) -> String {
    object::list(node, &["status", "addresses"])
        .iter()
        .find(|address| object::text(address, &["type"]) == wanted)
        .map_or_else(|| "<none>".to_owned(), |address| object::text(address, &["address"]).to_owned())
}
