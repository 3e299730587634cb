//! EndpointSlices: the pods behind a Service, at most a hundred to a slice.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints, Node, Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use super::backends;
use crate::workloads::controller_reference;

/// Label with the name of a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] for slices of Services with a selector.
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Value of [`MANAGED_BY`] for slices that mirror Endpoints made by hand.
pub const MIRRORING: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints that are not to be mirrored.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation with the time of the change that led to a slice.
pub const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Label of what belongs to a Service without an address of its own.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation of Endpoints that are a lock, as clients of old had them.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ZONE: &str = "topology.kubernetes.io/zone";

/// As upstream's default: a change rewrites one slice, so a slice must stay small.
const PER_SLICE: usize = 100;
/// As upstream: how many addresses of one subset are mirrored.
const MOST_MIRRORED: usize = 1000;

/// Changes that lead from the present slices to the wanted ones.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// To be made.
    pub create: Vec<EndpointSlice>,
    /// To be overwritten.
    pub update: Vec<EndpointSlice>,
    /// To be deleted, by name.
    pub delete: Vec<String>,
}

/// Matches `wanted` with the slices of this controller that are there, so that few are rewritten.
#[must_use]
pub fn plan(controller: &str, present: &[Arc<EndpointSlice>], wanted: Vec<EndpointSlice>) -> Plan {
    let mut own: Vec<&Arc<EndpointSlice>> =
        present.iter().filter(|slice| slice.labels().get(MANAGED_BY).map(String::as_str) == Some(controller)).collect();
    own.retain(|slice| slice.metadata.deletion_timestamp.is_none());
    let mut plan = Plan::default();
    let mut open = Vec::new();
    for slice in wanted {
        match own.iter().position(|present| same(present, &slice)) {
            Some(index) => drop(own.remove(index)),
            None => open.push(slice),
        }
    }
    for mut slice in open {
        if let Some(index) = own.iter().position(|present| present.address_type == slice.address_type) {
            let present = own.remove(index);
            slice.metadata.name.clone_from(&present.metadata.name);
            slice.metadata.generate_name.clone_from(&present.metadata.generate_name);
            slice.metadata.resource_version.clone_from(&present.metadata.resource_version);
            plan.update.push(slice);
        } else {
            plan.create.push(slice);
        }
    }
    plan.delete = own.into_iter().map(|slice| slice.name_any()).collect();
    plan
}

/// Whether two slices say the same, whatever they are called and whenever they were made.
fn same(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    let listed = |endpoints: &Option<Vec<Endpoint>>| endpoints.clone().unwrap_or_default();
    let ports = |ports: &Option<Vec<EndpointPort>>| ports.clone().unwrap_or_default();
    a.address_type == b.address_type
        && listed(&a.endpoints) == listed(&b.endpoints)
        && ports(&a.ports) == ports(&b.ports)
        && a.metadata.labels == b.metadata.labels
        && a.metadata.owner_references == b.metadata.owner_references
        && (b.labels().get(MANAGED_BY).is_none_or(|by| by != MIRRORING) || a.annotations() == b.annotations())
}

/// Tells of each endpoint in which zone its node is.
pub fn locate(slices: &mut [EndpointSlice], node: impl Fn(&str) -> Option<Arc<Node>>) {
    for endpoint in slices.iter_mut().flat_map(|slice| slice.endpoints.iter_mut().flatten()) {
        let node = endpoint.node_name.as_deref().and_then(&node);
        endpoint.zone = node.and_then(|node| node.labels().get(ZONE).cloned()).filter(|zone| !zone.is_empty());
    }
}

/// Tells of each ready endpoint whom it is for, where the Service prefers what is near: its zone, and its node if that is
/// asked for.
pub fn prefer(service: &Service, slices: &mut [EndpointSlice]) {
    let by_node = match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => false,
        Some("PreferSameNode") => true,
        _ => return,
    };
    for endpoint in slices.iter_mut().flat_map(|slice| slice.endpoints.iter_mut().flatten()) {
        if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(true) {
            continue;
        }
        let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let for_nodes = endpoint.node_name.clone().filter(|_| by_node).map(|name| vec![ForNode { name }]);
        if for_zones.is_some() || for_nodes.is_some() {
            endpoint.hints = Some(EndpointHints { for_nodes, for_zones });
        }
    }
}

/// The slices of a Service with a selector, given the pods that it selects.
#[must_use]
pub fn of_service(service: &Service, pods: &[Arc<Pod>], now: &str) -> Vec<EndpointSlice> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    // Pods may give one named port different numbers: each set of numbers has slices of its own.
    let mut groups: BTreeMap<Vec<Option<i32>>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods {
        let Some(backend) = backends::of_pod(service, pod) else { continue };
        let numbers: Vec<Option<i32>> = ports.iter().map(|port| backends::target_port(pod, port)).collect();
        groups.entry(numbers).or_default().push(endpoint(backend));
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let mut slices = Vec::new();
    for (numbers, mut endpoints) in groups {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        let slice_ports: Vec<EndpointPort> = ports
            .iter()
            .zip(&numbers)
            .filter_map(|(port, number)| {
                Some(EndpointPort {
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: Some((*number)?),
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        let chunks: Vec<&[Endpoint]> =
            if endpoints.is_empty() { vec![&[]] } else { endpoints.chunks(PER_SLICE).collect() };
        for chunk in chunks {
            let mut slice = make(service, CONTROLLER, chunk.to_vec(), slice_ports.clone());
            slice.metadata.annotations = Some([(TRIGGER.to_owned(), now.to_owned())].into());
            slices.push(slice);
        }
    }
    slices
}

fn endpoint(backend: backends::Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname,
        node_name: backend.node,
        target_ref: Some(backend.target),
        ..Endpoint::default()
    }
}

fn make(service: &Service, controller: &str, endpoints: Vec<Endpoint>, ports: Vec<EndpointPort>) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), controller.to_owned());
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    if headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            namespace: service.namespace(),
            generate_name: Some(format!("{}-", service.name_any())),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: (!endpoints.is_empty()).then_some(endpoints),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// Slices that say what Endpoints made by hand say, for a Service without selector.
#[must_use]
pub fn mirror(service: &Service, by_hand: &Endpoints) -> Vec<EndpointSlice> {
    if by_hand.labels().get(SKIP_MIRROR).is_some_and(|value| value == "true")
        || by_hand.annotations().contains_key(LEADER)
    {
        return Vec::new();
    }
    // Each family and each list of ports has slices of its own.
    let mut groups: Vec<(&str, Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
    for subset in by_hand.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let mut mirrored = 0;
        for (addresses, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            for address in addresses.iter().flatten() {
                let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
                if mirrored == MOST_MIRRORED {
                    break;
                }
                let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
                let endpoint = mirrored_endpoint(address, ready);
                match groups.iter_mut().find(|(own, listed, _)| *own == family && *listed == ports) {
                    Some((_, _, endpoints)) if endpoints.contains(&endpoint) => continue,
                    Some((_, _, endpoints)) => endpoints.push(endpoint),
                    None => groups.push((family, ports.clone(), vec![endpoint])),
                }
                mirrored += 1;
            }
        }
    }
    let mut labels = by_hand.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MIRRORING.to_owned());
    let mut annotations = by_hand.annotations().clone();
    annotations.retain(|key, _| key != TRIGGER && key != LAST_APPLIED);
    let annotations = (!annotations.is_empty()).then_some(annotations);
    let mut slices = Vec::new();
    for (family, ports, endpoints) in groups {
        for chunk in endpoints.chunks(MOST_MIRRORED) {
            let mut slice = make(service, MIRRORING, chunk.to_vec(), ports.clone());
            family.clone_into(&mut slice.address_type);
            slice.metadata.labels = Some(labels.clone());
            slice.metadata.annotations.clone_from(&annotations);
            slice.metadata.owner_references = Some(vec![controller_reference(by_hand)]);
            slices.push(slice);
        }
    }
    slices
}

fn mirrored_endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}]}}))
        .unwrap()
    }

    fn pod(name: &str, ip: &str, port: i32, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name},
                "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
                "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn pods_that_number_a_named_port_differently_are_kept_apart() {
        let slices =
            of_service(&service(), &[pod("a", "10.0.0.1", 3000, true), pod("b", "10.0.0.2", 4000, false)], "t");
        assert_eq!(slices.len(), 2);
        let conditions = |index: usize| slices[index].endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready;
        assert_eq!((conditions(0), conditions(1)), (Some(true), Some(false)));
    }

    #[test]
    fn an_unchanged_slice_is_left_alone_and_a_changed_one_keeps_its_name() {
        let mut present = of_service(&service(), &[pod("a", "10.0.0.1", 3000, true)], "t").remove(0);
        present.metadata.name = Some("web-1".into());
        let present = [Arc::new(present)];
        let same = of_service(&service(), &[pod("a", "10.0.0.1", 3000, true)], "later");
        assert_eq!(plan(CONTROLLER, &present, same), Plan::default());
        let other = of_service(&service(), &[pod("a", "10.0.0.9", 3000, true)], "later");
        assert_eq!(plan(CONTROLLER, &present, other).update[0].name_any(), "web-1");
        assert_eq!(plan(CONTROLLER, &present, Vec::new()).delete, ["web-1"]);
    }

    #[test]
    fn endpoints_made_by_hand_are_mirrored_by_family_and_ports() {
        let by_hand: Endpoints = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "e", "labels": {"a": "b"},
                "annotations": {LAST_APPLIED: "{}", "own": "kept"}},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]},
                {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}]}))
        .unwrap();
        let slices = mirror(&service(), &by_hand);
        let count = |slice: &EndpointSlice| (slice.address_type.clone(), slice.endpoints.as_ref().unwrap().len());
        assert_eq!(slices.iter().map(count).collect::<Vec<_>>(), [("IPv4".to_owned(), 2), ("IPv6".to_owned(), 1)]);
        assert_eq!(slices[0].annotations().keys().collect::<Vec<_>>(), ["own"]);
        assert_eq!(slices[0].labels().get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn ready_endpoints_are_for_their_zone_and_node_where_a_service_prefers_that() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "node", "labels": {ZONE: "z"}}})).unwrap();
        let node = Arc::new(node);
        let hints = |preferred: Option<&str>| -> Vec<serde_json::Value> {
            let mut service = service();
            service.spec.as_mut().unwrap().traffic_distribution = preferred.map(str::to_owned);
            let pods = [pod("a", "10.0.0.1", 3000, true), pod("b", "10.0.0.2", 3000, false)];
            let mut slices = of_service(&service, &pods, "t");
            locate(&mut slices, |_| Some(Arc::clone(&node)));
            prefer(&service, &mut slices);
            let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
            endpoints.map(|endpoint| serde_json::to_value(&endpoint.hints).unwrap()).collect()
        };
        let none = serde_json::Value::Null;
        assert_eq!(hints(None), [none.clone(), none.clone()]);
        let zone = json!({"forZones": [{"name": "z"}]});
        assert_eq!(hints(Some("PreferClose")), [zone, none.clone()]);
        let both = json!({"forNodes": [{"name": "node"}], "forZones": [{"name": "z"}]});
        assert_eq!(hints(Some("PreferSameNode")), [both, none]);
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let slices = of_service(&service(), &[], "t");
        assert_eq!(slices.len(), 1);
        assert_eq!((slices[0].endpoints.as_ref(), slices[0].ports.as_ref()), (None, None));
    }
}
