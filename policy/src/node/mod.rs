//! What a node may touch: what its pods need, and its own Node, Lease and CSINode.
//!
//! [`Graph`] keeps which objects the pods of each node refer to; the rules themselves are Cedar policies (`nodes.cedar`),
//! which see of the graph the facts that concern one request.

mod graph;
pub(crate) mod refusal;

use martello_api::attributes::{Attributes, ResourceTarget};

pub use graph::{Graph, PodFacts, Referenced, references};

/// What the policies for nodes need to know of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// The node that asks.
    pub(crate) name: String,
    /// Whether one of its pods needs what it asks for.
    pub(crate) related: bool,
    /// Whether it asks for a collection of its own pods only.
    pub(crate) selects_own_pods: bool,
}

impl NodeFacts {
    /// The facts of a request; `None` if it is not a node that asks.
    pub(crate) fn of(graph: &Graph, attributes: &Attributes) -> Option<Self> {
        let name = attributes.user.node_name()?;
        let target = attributes.resource();
        Some(Self {
            name: name.to_owned(),
            related: target.is_some_and(|target| graph.is_related(name, target)),
            selects_own_pods: target.is_some_and(|target| selects_pods_of(name, target)),
        })
    }
}

fn selects_pods_of(node: &str, target: &ResourceTarget) -> bool {
    target.group.is_empty()
        && target.resource == "pods"
        && target.selected_fields.iter().any(|(field, value)| field == "spec.nodeName" && value == node)
}
