//! Endpoints: the older form of what stands behind a Service, one object for all its pods.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use super::{
    backends::{self, Backend},
    slices::{HEADLESS, TRIGGER},
};

/// Label of Endpoints that this controller keeps.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// As upstream: an object with more addresses would be rewritten too often.
const MOST_ADDRESSES: usize = 1000;

/// The Endpoints of a Service with a selector, given the pods that it selects.
#[must_use]
pub fn of_service(service: &Service, pods: &[Arc<Pod>], now: &str) -> Endpoints {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    let mut groups: BTreeMap<Vec<Option<i32>>, EndpointSubset> = BTreeMap::new();
    let mut sorted: Vec<(Backend, &Arc<Pod>)> = pods
        .iter()
        .filter_map(|pod| Some((backends::of_pod(service, pod)?, pod)))
        .filter(|(backend, _)| !backend.terminating || backend.ready)
        .collect();
    sorted.sort_by(|a, b| a.0.address.cmp(&b.0.address));
    let over_capacity = sorted.len() > MOST_ADDRESSES;
    sorted.truncate(MOST_ADDRESSES);
    for (backend, pod) in sorted {
        let numbers: Vec<Option<i32>> = ports.iter().map(|port| backends::target_port(pod, port)).collect();
        let headless = is_headless(service);
        if numbers.iter().all(Option::is_none) && !(ports.is_empty() && headless) {
            continue;
        }
        let subset = groups.entry(numbers.clone()).or_insert_with(|| {
            let listed = ports.iter().zip(&numbers).filter_map(|(port, number)| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: (*number)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            });
            EndpointSubset {
                ports: Some(listed.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
                ..EndpointSubset::default()
            }
        });
        let address = EndpointAddress {
            ip: backend.address,
            hostname: backend.hostname,
            node_name: backend.node,
            target_ref: Some(backend.target),
        };
        let list = if backend.ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut annotations = BTreeMap::from([(TRIGGER.to_owned(), now.to_owned())]);
    if over_capacity {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    let subsets: Vec<EndpointSubset> = groups.into_values().collect();
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether two objects say the same, whenever they were made.
#[must_use]
pub fn same(present: &Endpoints, wanted: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    subsets(present) == subsets(wanted) && present.metadata.labels == wanted.metadata.labels
}
