//! An APIService for each version of a group that definitions serve, as for what is built in.

use std::collections::BTreeSet;

use serde_json::Value;

use super::follow::send;
use crate::registry::{Custom, apiregistration::local, object};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// What was announced.
#[derive(Default)]
pub(super) struct Announced {
    services: BTreeSet<(String, String)>,
    /// Whether what an earlier run left behind has been looked for.
    swept: bool,
}

impl Announced {
    /// Announces what is new, and takes back what is served no more.
    pub(super) async fn update(&mut self, client: &kube::Client, custom: &Custom) {
        let served: BTreeSet<(String, String)> = custom
            .kinds
            .iter()
            .map(|kind| (kind.resource.gvk.group.to_string(), kind.resource.gvk.version.to_string()))
            .collect();
        if !self.swept {
            self.services.extend(left_behind(client).await);
            self.swept = true;
        }
        for (group, version) in self.services.difference(&served) {
            remove(client, group, version).await;
        }
        for (group, version) in served.difference(&self.services) {
            add(client, group, version).await;
        }
        self.services = served;
    }
}

async fn left_behind(client: &kube::Client) -> Vec<(String, String)> {
    let path = format!("{SERVICES}?labelSelector={}%3Dtrue", local::MANAGED);
    let Ok(list) = send(client, "GET", &path, &Value::Null).await else { return Vec::new() };
    let text = |service: &Value, key: &str| object::text(service, &["spec", key]).to_owned();
    object::list(&list, &["items"]).iter().map(|service| (text(service, "group"), text(service, "version"))).collect()
}

async fn add(client: &kube::Client, group: &str, version: &str) {
    if let Err(error) = send(client, "POST", SERVICES, &local::of_custom(group, version)).await
        && error.code != 409
    {
        tracing::debug!(group, version, %error, "a version of a custom group was not announced");
    }
}

/// Takes an APIService back, unless somebody made it their own.
async fn remove(client: &kube::Client, group: &str, version: &str) {
    let path = format!("{SERVICES}/{version}.{group}");
    let Ok(service) = send(client, "GET", &path, &Value::Null).await else { return };
    if !local::is_of_custom(&service) {
        return;
    }
    if let Err(error) = send(client, "DELETE", &path, &Value::Null).await
        && error.code != 404
    {
        tracing::debug!(group, version, %error, "a version of a custom group is still announced");
    }
}
