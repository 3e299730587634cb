//! The cluster as one scheduling cycle sees it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::ResourceExt;

use crate::resources::{self, Resources};

/// A node and what runs on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What it has for pods.
    pub allocatable: Resources,
    /// What its pods asked for.
    pub requested: Resources,
    /// Its pods that have not run to their end.
    pub pods: Vec<Arc<Pod>>,
}

impl NodeInfo {
    /// An empty node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        Self { allocatable: Resources::of_list(allocatable), requested: Resources::default(), pods: Vec::new(), node }
    }

    /// Puts a pod on it.
    pub fn place(&mut self, pod: Arc<Pod>) {
        self.requested.add(&resources::of_pod(&pod));
        self.pods.push(pod);
    }

    /// The value of one of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.labels().get(key).map(String::as_str)
    }

    /// Its taints.
    #[must_use]
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }
}

/// All nodes with their pods, and the labels of all namespaces.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By name.
    pub nodes: BTreeMap<String, NodeInfo>,
    /// Labels by namespace, for namespace selectors.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Snapshot {
    /// From all nodes and all pods that were placed and have not run to their end.
    #[must_use]
    pub fn new<'a>(
        nodes: impl Iterator<Item = &'a Arc<Node>>,
        pods: impl Iterator<Item = &'a Arc<Pod>>,
        namespaces: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Self {
        let mut nodes: BTreeMap<String, NodeInfo> =
            nodes.map(|node| (node.name_any(), NodeInfo::new(Arc::clone(node)))).collect();
        for pod in pods {
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            if let Some(info) = nodes.get_mut(on) {
                info.place(Arc::clone(pod));
            }
        }
        Self { nodes, namespaces }
    }
}
