//! What every part of the agent shares: who it talks to and what it knows of its node.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::Store;
use parking_lot::Mutex;

use super::{config::Config, events::Recorder};
use crate::{
    images::Images,
    pods::{downward::Facts, quantity::Amount},
    runtime::{Runtime, RuntimeInfo},
    status::machine::Machine,
};

/// How long the first pods wait for the Services to be known.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Shared by the agent's tasks.
pub struct Context {
    /// The API server, with the node's identity.
    pub client: kube::Client,
    /// Makes pods and containers.
    pub runtime: Arc<dyn Runtime>,
    /// Makes images ready and judges them.
    pub images: Arc<dyn Images>,
    /// Tells what happens.
    pub events: Recorder,
    /// What the agent was told.
    pub config: Config,
    /// What the machine is.
    pub machine: Machine,
    /// What the runtime can do here.
    pub runtime_info: RuntimeInfo,
    /// All Services, for environments.
    pub services: Store<Service>,
    /// Digests whose inventory was published.
    pub published: Mutex<HashSet<String>>,
}

impl Context {
    /// What the node knows of a pod with these addresses.
    #[must_use]
    pub fn facts<'a>(&self, pod_ips: &'a [String], host_ips: &'a [String]) -> Facts<'a> {
        Facts { pod_ips, host_ips, allocatable: self.allocatable() }
    }

    /// Waits until all Services are known, but not forever: pods matter more than the variables that name Services.
    pub async fn services_ready(&self) {
        if tokio::time::timeout(LONGEST_WAIT, self.services.wait_until_ready()).await.is_err() {
            tracing::warn!("Services are not known yet; containers that start now miss the variables that name them");
        }
    }

    /// What pods of this node may use together.
    #[must_use]
    pub fn allocatable(&self) -> BTreeMap<String, Amount> {
        self.machine.allocatable(&self.config)
    }
}
