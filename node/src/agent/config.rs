//! What the agent must be told: who the node is and what it may give away.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Taint;

use crate::pods::sandbox::Naming;

/// The agent's port on which the API server reaches it, as upstream's.
pub const DEFAULT_PORT: u16 = 10250;

/// Everything that a node agent is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Host name, where it differs.
    pub hostname: String,
    /// Addresses under which the node is reached; the first is its primary one.
    pub node_ips: Vec<IpAddr>,
    /// Port on which the API server reaches the agent.
    pub port: u16,
    /// Labels to register with, beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// Thousandths of a processor that pods don't get.
    pub reserved_cpu_millis: u64,
    /// Bytes of memory that pods don't get.
    pub reserved_memory_bytes: u64,
    /// What names mean inside pods.
    pub naming: Naming,
    /// The agent's own directory.
    pub state_dir: PathBuf,
    /// How often objects that volumes name are looked up again.
    pub refresh: Duration,
    /// How often what a pod stores is looked at, where it has a limit.
    pub storage_look: Duration,
    /// What `nodeInfo.kubeletVersion` says.
    pub version: String,
}

impl Config {
    /// A configuration with upstream's defaults for a node of this name.
    #[must_use]
    pub fn new(node_name: &str, node_ip: IpAddr, state_dir: PathBuf) -> Self {
        Self {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            node_ips: vec![node_ip],
            port: DEFAULT_PORT,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            reserved_cpu_millis: 0,
            reserved_memory_bytes: 100 << 20,
            naming: Naming::default(),
            state_dir,
            refresh: Duration::from_secs(30),
            storage_look: Duration::from_secs(10),
            version: format!("v1.36.0+martello-{}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The node's addresses as text.
    #[must_use]
    pub fn host_ips(&self) -> Vec<String> {
        self.node_ips.iter().map(ToString::to_string).collect()
    }
}
