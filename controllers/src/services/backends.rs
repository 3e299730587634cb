//! What a Service sees of a pod: its address, whether it can serve, and what its named ports are.

use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

use crate::workloads::pods;

/// One pod behind a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The pod's address.
    pub address: String,
    /// The pod.
    pub target: ObjectReference,
    /// Where it runs.
    pub node: Option<String>,
    /// Its own host name, where the pod asked for one in this Service's subdomain.
    pub hostname: Option<String>,
    /// Whether traffic should go there.
    pub ready: bool,
    /// Whether it could serve, be it on its way out.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
}

/// Whether nothing that a Service sees differs between two states of a pod.
#[must_use]
pub fn same(before: &Pod, after: &Pod) -> bool {
    let seen = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            status.and_then(|status| status.pod_ip.clone()),
            pods::ready_since(pod).is_some(),
            pods::is_finished(pod),
            pod.metadata.deletion_timestamp.is_some(),
            pod.metadata.labels.clone(),
        )
    };
    seen(before) == seen(after)
}

/// The pod as a backend of `service`; none without an address or when it ran to its end.
#[must_use]
pub fn of_pod(service: &Service, pod: &Pod) -> Option<Backend> {
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    if pods::is_finished(pod) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let publish_all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = pods::ready_since(pod).is_some();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let in_subdomain = spec.subdomain.as_deref() == Some(service.name_any().as_str());
    Some(Backend {
        address,
        target: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        },
        node: spec.node_name.clone(),
        hostname: spec.hostname.clone().filter(|_| in_subdomain),
        ready: publish_all || (serving && !terminating),
        serving,
        terminating,
    })
}

/// The port number on `pod` that a Service port leads to; none if the pod has no port of that name.
#[must_use]
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|container| container.ports.iter().flatten())
                .find(|own| own.name.as_deref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|own| own.container_port)
        }
    }
}
