//! The node's pod network: a network namespace that the unprivileged agent owns.

pub(crate) mod dns;
pub mod follow;
pub(crate) mod link;
pub(crate) mod rules;
pub mod tables;
pub(crate) mod uplink;

pub use dns::reply as dns_reply;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Every Service this node forwards to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTable {
    /// One entry per cluster IP and port.
    pub ports: Vec<ServicePort>,
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The Service's address.
    pub cluster_ip: Ipv4Addr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The Service's port.
    pub port: u16,
    /// Ready endpoints: address and port. Connections to a port without any are refused.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
    /// `sessionAffinity: ClientIP`: one client always reaches the same endpoint while the set stays.
    pub client_ip_affinity: bool,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What cluster DNS answers. Names are without the cluster domain: `web.default.svc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTable {
    /// The cluster domain, by custom `cluster.local`.
    pub cluster_domain: String,
    /// Addresses by name: a Service's cluster IP, or a headless Service's endpoints, and `host.service` of its pods.
    pub addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    /// `_port._protocol.service.namespace.svc` → targets (name, port).
    pub services: BTreeMap<String, Vec<(String, u16)>>,
    /// `ExternalName` Services: name → target.
    pub aliases: BTreeMap<String, String>,
}

/// What the pod network is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Addresses of this node's pods; the first usable one is the gateway.
    pub pod_cidr: ipnet::Ipv4Net,
    /// Addresses of Services; those that belong to none are refused instead of leaving the node.
    pub service_cidr: ipnet::Ipv4Net,
    /// Address on which cluster DNS answers.
    pub dns_ip: Ipv4Addr,
    /// Cluster IP and port of the `kubernetes` Service.
    pub api_service: (Ipv4Addr, u16),
    /// Where the API server listens, as seen from this node.
    pub api_server: std::net::SocketAddrV4,
    /// Resolvers of the node; empty: those of `/etc/resolv.conf`.
    pub upstream_dns: Vec<Ipv4Addr>,
}

impl NetworkConfig {
    /// The address that pods know as their gateway, and from which the node's probes come.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr.hosts().next().unwrap_or(self.pod_cidr.network())
    }
}
