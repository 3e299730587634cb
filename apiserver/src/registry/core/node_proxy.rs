//! Streams of pods (logs, exec, attach, port-forward): authorized here, served by the agent of the pod's node.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::log_options;
use crate::{
    http::{proxy, reply},
    registry::{
        call::Call,
        kind::{Connect, Kind, Served},
        object,
    },
    server::Core,
};

/// One of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodStream {
    /// `pods/log`.
    Log,
    /// `pods/exec`.
    Exec,
    /// `pods/attach`.
    Attach,
    /// `pods/portforward`.
    PortForward,
}

impl Connect for PodStream {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            if *self == Self::Log {
                log_options::check(&call.query, call.name())?;
            }
            let entry = core.get(kind, call.namespace(), call.name()).await?;
            let pod = core.value(kind, &entry).await?;
            let path = self.path(&call, &pod)?;
            if *self == Self::Log && object::text(&pod, &["spec", "nodeName"]).is_empty() {
                // Nothing was written yet, and nothing will be until the pod has a node.
                return Ok(reply::no_content());
            }
            let node = node_address(core, &pod).await?;
            self.can_start(&pod)?;
            match self {
                Self::Log => proxy::stream(core, &node, &path, &call).await,
                _ => proxy::tunnel(core, &node, &path, call).await,
            }
        })
    }
}

impl PodStream {
    /// Path and query at the node's agent.
    fn path(self, call: &Call, pod: &Value) -> Result<String, ApiError> {
        let (namespace, name) = (call.namespace(), call.name());
        let query = if self == Self::Log { call.raw_query().to_owned() } else { call.connects.for_node() };
        if self == Self::PortForward {
            return Ok(with_query(format!("/portForward/{namespace}/{name}"), &query));
        }
        let asked = if self == Self::Log { call.query.get("container") } else { &call.connects.container };
        let container = container(asked, name, pod)?;
        let root = match self {
            Self::Log => "containerLogs",
            Self::Exec => "exec",
            Self::Attach | Self::PortForward => "attach",
        };
        Ok(with_query(format!("/{root}/{namespace}/{name}/{container}"), &query))
    }

    /// Nothing is run in a pod that has come to its end.
    fn can_start(self, pod: &Value) -> Result<(), ApiError> {
        let phase = object::text(pod, &["status", "phase"]);
        if !matches!(self, Self::Exec | Self::Attach) || !matches!(phase, "Succeeded" | "Failed") {
            return Ok(());
        }
        let why = format!("cannot exec into a container in a completed pod; current phase is {phase}");
        Err(ApiError::bad_request(why))
    }
}

fn with_query(path: String, query: &str) -> String {
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// The container that is meant: the one that is named, or the only one.
fn container(asked: &str, pod_name: &str, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        object::list(pod, &["spec", list]).iter().map(|container| object::text(container, &["name"])).collect()
    };
    let main = names("containers");
    let all = [names("initContainers"), main.clone(), names("ephemeralContainers")].concat();
    match main.as_slice() {
        [only] if asked.is_empty() => Ok((*only).to_owned()),
        _ if asked.is_empty() => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        ))),
        _ if all.contains(&asked) => Ok(asked.to_owned()),
        _ => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {pod_name}"))),
    }
}

/// Where the agent of the pod's node listens.
pub struct NodeAddress {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub host: String,
    /// Its agent's port.
    pub port: u16,
}

/// Where the agent of a pod's node listens.
pub async fn node_address(core: &Core, pod: &Value) -> Result<NodeAddress, ApiError> {
    let name = object::text(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", object::name(pod))));
    }
    address_of(core, name).await
}

/// Where the agent of a node listens.
pub async fn address_of(core: &Core, name: &str) -> Result<NodeAddress, ApiError> {
    let kind = core.registry.find("", "v1", "nodes").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(kind, "", name).await?;
    let node = core.value(kind, &entry).await?;
    let port = object::int(&node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(0);
    let port = u16::try_from(port).ok().filter(|port| *port != 0).ok_or_else(|| {
        ApiError::internal(format!(
            "node {name:?} does not tell the port of its agent (status.daemonEndpoints.kubeletEndpoint.Port)"
        ))
    })?;
    let addresses = object::list(&node, &["status", "addresses"]);
    let host = ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|wanted| {
        let found = addresses.iter().find(|address| object::text(address, &["type"]) == *wanted)?;
        Some(object::text(found, &["address"]).to_owned())
    });
    let host = host.ok_or_else(|| ApiError::internal(format!("no preferred addresses found for node {name:?}")))?;
    Ok(NodeAddress { name: name.to_owned(), host, port })
}
