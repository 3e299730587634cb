//! The end of things: namespaces that are being deleted, dependents whose owner is gone, nodes that fell silent.

pub mod garbage;
pub mod namespace;
pub mod node;
pub mod orphaned_pods;

use kube::{
    Client, Discovery,
    core::ApiResource,
    discovery::{Scope, verbs},
};

use crate::runtime::{Attempt, RequestError};

/// A resource that objects can be listed of and deleted.
#[derive(Clone, Debug)]
pub(crate) struct Deletable {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) watchable: bool,
    pub(crate) collection: bool,
}

/// All resources whose objects can be listed and deleted. Events are stored once and served in two groups: the
/// older one is left out.
pub(crate) async fn deletable(client: &Client) -> Result<Vec<Deletable>, RequestError> {
    let discovery =
        Discovery::new(client.clone()).run_aggregated().await.attempt(|| "discover the served resources".to_owned())?;
    let mut all = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let listable =
                capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE);
            if !listable || (resource.group.is_empty() && resource.plural == "events") {
                continue;
            }
            all.push(Deletable {
                namespaced: capabilities.scope == Scope::Namespaced,
                watchable: capabilities.supports_operation(verbs::WATCH),
                collection: capabilities.supports_operation(verbs::DELETE_COLLECTION),
                resource,
            });
        }
    }
    Ok(all)
}
