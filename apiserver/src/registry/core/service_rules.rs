//! What holds for Services, and how their columns read.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::service_ports;
use crate::registry::{
    object,
    validation::{address, field::Field, metadata, text},
};

/// Longest time that a client stays with one endpoint: a day.
const MAX_AFFINITY_SECONDS: i64 = 86_400;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Checks a Service.
pub fn check(service: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(service, "");
    let spec = whole.at("spec");
    let (kind, headless) = (spec.str("type"), spec.str("clusterIP") == "None");
    if spec.count("ports") == 0 && !headless && kind != "ExternalName" {
        spec.at("ports").required("", causes);
    }
    match kind {
        "LoadBalancer" | "NodePort" => {
            if headless {
                let why = format!("may not be set to 'None' for {kind} services");
                causes.push(Cause::invalid("spec.clusterIPs[0]", &json!("None"), &why));
            }
            if kind == "LoadBalancer" {
                service_ports::external(&spec, causes);
            }
        }
        "ExternalName" => external_name(&spec, causes),
        _ => {}
    }
    service_ports::check(&spec, causes);
    metadata::labels(Some(spec.at("selector").value), "spec.selector", causes);
    affinity(&spec, causes);
    if kind != "ExternalName" {
        families(&spec, causes);
    }
    for address in spec.items("externalIPs") {
        address::served(&address, causes);
    }
    spec.at("type").needs_one_of(&TYPES, causes);
    service_ports::unique(&spec, causes);
    load_balancer(&spec, causes);
    traffic(&spec, causes);
}

fn external_name(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    const WHY: &str = "may not be set when `type` is 'ExternalName'";
    if !matches!(spec.str("clusterIP"), "" | "None") {
        spec.at("clusterIPs").forbidden(WHY, causes);
    }
    for key in ["ipFamilies", "ipFamilyPolicy"] {
        if !spec.at(key).is_empty() {
            spec.at(key).forbidden(WHY, causes);
        }
    }
    let name = spec.at("externalName");
    let host = name.text().trim_end_matches('.');
    if host.is_empty() {
        name.required("", causes);
    } else {
        for fault in text::dns1123_subdomain(host) {
            causes.push(Cause::invalid(name.path.as_str(), &json!(host), &fault));
        }
    }
}

fn affinity(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (affinity, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    affinity.needs_one_of(&["ClientIP", "None"], causes);
    let seconds = config.at("clientIP").at("timeoutSeconds");
    match affinity.text() {
        "ClientIP" if seconds.int().is_some_and(|seconds| !(1..=MAX_AFFINITY_SECONDS).contains(&seconds)) => {
            seconds.invalid(&format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"), causes);
        }
        "None" if !config.value.is_null() => {
            config.forbidden("must not be set when session affinity is None", causes);
        }
        _ => {}
    }
}

fn families(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&str> = Vec::new();
    for family in spec.items("ipFamilies") {
        family.one_of(&["IPv4", "IPv6"], causes);
        if seen.contains(&family.text()) {
            family.duplicate(causes);
        } else if family.text() == "IPv6" {
            family.invalid("not configured on this cluster", causes);
        }
        seen.push(family.text());
    }
    if let Some(policy) = spec.get("ipFamilyPolicy") {
        policy.one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], causes);
        if policy.text() == "RequireDualStack" {
            policy.invalid("this cluster is not configured for dual-stack services", causes);
        }
    }
    let first = Value::from(spec.str("clusterIP"));
    if !matches!(spec.str("clusterIP"), "" | "None") {
        Field::new(&first, "spec.clusterIPs[0]").check(text::ip, causes);
    }
}

fn load_balancer(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    const WHY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = spec.str("type") == "LoadBalancer";
    let (ranges, class) = (spec.at("loadBalancerSourceRanges"), spec.at("loadBalancerClass"));
    if !ranges.is_empty() && !balanced {
        ranges.forbidden(WHY, causes);
    }
    for range in spec.items("loadBalancerSourceRanges") {
        let trimmed = range.text().trim();
        for fault in text::cidr(trimmed) {
            causes.push(Cause::invalid(range.path.as_str(), &json!(trimmed), &fault));
        }
    }
    if !balanced && spec.get("allocateLoadBalancerNodePorts").is_some() {
        spec.at("allocateLoadBalancerNodePorts").forbidden(WHY, causes);
    }
    if class.value.is_null() {
        return;
    }
    if balanced {
        class.check(text::qualified_name, causes);
    } else {
        class.forbidden(WHY, causes);
    }
}

fn traffic(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (policy, check) = (spec.at("externalTrafficPolicy"), spec.at("healthCheckNodePort"));
    if let Some(policy) = spec.get("externalTrafficPolicy") {
        if is_external(spec.value) {
            policy.needs_one_of(&["Cluster", "Local"], causes);
        } else {
            policy.invalid("may only be set for externally-accessible services", causes);
        }
    }
    let local = spec.str("type") == "LoadBalancer" && policy.text() == "Local";
    if check.int().unwrap_or(0) != 0 && !local {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        check.invalid(why, causes);
    }
    if let Some(policy) = spec.get("internalTrafficPolicy") {
        policy.one_of(&["Cluster", "Local"], causes);
    }
    if let Some(distribution) = spec.get("trafficDistribution") {
        distribution.one_of(&["PreferClose", "PreferSameNode", "PreferSameZone"], causes);
    }
}

/// Whether a Service of this spec is reached from outside the cluster.
#[must_use]
pub fn is_external(spec: &Value) -> bool {
    match object::text(spec, &["type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !object::list(spec, &["externalIPs"]).is_empty(),
        _ => false,
    }
}

/// What a client is told besides.
#[must_use]
pub fn warnings(service: &Value, old: Option<&Value>) -> Vec<String> {
    let whole = Field::new(service, "");
    let spec = whole.at("spec");
    let mut said = Vec::new();
    let before = old.map_or(&Value::Null, |old| old.get("spec").unwrap_or(&Value::Null));
    if spec.count("externalIPs") > 0
        && before.get("externalIPs") != service.get("spec").and_then(|spec| spec.get("externalIPs"))
    {
        said.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if spec.str("clusterIP") == "None" {
        if !spec.str("loadBalancerIP").is_empty() {
            said.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if spec.count("externalIPs") > 0 {
            said.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.str("sessionAffinity") != "None" {
            said.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    said
}

/// Checks a changed Service.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (now, before) = (object::text(new, &["spec", "clusterIP"]), object::text(old, &["spec", "clusterIP"]));
    let kinds = [new, old].map(|service| object::text(service, &["spec", "type"]));
    if !kinds.contains(&"ExternalName") && !before.is_empty() && now != before {
        causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([now]), "may not change once set"));
    }
    let class = |service| object::at(service, &["spec", "loadBalancerClass"]).cloned().unwrap_or(Value::Null);
    if kinds == ["LoadBalancer"; 2] && class(new) != class(old) {
        causes.push(Cause::invalid("spec.loadBalancerClass", &class(new), "may not change once set"));
    }
}

/// What a client may leave out of an update stays as it is, and what only the old type had goes.
pub fn carry_over(new: &mut Value, old: &Value) {
    let of = |service: &Value| object::text(service, &["spec", "type"]).to_owned();
    let (now, before) = (of(new), of(old));
    if now == "ExternalName" || before == "ExternalName" {
        if now == "ExternalName" {
            drop_same(new, old, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
        }
    } else {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
            if object::at(new, &["spec", key]).is_none_or(object::is_zero)
                && let Some(value) = object::at(old, &["spec", key]).cloned()
                && (key != "healthCheckNodePort" || now == before)
            {
                object::set(new, &["spec"], key, value);
            }
        }
    }
    node_ports(new, old, matches!(now.as_str(), "NodePort" | "LoadBalancer"));
    if before == "LoadBalancer" && now != "LoadBalancer" {
        drop_same(new, old, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    let is_local = |service: &Value| {
        object::text(service, &["spec", "type"]) == "LoadBalancer"
            && object::text(service, &["spec", "externalTrafficPolicy"]) == "Local"
    };
    if is_local(old) && !is_local(new) {
        drop_same(new, old, &["healthCheckNodePort"]);
    }
    let external = |service: &Value| service.get("spec").is_some_and(is_external);
    if external(old) && !external(new) {
        drop_same(new, old, &["externalTrafficPolicy"]);
    }
}

/// Drops what was left as it was although it no longer means anything.
fn drop_same(new: &mut Value, old: &Value, keys: &[&str]) {
    for key in keys {
        let empty = |value: Option<&Value>| value.is_none_or(object::is_zero);
        let (own, was) = (object::at(new, &["spec", key]), object::at(old, &["spec", key]));
        if own == was || empty(own) {
            object::remove(new, &["spec"], key);
        }
    }
}

fn node_ports(new: &mut Value, old: &Value, kept: bool) {
    let before = object::list(old, &["spec", "ports"]).to_vec();
    for port in object::list_mut(new, &["spec", "ports"]).into_iter().flatten() {
        if !kept {
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
