//! What holds for the ports of Services.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::validation::{
    field::{Field, go_form},
    pod::port_or_name,
    text,
};

/// Checks each port.
pub fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let ports = spec.items("ports");
    let mut names: HashSet<&str> = HashSet::new();
    for port in &ports {
        let (name, number) = (port.at("name"), port.at("port"));
        if ports.len() > 1 {
            name.needs_text(causes);
        }
        name.check_if_set(text::dns1123_label, causes);
        if !name.text().is_empty() && names.contains(&name.text()) {
            name.duplicate(causes);
        }
        names.insert(name.text());
        let own = number.int().unwrap_or(0);
        for fault in text::port_number(own) {
            causes.push(Cause::invalid(number.path.as_str(), &json!(own), &fault));
        }
        port.at("protocol").needs_one_of(&["SCTP", "TCP", "UDP"], causes);
        port_or_name(&port.at("targetPort"), causes);
        if let Some(protocol) = port.get("appProtocol") {
            protocol.check(text::qualified_name, causes);
        }
    }
}

/// Checks that node ports are there only where they may be, and that nothing is there twice.
pub fn unique(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let ports = spec.items("ports");
    let on_nodes = |port: &Field<'_>| port.at("nodePort").int().unwrap_or(0);
    if spec.str("type") == "ClusterIP" {
        for port in ports.iter().filter(|port| on_nodes(port) != 0) {
            port.at("nodePort").forbidden("may not be used when `type` is 'ClusterIP'", causes);
        }
    }
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    for port in ports.iter().filter(|port| on_nodes(port) != 0) {
        let own = (port.str("protocol"), on_nodes(port));
        if seen.contains(&own) {
            port.at("nodePort").duplicate(causes);
        }
        seen.insert(own);
    }
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    for port in &ports {
        let own = (port.str("protocol"), port.at("port").int().unwrap_or(0));
        if seen.contains(&own) {
            causes.push(Cause::duplicate(port.path.as_str(), &shown(own)));
        }
        seen.insert(own);
    }
}

fn shown((protocol, port): (&str, i64)) -> Value {
    let fields = [
        ("name", "Name", json!("")),
        ("protocol", "Protocol", json!("")),
        ("appProtocol", "AppProtocol", Value::Null),
        ("port", "Port", json!(0)),
        ("targetPort", "TargetPort", json!(0)),
        ("nodePort", "NodePort", json!(0)),
    ];
    go_form(&json!({"protocol": protocol, "port": port}), &fields)
}
