//! What the node forwards to and what its DNS answers, worked out from Services and EndpointSlices.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort as Port},
    discovery::v1::{EndpointPort, EndpointSlice},
};
use kube::ResourceExt;

use super::{DnsTable, Protocol, ServicePort, ServiceTable};

/// Label of a slice with the name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type BySlices<'a> = BTreeMap<(String, String), Vec<&'a EndpointSlice>>;

fn by_service(slices: &[Arc<EndpointSlice>]) -> BySlices<'_> {
    let mut all = BySlices::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            all.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
        }
    }
    all
}

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn cluster_ips(service: &Service) -> Vec<Ipv4Addr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let listed = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
    listed.iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn port_of(slice_port: &EndpointPort, port: &Port) -> Option<u16> {
    let named = slice_port.name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("");
    let same = protocol(slice_port.protocol.as_deref()) == protocol(port.protocol.as_deref());
    u16::try_from(slice_port.port?).ok().filter(|_| named && same)
}

/// Endpoints of one port: the ready ones, or, if none is, those that still serve while they end.
fn endpoints(slices: &[&EndpointSlice], port: &Port) -> Vec<(Ipv4Addr, u16)> {
    let (mut ready, mut serving) = (Vec::new(), Vec::new());
    for slice in slices {
        let Some(number) = slice.ports.iter().flatten().find_map(|one| port_of(one, port)) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else { continue };
            if conditions.ready.unwrap_or(true) {
                ready.push((address, number));
            } else if conditions.serving == Some(true) && conditions.terminating == Some(true) {
                serving.push((address, number));
            }
        }
    }
    let mut chosen = if ready.is_empty() { serving } else { ready };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// What the node forwards to.
#[must_use]
pub fn services(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> ServiceTable {
    let slices = by_service(slices);
    let mut ports = Vec::new();
    for service in services {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        let own = slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        let Some(spec) = &service.spec else { continue };
        for cluster_ip in cluster_ips(service) {
            for port in spec.ports.iter().flatten() {
                let Ok(number) = u16::try_from(port.port) else { continue };
                ports.push(ServicePort {
                    cluster_ip,
                    protocol: protocol(port.protocol.as_deref()),
                    port: number,
                    endpoints: endpoints(own, port),
                    client_ip_affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
                });
            }
        }
    }
    ports.sort_by_key(|port| (port.cluster_ip, port.protocol, port.port));
    ServiceTable { ports }
}

/// What cluster DNS answers.
#[must_use]
pub fn names(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], cluster_domain: &str) -> DnsTable {
    let slices = by_service(slices);
    let mut table = DnsTable { cluster_domain: cluster_domain.to_owned(), ..DnsTable::default() };
    for service in services {
        let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
        let full = format!("{name}.{namespace}.svc");
        let Some(spec) = &service.spec else { continue };
        if spec.type_.as_deref() == Some("ExternalName") {
            if let Some(target) = &spec.external_name {
                table.aliases.insert(full, target.clone());
            }
            continue;
        }
        let own = slices.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
        let ips = cluster_ips(service);
        if ips.is_empty() {
            headless(
                &mut table,
                &full,
                spec.ports.as_deref().unwrap_or_default(),
                own,
                spec.publish_not_ready_addresses == Some(true),
            );
            continue;
        }
        table.addresses.insert(full.clone(), ips);
        for port in spec.ports.iter().flatten().filter(|port| port.name.as_deref().is_some_and(|name| !name.is_empty()))
        {
            if let Ok(number) = u16::try_from(port.port) {
                table.services.entry(srv_name(port, &full)).or_default().push((full.clone(), number));
            }
        }
    }
    table
}

fn srv_name(port: &Port, full: &str) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    format!("_{}._{protocol}.{full}", port.name.as_deref().unwrap_or_default())
}

/// A Service without an address of its own: its name stands for its endpoints, and each has a name below it.
fn headless(table: &mut DnsTable, full: &str, ports: &[Port], slices: &[&EndpointSlice], publish_all: bool) {
    for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        let Some(address) = endpoint.addresses.first().and_then(|address| address.parse::<Ipv4Addr>().ok()) else {
            continue;
        };
        if !ready && !publish_all {
            continue;
        }
        let host = endpoint.hostname.clone().unwrap_or_else(|| address.to_string().replace('.', "-"));
        let own = format!("{host}.{full}");
        let listed = table.addresses.entry(full.to_owned()).or_default();
        if !listed.contains(&address) {
            listed.push(address);
        }
        table.addresses.insert(own.clone(), vec![address]);
        for port in ports.iter().filter(|port| port.name.as_deref().is_some_and(|name| !name.is_empty())) {
            let number =
                slices.iter().flat_map(|slice| slice.ports.iter().flatten()).find_map(|one| port_of(one, port));
            if let Some(number) = number {
                table.services.entry(srv_name(port, full)).or_default().push((own.clone(), number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(value: serde_json::Value) -> Arc<Service> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn slice(service: &str, endpoints: serde_json::Value) -> Arc<EndpointSlice> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "n", "labels": {SERVICE_NAME: service}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 3000, "protocol": "TCP"}]}))
            .unwrap(),
        )
    }

    fn web(spec: serde_json::Value) -> Arc<Service> {
        let mut spec = spec;
        spec["ports"] = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
        service(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec}))
    }

    #[test]
    fn only_ready_endpoints_are_forwarded_to_while_there_are_any() {
        let web = web(json!({"clusterIP": "10.96.0.5"}));
        let ending =
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": true}});
        let table = services(&[Arc::clone(&web)], &[slice("web", json!([ending, ready]))]);
        assert_eq!(table.ports[0].endpoints, [("10.0.0.2".parse().unwrap(), 3000)]);
        let table = services(&[web], &[slice("web", json!([ending]))]);
        assert_eq!(table.ports[0].endpoints, [("10.0.0.1".parse().unwrap(), 3000)]);
    }

    #[test]
    fn a_headless_service_is_answered_with_its_pods() {
        let web = web(json!({"clusterIP": "None"}));
        let one = json!({"addresses": ["10.0.0.1"], "hostname": "a", "conditions": {"ready": true}});
        let two = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": true}});
        let table = names(&[web], &[slice("web", json!([one, two]))], "cluster.local");
        assert_eq!(table.addresses["web.n.svc"].len(), 2);
        assert_eq!(table.addresses["a.web.n.svc"], ["10.0.0.1".parse::<Ipv4Addr>().unwrap()]);
        assert_eq!(table.services["_http._tcp.web.n.svc"].len(), 2);
    }

    #[test]
    fn an_external_name_is_an_alias() {
        let external = service(json!({"metadata": {"name": "db", "namespace": "n"},
            "spec": {"type": "ExternalName", "externalName": "db.example.com"}}));
        assert_eq!(names(&[external], &[], "cluster.local").aliases["db.n.svc"], "db.example.com");
    }
}
