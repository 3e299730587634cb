//! What holds for Services, and how their columns read.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::service_ports;
use crate::registry::{
    networking::cidr,
    object, table,
    validation::{address, field::Field, metadata, text},
};

/// Longest time that a client stays with one endpoint: a day.
const MAX_AFFINITY_SECONDS: i64 = 86_400;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const OF_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Checks a new Service, whose addresses are settled and given.
pub fn check(service: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(service, "");
    let spec = whole.at("spec");
    let (kind, headless) = (spec.str("type"), spec.str("clusterIP") == "None");
    hints(&whole, causes);
    if spec.count("ports") == 0 && !headless && kind != "ExternalName" {
        spec.at("ports").required("", causes);
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", &json!("None"), &why));
        }
        "ExternalName" => external_name(&spec, causes),
        _ => {}
    }
    service_ports::check(&spec, causes);
    metadata::labels(Some(spec.at("selector").value), "spec.selector", causes);
    affinity(&spec, causes);
    for address in spec.items("externalIPs") {
        address::served(&address, causes);
    }
    spec.at("type").needs_one_of(&TYPES, causes);
    service_ports::unique(&spec, causes);
    load_balancer(&whole, causes);
    traffic(&spec, causes);
}

fn external_name(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    const WHY: &str = "may not be set for ExternalName services";
    if !spec.str("clusterIP").is_empty() || spec.count("clusterIPs") > 0 {
        spec.at("clusterIPs").forbidden(WHY, causes);
    }
    for key in ["ipFamilies", "ipFamilyPolicy"] {
        if spec.count(key) > 0 || spec.at(key).value.is_string() {
            spec.at(key).forbidden(WHY, causes);
        }
    }
    let name = spec.at("externalName");
    let host = name.text().strip_suffix('.').unwrap_or(name.text());
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
    let missing = [&config, &config.at("clientIP"), &seconds].into_iter().find(|field| field.value.is_null()).cloned();
    match affinity.text() {
        "ClientIP" if missing.is_some() => {
            let why = "when session affinity type is ClientIP";
            missing.iter().for_each(|field| field.required(why, causes));
        }
        "ClientIP" if seconds.int().is_some_and(|seconds| !(1..=MAX_AFFINITY_SECONDS).contains(&seconds)) => {
            seconds.invalid(&format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"), causes);
        }
        "None" if !config.value.is_null() => {
            config.forbidden("must not be set when session affinity is None", causes);
        }
        _ => {}
    }
}

fn load_balancer(service: &Field<'_>, causes: &mut Vec<Cause>) {
    let spec = service.at("spec");
    let balanced = spec.str("type") == "LoadBalancer";
    let ranges = spec.at("loadBalancerSourceRanges");
    if ranges.is_empty() {
        annotated_ranges(service, balanced, causes);
    } else {
        // Upstream writes the name of the Go field here.
        let ranges = Field::new(ranges.value, "spec.LoadBalancerSourceRanges");
        if !balanced {
            ranges.forbidden(OF_BALANCERS, causes);
        }
        for (index, range) in spec.items("loadBalancerSourceRanges").iter().enumerate() {
            let trimmed = range.text().trim();
            for fault in cidr::strict_range(trimmed) {
                causes.push(Cause::invalid(format!("{}[{index}]", ranges.path), &json!(trimmed), &fault));
            }
        }
    }
    if !balanced && spec.get("allocateLoadBalancerNodePorts").is_some() {
        spec.at("allocateLoadBalancerNodePorts").forbidden(OF_BALANCERS, causes);
    }
    load_balancer_class(&spec, causes);
}

/// Ranges were an annotation once.
fn annotated_ranges(service: &Field<'_>, balanced: bool, causes: &mut Vec<Cause>) {
    let annotations = service.at("metadata").at("annotations");
    let Some(found) = annotations.get(RANGES) else { return };
    let ranges = Field::new(found.value, format!("{}[{RANGES}]", annotations.path));
    if !balanced {
        ranges.forbidden(OF_BALANCERS, causes);
    }
    for range in ranges.text().split(',').map(str::trim).filter(|_| !ranges.text().trim().is_empty()) {
        for fault in cidr::strict_range(range) {
            causes.push(Cause::invalid(ranges.path.as_str(), &json!(range), &fault));
        }
    }
}

fn load_balancer_class(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(class) = spec.get("loadBalancerClass") else { return };
    if spec.str("type") == "LoadBalancer" {
        class.check(text::qualified_name, causes);
    } else {
        class.forbidden(OF_BALANCERS, causes);
    }
}

fn traffic(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (policy, check) = (spec.at("externalTrafficPolicy"), spec.at("healthCheckNodePort"));
    if is_external(spec.value) {
        policy.needs_one_of(&["Cluster", "Local"], causes);
    } else if !policy.text().is_empty() {
        policy.invalid("may only be set for externally-accessible services", causes);
    }
    let local = spec.str("type") == "LoadBalancer" && policy.text() == "Local";
    match check.int().unwrap_or(0) {
        // One is given later.
        0 => {}
        _ if !local => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            check.invalid(why, causes);
        }
        port => text::port_number(port).iter().for_each(|fault| check.invalid(fault, causes)),
    }
    if let Some(policy) = spec.get("internalTrafficPolicy") {
        policy.one_of(&["Cluster", "Local"], causes);
    }
    if let Some(distribution) = spec.get("trafficDistribution") {
        distribution.one_of(&["PreferClose", "PreferSameZone", "PreferSameNode"], causes);
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
pub fn warnings(service: &Value) -> Vec<String> {
    let whole = Field::new(service, "");
    let spec = whole.at("spec");
    let named = spec.str("type") == "ExternalName";
    let headless = spec.str("type") == "ClusterIP" && spec.str("clusterIP") == "None";
    let mut said = Vec::new();
    if whole.at("metadata").at("annotations").get(HINTS).is_some() {
        said.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let addresses = spec.items("clusterIPs").into_iter().filter(|address| !named && address.text() != "None");
    said.extend(addresses.filter_map(|ip| address::warning(&ip)));
    let external = spec.count("externalIPs") > 0;
    if headless {
        if !spec.str("loadBalancerIP").is_empty() {
            said.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external {
            said.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.str("sessionAffinity") != "None" {
            said.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    said.extend(spec.items("externalIPs").iter().filter_map(address::warning));
    if external && !headless && !named {
        said.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    said.extend(address::warning(&spec.at("loadBalancerIP")));
    for range in spec.items("loadBalancerSourceRanges") {
        said.extend(cidr::range_warnings(&range.path, range.text()));
    }
    if named && external {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !spec.str("externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.str("trafficDistribution") == "PreferClose" {
        said.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    said
}

/// What a client is told besides that changed the status.
#[must_use]
pub fn status_warnings(service: &Value) -> Vec<String> {
    let balancer = Field::new(service, "").at("status").at("loadBalancer");
    // Upstream names the place of the address and not its field.
    let places = balancer.items("ingress").into_iter().map(|place| Field::new(place.at("ip").value, place.path));
    places.filter_map(|place| address::warning(&place)).collect()
}

/// The old and the new annotation for one thing say the same.
fn hints(service: &Field<'_>, causes: &mut Vec<Cause>) {
    let annotations = service.at("metadata").at("annotations");
    let (Some(hints), Some(mode)) = (annotations.get(HINTS), annotations.get(MODE)) else { return };
    if hints.text() != mode.text() {
        let mode = Field::new(mode.value, format!("{}[{MODE}]", annotations.path));
        mode.invalid(&format!("must match annotations[{HINTS}] when both are specified"), causes);
    }
}

/// Checks a changed Service: first what may change, then what holds for new ones too.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let kinds = [new, old].map(|service| object::text(service, &["spec", "type"]));
    if !kinds.contains(&"ExternalName") {
        check_addresses(new, old, causes);
        check_families(new, old, causes);
    }
    let class = |service| object::at(service, &["spec", "loadBalancerClass"]).cloned().unwrap_or(Value::Null);
    if kinds == ["LoadBalancer"; 2] && class(new) != class(old) {
        causes.push(Cause::invalid("spec.loadBalancerClass", &class(new), "may not change once set"));
    }
    // Upstream checks the class of an update twice, and lists what it finds twice.
    load_balancer_class(&Field::new(new, "").at("spec"), causes);
    let port = |service| object::int(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
    if [new, old].into_iter().all(needs_health_check) && port(new) != port(old) {
        causes.push(Cause::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    check(new, causes);
}

/// Whether what balances load asks the nodes of a Service how they are.
#[must_use]
pub fn needs_health_check(service: &Value) -> bool {
    object::text(service, &["spec", "type"]) == "LoadBalancer"
        && object::text(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// The first family is for ever, but for headless Services.
fn check_families(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const KEPT: &str = "may not change once set";
    let headless = |service: &Value| object::text(service, &["spec", "clusterIP"]) == "None";
    if headless(new) || headless(old) {
        return;
    }
    let of = |service: &Value, key: &str| object::list(service, &["spec", key]).to_vec();
    let (now, before) = (of(new, "ipFamilies"), of(old, "ipFamilies"));
    if now.len() == before.len() {
        for _ in now.iter().zip(&before).filter(|(now, before)| now != before) {
            causes.push(Cause::invalid("spec.ipFamilies[0]", &json!(now), KEPT));
        }
    } else if !now.is_empty() && !before.is_empty() && now.first() != before.first() {
        causes.push(Cause::invalid("spec.ipFamilies[0]", &json!(of(new, "clusterIPs")), KEPT));
    }
}

/// Checks what a balancer of load reported.
pub fn check_status(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(new, "");
    let balancer = whole.at("status").at("loadBalancer");
    if whole.at("spec").str("type") != "LoadBalancer" && balancer.count("ingress") > 0 {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return balancer.at("ingress").forbidden(why, causes);
    }
    let before: HashSet<&str> = object::list(old, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|ingress| object::text(ingress, &["ip"]))
        .collect();
    for ingress in balancer.items("ingress") {
        let (ip, mode, host) = (ingress.at("ip"), ingress.at("ipMode"), ingress.at("hostname"));
        if !before.contains(&ip.text()) {
            ip.check_if_set(cidr::strict_ip, causes);
        }
        match (mode.value.is_null(), ip.text().is_empty()) {
            (true, false) => mode.required("must be specified when `ip` is set", causes),
            (false, true) => mode.forbidden("may not be specified when `ip` is not set", causes),
            (false, false) => mode.one_of(&["Proxy", "VIP"], causes),
            (true, true) => {}
        }
        host.check_if_set(text::dns1123_subdomain, causes);
        if cidr::any_ip(host.text()).is_some() {
            host.invalid("must be a DNS name, not an IP address", causes);
        }
    }
}

/// An address is for ever, but for the second, which comes and goes with the policy.
fn check_addresses(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const KEPT: &str = "may not change once set";
    if [new, old].into_iter().all(|service| object::text(service, &["spec", "clusterIP"]) == "None") {
        return;
    }
    let of = |service: &Value| {
        let all = object::list(service, &["spec", "clusterIPs"]).to_vec();
        let first = object::text(service, &["spec", "clusterIP"]);
        if all.is_empty() && !first.is_empty() { vec![json!(first)] } else { all }
    };
    let (now, before) = (of(new), of(old));
    let shown = Value::from(now.clone());
    let complain = |index: usize, why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(format!("spec.clusterIPs[{index}]"), &shown, why))
    };
    if before.len() == now.len() {
        for (index, _) in before.iter().zip(&now).enumerate().filter(|(_, (before, now))| before != now) {
            complain(index, KEPT, causes);
        }
        return;
    }
    if now.is_empty() {
        return complain(0, "primary clusterIP can not be unset", causes);
    }
    if !before.is_empty() && now.first() != before.first() {
        complain(0, KEPT, causes);
    }
    let policy = object::at(new, &["spec", "ipFamilyPolicy"]).cloned().unwrap_or(Value::Null);
    if now.len() < before.len() && policy != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", &policy, why));
    }
}

/// The column of addresses outside the cluster.
#[must_use]
pub fn external(service: &Value) -> String {
    let ips: Vec<&str> = object::list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match object::text(service, &["spec", "type"]) {
        "ExternalName" => object::text(service, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let all: Vec<&str> = table::balanced(service).into_iter().chain(ips.iter().copied()).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_balancer_that_is_written_oddly_is_told_of() {
        let service = json!({"status": {"loadBalancer": {"ingress": [{"hostname": "a"}, {"ip": "2001:DB8::1"}]}}});
        assert_eq!(
            status_warnings(&service),
            [
                r#"status.loadBalancer.ingress[1]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#
            ]
        );
    }

    #[test]
    fn what_is_ignored_is_told_of_in_upstreams_order() {
        let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"],
            "externalIPs": ["2001:DB8::1"], "sessionAffinity": "ClientIP"}});
        let told = warnings(&service);
        assert_eq!(
            told[..2],
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services"
            ]
        );
        assert!(told[2].starts_with("spec.externalIPs[0]: IPv6 address"));
        assert_eq!(told.len(), 3);
    }
}
