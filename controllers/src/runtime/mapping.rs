//! Which resource serves a kind, as discovery tells.

use kube::{
    Client,
    core::{ApiResource, GroupVersionKind},
};

/// The resource of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// It.
    pub(crate) resource: ApiResource,
    /// Whether it can be scaled.
    pub(crate) scales: bool,
}

impl Mapping {
    /// Asks for the resource of a kind; there is none if nothing serves it.
    pub(crate) async fn find(client: &Client, api_version: &str, kind: &str) -> Result<Option<Self>, kube::Error> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let listed = if group.is_empty() {
            client.list_core_api_resources(version).await
        } else {
            client.list_api_group_resources(api_version).await
        };
        let all = match listed {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            listed => listed?.resources,
        };
        let Some(found) = all.iter().find(|one| one.kind == kind && !one.name.contains('/')) else { return Ok(None) };
        let scale = format!("{}/scale", found.name);
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Ok(Some(Self {
            resource: ApiResource::from_gvk_with_plural(&gvk, &found.name),
            scales: all.iter().any(|one| one.name == scale),
        }))
    }

    /// As upstream shows it: `deployments.apps`.
    pub(crate) fn shown(&self) -> String {
        let ApiResource { plural, group, .. } = &self.resource;
        if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") }
    }
}
