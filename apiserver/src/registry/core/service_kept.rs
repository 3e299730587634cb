//! What an update of a Service keeps of what it was, and what goes with its old type.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{
    service_families,
    service_rules::{is_external, needs_health_check},
};
use crate::registry::object;

/// Fills in what was given to the Service before and is left out now, and drops what only its old type had and nobody
/// changed.
pub(super) fn carry_over(new: &mut Value, old: &Value) {
    keep_given(new, old);
    agree(new, old);
    service_families::settle(new, Some(old));
    drop_with_type(new, old);
}

/// A field of the spec; null where it is unset.
fn of<'a>(service: &'a Value, key: &str) -> &'a Value {
    object::at(service, &["spec", key]).filter(|own| !object::is_zero(own)).unwrap_or(&Value::Null)
}

fn kind(service: &Value) -> &str {
    object::text(service, &["spec", "type"])
}

fn has_address(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

fn is_on_nodes(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Who sends a manifest again that names nothing of what was given keeps it.
fn keep_given(new: &mut Value, old: &Value) {
    let mut keys = Vec::new();
    if has_address(new) && has_address(old) {
        keys.extend(["clusterIP", "clusterIPs"]);
    }
    if needs_health_check(new) && needs_health_check(old) {
        keys.push("healthCheckNodePort");
    }
    for key in keys {
        if of(new, key).is_null() && !of(old, key).is_null() {
            object::set(new, &["spec"], key, of(old, key).clone());
        }
    }
    if is_on_nodes(new) && is_on_nodes(old) {
        keep_node_ports(new, old);
    }
}

fn node_port(port: &Value) -> i64 {
    object::int(port, &["nodePort"]).unwrap_or(0)
}

fn node_ports(service: &Value) -> HashSet<i64> {
    object::list(service, &["spec", "ports"]).iter().map(node_port).filter(|port| *port != 0).collect()
}

/// A port is known by its name; whatever else of it changed, it keeps its port on nodes, unless another port asks for that.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let (now, before) = (node_ports(new), node_ports(old));
    let name = |port: &Value| object::text(port, &["name"]).to_owned();
    let known: HashMap<String, i64> =
        object::list(old, &["spec", "ports"]).iter().map(|port| (name(port), node_port(port))).collect();
    for port in object::list_mut(new, &["spec", "ports"]).into_iter().flatten() {
        let Some(was) = known.get(&name(port)).copied().filter(|was| *was != 0) else { continue };
        if node_port(port) == 0 && !(now.contains(&was) && before.contains(&was)) {
            object::set(port, &[], "nodePort", was);
        }
    }
}

/// The list of addresses follows what a client changed that knows only the first.
fn agree(new: &mut Value, old: &Value) {
    if of(new, "clusterIPs").is_null() && of(new, "clusterIP") == of(old, "clusterIP") {
        let all = of(old, "clusterIPs").clone();
        if !all.is_null() {
            object::set(new, &["spec"], "clusterIPs", all);
        }
    }
    if of(new, "clusterIP") == of(old, "clusterIP") || of(new, "clusterIPs") != of(old, "clusterIPs") {
        return;
    }
    match of(new, "clusterIP").clone() {
        Value::Null => drop(object::remove(new, &["spec"], "clusterIPs")),
        first => object::set(new, &["spec"], "clusterIPs", json!([first])),
    }
}

/// Drops what no longer means anything, where it was left as it was.
fn drop_with_type(new: &mut Value, old: &Value) {
    let same = |new: &Value, keys: &[&str]| keys.iter().all(|key| of(new, key) == of(old, key));
    let mut gone: Vec<&[&str]> = Vec::new();
    if has_address(old) && !has_address(new) {
        gone.extend([&["clusterIP", "clusterIPs"][..], &["ipFamilies"], &["ipFamilyPolicy"]]);
    }
    if needs_health_check(old) && !needs_health_check(new) {
        gone.push(&["healthCheckNodePort"]);
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        // A truth that is false is none that is unset.
        let allocates = |service: &Value| object::at(service, &["spec", "allocateLoadBalancerNodePorts"]).cloned();
        if allocates(new) == allocates(old) {
            object::remove(new, &["spec"], "allocateLoadBalancerNodePorts");
        }
        gone.push(&["loadBalancerClass"]);
    }
    let external = |service: &Value| service.get("spec").is_some_and(is_external);
    if external(old) && !external(new) {
        gone.push(&["externalTrafficPolicy"]);
    }
    for keys in gone {
        if same(new, keys) {
            keys.iter().for_each(|key| drop(object::remove(new, &["spec"], key)));
        }
    }
    // Ports on nodes go together, unless one is new.
    if is_on_nodes(old) && !is_on_nodes(new) && node_ports(new).is_subset(&node_ports(old)) {
        for port in object::list_mut(new, &["spec", "ports"]).into_iter().flatten() {
            object::remove(port, &[], "nodePort");
        }
    }
    if kind(new) != "LoadBalancer" {
        object::set(new, &["status"], "loadBalancer", json!({}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(new: Value, old: Value) -> Value {
        let mut service = json!({"spec": new, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        carry_over(&mut service, &json!({"spec": old}));
        service
    }

    #[test]
    fn a_port_keeps_its_port_on_nodes_by_its_name() {
        let old = json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]});
        let new = json!({"type": "NodePort", "ports": [{"name": "a", "port": 8080}, {"name": "c", "port": 81}]});
        let spec = carried(new, old.clone())["spec"].take();
        assert_eq!(spec["ports"][0]["nodePort"], 30001);
        assert!(spec["ports"][1].get("nodePort").is_none());
        assert_eq!(spec["clusterIPs"], json!(["10.0.0.1"]));
        // Another port asks for it.
        let new = json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30001}]});
        assert!(carried(new, old)["spec"]["ports"][0].get("nodePort").is_none());
    }

    #[test]
    fn another_first_address_alone_is_the_whole_list() {
        let old = json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        let spec = carried(json!({"type": "ClusterIP", "clusterIP": "10.0.0.2"}), old)["spec"].take();
        assert_eq!(spec["clusterIPs"], json!(["10.0.0.2"]));
    }

    #[test]
    fn what_only_the_old_type_had_goes_where_it_was_not_changed() {
        let old = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "allocateLoadBalancerNodePorts": false,
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30001}]});
        let mut new = old.clone();
        new["type"] = json!("ExternalName");
        let service = carried(new, old.clone());
        assert_eq!(
            service,
            json!({"spec": {"type": "ExternalName", "ports": [{"port": 80}]}, "status": {"loadBalancer": {}}})
        );
        // One port is new: none is dropped, and all are refused.
        let mut new = old.clone();
        new["type"] = json!("ClusterIP");
        new["ports"] =
            json!([{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30009}]);
        assert_eq!(carried(new, old)["spec"]["ports"][0]["nodePort"], 30001);
    }
}
