//! What holds for Services, and how their columns read.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{metadata, text},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Checks a Service.
pub fn check(service: &Value, causes: &mut Vec<Cause>) {
    let kind = object::text(service, &["spec", "type"]);
    let cluster_ip = object::text(service, &["spec", "clusterIP"]);
    let ports = object::list(service, &["spec", "ports"]);
    if ports.is_empty() && cluster_ip != "None" && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        let name = object::text(service, &["spec", "externalName"]);
        if name.is_empty() {
            causes.push(Cause::required("spec.externalName", ""));
        } else {
            for fault in text::dns1123_subdomain(&name.trim_end_matches('.').to_lowercase()) {
                causes.push(Cause::invalid("spec.externalName", &json!(name), &fault));
            }
        }
        if !matches!(cluster_ip, "" | "None") {
            causes.push(Cause::forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"));
        }
    } else if !TYPES.contains(&kind) {
        causes.push(Cause::not_supported("spec.type", &json!(kind), &TYPES));
    }
    check_ports(ports, kind, causes);
    metadata::labels(object::at(service, &["spec", "selector"]), "spec.selector", causes);
    let affinity = object::text(service, &["spec", "sessionAffinity"]);
    if !matches!(affinity, "None" | "ClientIP") {
        causes.push(Cause::not_supported("spec.sessionAffinity", &json!(affinity), &["ClientIP", "None"]));
    }
    check_address(cluster_ip, causes);
}

fn check_address(address: &str, causes: &mut Vec<Cause>) {
    if matches!(address, "" | "None") || address.parse::<std::net::IpAddr>().is_ok() {
        return;
    }
    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    causes.push(Cause::invalid("spec.clusterIPs[0]", &json!(address), why));
}

fn check_ports(ports: &[Value], kind: &str, causes: &mut Vec<Cause>) {
    let mut names: Vec<&str> = Vec::new();
    let mut seen: Vec<(i64, &str)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let (name, protocol) = (object::text(port, &["name"]), object::text(port, &["protocol"]));
        let number = object::int(port, &["port"]).unwrap_or(0);
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            for fault in text::dns1123_label(name) {
                causes.push(Cause::invalid(format!("{path}.name"), &json!(name), &fault));
            }
            if names.contains(&name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
            names.push(name);
        }
        for fault in text::port_number(number) {
            causes.push(Cause::invalid(format!("{path}.port"), &json!(number), &fault));
        }
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            causes.push(Cause::not_supported(format!("{path}.protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
        match port.get("targetPort") {
            Some(Value::String(target)) => {
                for fault in text::port_name(target) {
                    causes.push(Cause::invalid(format!("{path}.targetPort"), &json!(target), &fault));
                }
            }
            Some(Value::Number(target)) => {
                for fault in text::port_number(target.as_i64().unwrap_or(0)) {
                    causes.push(Cause::invalid(format!("{path}.targetPort"), &json!(target), &fault));
                }
            }
            _ => {}
        }
        if kind == "ClusterIP" && object::int(port, &["nodePort"]).unwrap_or(0) != 0 {
            causes.push(Cause::forbidden(format!("{path}.nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        if seen.contains(&(number, protocol)) {
            let value = json!({"port": number, "protocol": protocol});
            causes.push(Cause::duplicate(path, &value));
        }
        seen.push((number, protocol));
    }
}

/// Checks a changed Service.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (now, before) = (object::text(new, &["spec", "clusterIP"]), object::text(old, &["spec", "clusterIP"]));
    let kinds = [new, old].map(|service| object::text(service, &["spec", "type"]));
    if !kinds.contains(&"ExternalName") && !before.is_empty() && now != before {
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([now]), "may not change once set"));
    }
}

/// What a client may leave out of an update stays as it is.
pub fn carry_over(new: &mut Value, old: &Value) {
    let of = |service: &Value| object::text(service, &["spec", "type"]).to_owned();
    let (now, before) = (of(new), of(old));
    if now == "ExternalName" || before == "ExternalName" {
        if now == "ExternalName"
            && object::text(new, &["spec", "clusterIP"]) == object::text(old, &["spec", "clusterIP"])
        {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                object::remove(new, &["spec"], key);
            }
        }
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        if object::at(new, &["spec", key]).is_none_or(object::is_zero)
            && let Some(value) = object::at(old, &["spec", key]).cloned()
            && (key != "healthCheckNodePort" || now == before)
        {
            object::set(new, &["spec"], key, value);
        }
    }
    let keeps_ports = matches!(now.as_str(), "NodePort" | "LoadBalancer");
    let before = object::list(old, &["spec", "ports"]).to_vec();
    for port in object::list_mut(new, &["spec", "ports"]).into_iter().flatten() {
        if !keeps_ports {
            let same = before.iter().any(|other| other.get("nodePort") == port.get("nodePort"));
            if same {
                object::remove(port, &[], "nodePort");
            }
            continue;
        }
        let key = |port: &Value| (port.get("port").cloned(), port.get("protocol").cloned());
        let same = before.iter().find(|other| key(other) == key(port));
        if port.get("nodePort").is_none_or(object::is_zero)
            && let Some(number) = same.and_then(|same| same.get("nodePort")).cloned()
        {
            object::set(port, &[], "nodePort", number);
        }
    }
}

/// The column of addresses outside the cluster.
#[must_use]
pub fn external(service: &Value) -> String {
    let ips: Vec<&str> = object::list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match object::text(service, &["spec", "type"]) {
        "ExternalName" => object::text(service, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let given = object::list(service, &["status", "loadBalancer", "ingress"]).iter().map(|ingress| {
                let ip = object::text(ingress, &["ip"]);
                if ip.is_empty() { object::text(ingress, &["hostname"]) } else { ip }
            });
            let all: Vec<&str> = given.chain(ips.iter().copied()).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if ips.is_empty() => "<none>".to_owned(),
        _ => ips.join(","),
    }
}

/// The column of ports.
#[must_use]
pub fn ports(service: &Value) -> String {
    let ports: Vec<String> = object::list(service, &["spec", "ports"])
        .iter()
        .map(|port| {
            let (number, protocol) = (object::int(port, &["port"]).unwrap_or(0), object::text(port, &["protocol"]));
            match object::int(port, &["nodePort"]).unwrap_or(0) {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}
