//! Whether the host ports that the pod asks for are free.

use k8s_openapi::api::core::v1::Pod;

use super::Request;
use crate::snapshot::NodeInfo;

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let wanted = host_ports(request.pod);
    let clash = |a: &(String, String, i32), b: &(String, String, i32)| {
        a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0 == "0.0.0.0" || b.0 == "0.0.0.0")
    };
    let taken = || node.pods.iter().flat_map(|pod| host_ports(pod));
    if !wanted.is_empty() && taken().any(|taken| wanted.iter().any(|wanted| clash(wanted, &taken))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    Vec::new()
}
