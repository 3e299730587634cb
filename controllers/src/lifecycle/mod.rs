//! The end of things: namespaces that are being deleted, dependents whose owner is gone, nodes that fell silent.

pub mod garbage;
pub mod namespace;
pub mod node;
pub mod orphaned_pods;

use kube::{
    Client, Discovery,
    core::{ApiResource, discovery::v2::APIGroupDiscoveryList},
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

/// Why it is not known what could be left in a namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// The question failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer lacks what every server has, so it may lack anything.
    #[error("discovery is incomplete: {0} is not in it")]
    Incomplete(&'static str),
}

/// What no complete answer can lack; served from the first moment on.
const ALWAYS_THERE: [(&str, &str); 4] =
    [("", "pods"), ("", "secrets"), ("", "configmaps"), ("rbac.authorization.k8s.io", "rolebindings")];

/// What is missing in `found` that every server has.
fn missing(found: &[Deletable]) -> Option<&'static str> {
    let has = |group: &str, plural: &str| {
        found.iter().any(|one| one.namespaced && one.resource.group == group && one.resource.plural == plural)
    };
    ALWAYS_THERE.iter().find(|(group, plural)| !has(group, plural)).map(|(_, plural)| *plural)
}

/// All resources whose objects can be listed and deleted. Events are stored once and served in two groups: the
/// older one is left out.
pub(crate) async fn deletable(client: &Client) -> Result<Vec<Deletable>, DiscoveryError> {
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
    match missing(&all) {
        Some(what) => Err(DiscoveryError::Incomplete(what)),
        None => Ok(all),
    }
}

/// The versions of which the server has an old document only, since the extension server that serves them is away: what it
/// holds can neither be listed nor deleted now.
pub(crate) async fn stale(client: &Client) -> Result<Vec<String>, RequestError> {
    let groups = client.list_api_groups_aggregated().await.attempt(|| "discover the served versions".to_owned())?;
    Ok(stale_of(&groups))
}

fn stale_of(groups: &APIGroupDiscoveryList) -> Vec<String> {
    let mut stale = Vec::new();
    for group in &groups.items {
        let name = group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default();
        for version in group.versions.iter().filter(|version| version.freshness.as_deref() == Some("Stale")) {
            stale.push(format!("{name}/{}", version.version.as_deref().unwrap_or_default()));
        }
    }
    stale.sort();
    stale
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_what_every_server_has_is_not_believed() {
        let one = |group: &str, plural: &str| Deletable {
            resource: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", "X"), plural),
            namespaced: true,
            watchable: true,
            collection: true,
        };
        let mut found: Vec<Deletable> = ALWAYS_THERE.iter().map(|(group, plural)| one(group, plural)).collect();
        assert_eq!(missing(&found), None);
        found.remove(1);
        assert_eq!(missing(&found), Some("secrets"));
        assert_eq!(missing(&[]), Some("pods"));
    }

    #[test]
    fn versions_of_absent_extension_servers_are_told() {
        let version =
            |version: &str, freshness: &str| json!({"version": version, "freshness": freshness, "resources": []});
        let groups = json!({"items": [
            {"metadata": {"name": "b.example.com"}, "versions": [version("v1", "Stale"), version("v2", "Current")]},
            {"metadata": {"name": "a.example.com"}, "versions": [version("v1", "Stale")]},
        ]});
        assert_eq!(stale_of(&serde_json::from_value(groups).unwrap()), ["a.example.com/v1", "b.example.com/v1"]);
    }
}
