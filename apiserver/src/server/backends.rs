//! Where a pod or a Service is reached: through the agent of the pod's node, since pods have a network of their own; or
//! straight, where something listens on an address that this machine reaches.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use martello_api::status::ApiError;
use rand::seq::IndexedRandom as _;
use serde_json::Value;

use super::Core;
use crate::{
    http::outbound::{self, Io, OutboundError, Outgoing},
    registry::{
        core::node_proxy::{NodeAddress, node_address},
        object, storage,
    },
    store::{ListAt, Page},
};

/// The protocol to which an agent switches: the bytes of one connection to a port of a pod.
pub const POD_STREAM: &str = "martello-tcp";

/// Somebody who answers.
pub enum Backend {
    /// At an address that this machine reaches.
    Direct {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// A pod, through the agent of its node.
    Pod {
        /// The agent.
        node: NodeAddress,
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The pod's address, for messages and for the `Host` header.
        address: String,
        /// The pod's port.
        port: u16,
    },
}

impl Backend {
    /// What it is called in the `Host` header.
    #[must_use]
    pub fn host(&self) -> String {
        let (Self::Direct { host, port } | Self::Pod { address: host, port, .. }) = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// A connection to it.
    pub async fn connect(&self, core: &Core) -> Result<Io, OutboundError> {
        match self {
            Self::Direct { host, port } => outbound::tcp(host, *port).await,
            Self::Pod { node, namespace, name, port, .. } => {
                let failed = |why: String| OutboundError::Dial {
                    address: self.host(),
                    source: std::io::Error::new(std::io::ErrorKind::ConnectionRefused, why),
                };
                let dialed = core.nodes.dial(&node.name, &node.host, node.port).await;
                let io = dialed.map_err(|error| failed(error.to_string()))?;
                let mut headers = HeaderMap::new();
                headers.insert(header::UPGRADE, HeaderValue::from_static(POD_STREAM));
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                let target = format!("/stream/{namespace}/{name}/{port}");
                let host = format!("{}:{}", node.host, node.port);
                let ask = Outgoing { method: Method::GET, target, headers, body: Bytes::new(), host };
                let answer = outbound::exchange(io, ask).await?;
                if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let said = outbound::collect(answer, MAX_FAILURE_BYTES).await.unwrap_or_default();
                    return Err(failed(String::from_utf8_lossy(&said).trim().to_owned()));
                }
                Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await?)))
            }
        }
    }
}

/// Most bytes of an agent's failure that are read.
const MAX_FAILURE_BYTES: usize = 4096;

/// Whom a user may have this server call on its behalf: an address of the network, and none that only this machine or its links
/// know, where other services trust whoever comes from here. As upstream.
#[must_use]
pub fn is_callable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast()),
    }
}

/// Something that listens at a host, for a user. A name is resolved here and now, and what it was found to be is called: it
/// could be something else the next time.
pub async fn of_host(host: &str, port: u16) -> Result<Backend, ApiError> {
    let refuse = || ApiError::bad_request("address not allowed");
    let found: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = tokio::net::lookup_host((host, port)).await;
            let found = found.map_err(|error| ApiError::bad_request(format!("lookup {host}: {error}")))?;
            found.map(|address| address.ip()).collect()
        }
    };
    let first = *found.first().ok_or_else(refuse)?;
    if !found.into_iter().all(is_callable) {
        return Err(refuse());
    }
    Ok(Backend::Direct { host: first.to_string(), port })
}

/// A pod that is reached at its own address.
fn at_address(address: &str, port: u16) -> Result<Backend, ApiError> {
    match address.parse() {
        Ok(ip) if is_callable(ip) => Ok(Backend::Direct { host: address.to_owned(), port }),
        _ => Err(ApiError::bad_request("address not allowed")),
    }
}

/// The pod of this name, at `port` or at the first port that it declares.
pub async fn of_pod(core: &Core, namespace: &str, name: &str, port: Option<u16>) -> Result<Backend, ApiError> {
    let kind = core.registry.find("", "v1", "pods").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(kind, namespace, name).await?;
    let pod = core.value(kind, &entry).await?;
    let declared = || {
        let containers = object::list(&pod, &["spec", "containers"]);
        let first = containers.iter().find_map(|container| object::list(container, &["ports"]).first());
        first.and_then(|port| object::int(port, &["containerPort"])).and_then(|port| u16::try_from(port).ok())
    };
    let port = port.or_else(declared).unwrap_or(80);
    let address = object::text(&pod, &["status", "podIP"]).to_owned();
    if object::flag(&pod, &["spec", "hostNetwork"]) || object::text(&pod, &["spec", "nodeName"]).is_empty() {
        return at_address(&address, port);
    }
    match node_address(core, &pod).await {
        Ok(node) => Ok(Backend::Pod { node, namespace: namespace.to_owned(), name: name.to_owned(), address, port }),
        // A node without an agent that can be reached: the pod's address may lead there nevertheless.
        Err(_) if !address.is_empty() => at_address(&address, port),
        Err(error) => Err(error),
    }
}

/// Who asks for a Service, and how far that may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker<'a> {
    /// A user, through a proxy, and what messages call the Service: only pods of its namespace are called, whatever addresses
    /// its slices name.
    User(&'a str),
    /// What an administrator configured, a webhook or an extension server: it may be anywhere.
    Configuration,
}

/// One of those that serve a Service at the port of this name or number, or at the port without a name.
pub async fn of_service(
    core: &Core,
    namespace: &str,
    name: &str,
    port: &str,
    asker: Asker<'_>,
) -> Result<Backend, ApiError> {
    let kind = core.registry.find("", "v1", "services").ok_or_else(ApiError::no_such_route)?;
    let entry = match core.get(kind, namespace, name).await {
        Ok(entry) => entry,
        Err(error) => {
            if asker != Asker::Configuration && port.parse::<i64>().is_err() {
                has_endpoints(core, namespace, name).await?;
            }
            return Err(not_there(error, name, asker));
        }
    };
    let service = core.value(kind, &entry).await?;
    if asker == Asker::Configuration && object::text(&service, &["spec", "type"]) == "ExternalName" {
        let host = object::text(&service, &["spec", "externalName"]).to_owned();
        return Ok(Backend::Direct { host, port: port.parse().unwrap_or(443) });
    }
    let port_name = port_name(&service, name, port)?;
    let slices = slices(core, namespace, name).await?;
    let is_empty = slices.iter().all(|slice| object::list(slice, &["endpoints"]).is_empty());
    if is_empty && asker != Asker::Configuration {
        has_endpoints(core, namespace, name).await?;
    }
    let none = || {
        let about = match asker {
            Asker::User(asked) if !is_empty => asked,
            _ => name,
        };
        ApiError::unavailable(format!("no endpoints available for service {about:?}"))
    };
    let mut ready = endpoints(&slices, &port_name);
    if asker != Asker::Configuration {
        ready.retain(|(endpoint, _)| is_pod_of(endpoint, namespace));
    }
    let (endpoint, port) = ready.choose(&mut rand::rng()).ok_or_else(none)?;
    let target = object::at(endpoint, &["targetRef"]);
    if let Some(pod) = target.filter(|target| object::text(target, &["kind"]) == "Pod") {
        return of_pod(core, namespace, object::text(pod, &["name"]), Some(*port)).await;
    }
    let host = object::list(endpoint, &["addresses"]).first().and_then(Value::as_str).ok_or_else(none)?;
    Ok(Backend::Direct { host: host.to_owned(), port: *port })
}

/// Users to whom nothing can answer are told of the Endpoints that upstream looks for; only a port's number makes it look
/// for the Service first.
async fn has_endpoints(core: &Core, namespace: &str, service: &str) -> Result<(), ApiError> {
    let kind = core.registry.find("", "v1", "endpoints").ok_or_else(ApiError::no_such_route)?;
    core.get(kind, namespace, service).await.map(drop)
}

/// A missing Service in upstream's words, which differ between what users ask for and what is configured.
fn not_there(mut error: ApiError, name: &str, asker: Asker<'_>) -> ApiError {
    if error.code == 404 && asker == Asker::Configuration {
        error.message = format!("service {name:?} not found");
    }
    error
}

/// Whether an endpoint is a pod of the namespace, by what it refers to.
fn is_pod_of(endpoint: &Value, namespace: &str) -> bool {
    let text = |key: &str| object::text(endpoint, &["targetRef", key]);
    text("kind") == "Pod" && [namespace, ""].contains(&text("namespace"))
}

/// The name of the Service's port that is meant; empty for the port without a name.
fn port_name(service: &Value, name: &str, wanted: &str) -> Result<String, ApiError> {
    let ports = object::list(service, &["spec", "ports"]);
    let Ok(number) = wanted.parse::<i64>() else { return Ok(wanted.to_owned()) };
    let found = ports.iter().find(|port| object::int(port, &["port"]) == Some(number));
    found
        .map(|port| object::text(port, &["name"]).to_owned())
        .ok_or_else(|| ApiError::unavailable(format!("no service port {number} found for service {name:?}")))
}

/// The slices of a Service.
pub async fn slices(core: &Core, namespace: &str, service: &str) -> Result<Vec<Value>, ApiError> {
    let kind = core.registry.find("discovery.k8s.io", "v1", "endpointslices").ok_or_else(ApiError::no_such_route)?;
    let listed = core.store.list(&kind.scope(namespace), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| storage::store_failure(&error))?;
    let mut found = Vec::new();
    for entry in listed.items.iter().filter(|entry| entry.labels.get("kubernetes.io/service-name") == Some(service)) {
        found.push(core.value(kind, entry).await?);
    }
    Ok(found)
}

/// Endpoints that are ready at the port of this name, with its number.
#[must_use]
pub fn endpoints<'s>(slices: &'s [Value], port_name: &str) -> Vec<(&'s Value, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let ports = object::list(slice, &["ports"]);
        let port = ports.iter().find(|port| object::text(port, &["name"]) == port_name);
        let number = port.and_then(|port| object::int(port, &["port"])).and_then(|port| u16::try_from(port).ok());
        let Some(number) = number else { continue };
        let ready = |endpoint: &&Value| object::at(endpoint, &["conditions", "ready"]) != Some(&Value::Bool(false));
        found.extend(object::list(slice, &["endpoints"]).iter().filter(ready).map(|endpoint| (endpoint, number)));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_is_meant_by_name_or_number() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]}});
        assert_eq!(port_name(&service, "s", "443").unwrap(), "tls");
        assert_eq!(port_name(&service, "s", "web").unwrap(), "web");
        assert_eq!(port_name(&service, "s", "").unwrap(), "");
        assert_eq!(port_name(&service, "s", "81").unwrap_err().message, "no service port 81 found for service \"s\"");
    }

    #[test]
    fn only_ready_endpoints_serve() {
        let slices = [json!({"ports": [{"name": "web", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"]}]})];
        assert_eq!(endpoints(&slices, "web"), [(&slices[0]["endpoints"][1], 8080)]);
        assert!(endpoints(&slices, "other").is_empty());
    }

    #[test]
    fn what_only_this_machine_knows_is_not_called() {
        let callable = |text: &str| is_callable(text.parse().unwrap());
        for inside in
            ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1"]
        {
            assert!(!callable(inside) && at_address(inside, 80).is_err(), "{inside}");
        }
        assert!(callable("10.1.2.3") && callable("192.0.2.1") && callable("2001:db8::1") && callable("fd00::1"));
        assert!(at_address("localhost", 80).is_err() && at_address("", 80).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_called() {
        assert_eq!(of_host("localhost", 80).await.err().unwrap().message, "address not allowed");
        assert_eq!(of_host("192.0.2.1", 80).await.unwrap().host(), "192.0.2.1:80");
    }

    #[test]
    fn a_users_call_reaches_pods_only() {
        let to = |target: Value| is_pod_of(&json!({"addresses": ["192.0.2.1"], "targetRef": target}), "shop");
        assert!(to(json!({"kind": "Pod", "name": "web", "namespace": "shop"})) && to(json!({"kind": "Pod"})));
        assert!(!to(json!({"kind": "Pod", "namespace": "other"})) && !to(json!({"kind": "Node"})) && !to(Value::Null));
    }
}
