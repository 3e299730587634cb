//! The end of a definition: its objects go first.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use martello_api::{clock, status::ApiError};
use serde_json::{Value, json};

use super::{
    definition::Definition,
    follow::{DEFINITIONS, send},
    naming::set_condition,
};
use crate::{registry::object, server::Core};

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How often to look whether objects that something holds back are gone; it grows up to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Removes all objects of a definition, then the definition.
pub async fn end(core: &Arc<Core>, client: &kube::Client, crd: &Value) {
    let definition = Definition::compile(crd);
    let name = object::name(crd).to_owned();
    let path = format!("/apis/{}/v1/{}/{name}", DEFINITIONS.0, DEFINITIONS.1);
    tell(client, &path, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress").await;
    let mut delay = LOOK_AGAIN.0;
    loop {
        match remove_all(core, client, &definition).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(name, %error, "objects of a custom resource could not be removed, will try again")
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LOOK_AGAIN.1);
    }
    tell(client, &path, false, "InstanceDeletionCompleted", "removed all instances").await;
    while let Err(error) = release(client, &path).await {
        if error.code == 404 {
            return;
        }
        if error.code != 409 {
            tracing::warn!(name, %error, "a custom resource definition could not be ended, will try again");
        }
        tokio::time::sleep(LOOK_AGAIN.0).await;
    }
}

/// Writes down how far the end has come.
async fn tell(client: &kube::Client, path: &str, holds: bool, reason: &str, message: &str) {
    let Ok(mut crd) = send(client, "GET", path, &Value::Null).await else { return };
    let mut status = crd.get("status").cloned().unwrap_or_default();
    set_condition(&mut status, "Terminating", holds, reason, message, clock::now());
    object::set(&mut crd, &[], "status", status);
    if let Err(error) = send(client, "PUT", &format!("{path}/status"), &crd).await {
        tracing::debug!(%error, "the condition of an ending definition was not written");
    }
}

/// Takes the finalizer off.
async fn release(client: &kube::Client, path: &str) -> Result<(), ApiError> {
    let crd = send(client, "GET", path, &Value::Null).await?;
    let rest: Vec<&str> = object::finalizers(&crd).into_iter().filter(|own| *own != FINALIZER).collect();
    let version = object::text(&crd, &["metadata", "resourceVersion"]);
    let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": version}});
    send(client, "PATCH", path, &patch).await.map(|_| ())
}

/// Asks for the end of every object; answers how many are left.
async fn remove_all(core: &Arc<Core>, client: &kube::Client, definition: &Definition) -> Result<usize, ApiError> {
    let Some(version) = definition.versions.iter().find(|version| version.served) else {
        return remove_unserved(core, definition).await;
    };
    let root = format!("/apis/{}/{}", definition.group, version.name);
    let plural = &definition.names.plural;
    if plural.is_empty() || core.registry.lookup(&definition.group, &version.name, plural).is_none() {
        return Ok(0);
    }
    let everywhere = format!("{root}/{plural}");
    let list = || async {
        let list = send(client, "GET", &everywhere, &Value::Null).await?;
        Ok::<_, ApiError>(object::list(&list, &["items"]).to_vec())
    };
    let namespaces: BTreeSet<String> =
        list().await?.iter().map(|object| object::namespace(object).to_owned()).collect();
    for namespace in namespaces {
        let collection = match namespace.as_str() {
            "" => format!("{root}/{plural}"),
            namespace => format!("{root}/namespaces/{namespace}/{plural}"),
        };
        send(client, "DELETE", &collection, &Value::Null).await?;
    }
    Ok(list().await?.len())
}

/// No path leads to the objects, so nobody can hold on to them.
async fn remove_unserved(core: &Arc<Core>, definition: &Definition) -> Result<usize, ApiError> {
    let scope = crate::store::Scope::namespace(&crate::store::Resource::from_qualified(&definition.stored_as()), "");
    let listed = core.store.list(&scope, crate::store::ListAt::Latest, crate::store::Page::default()).await;
    let listed = listed.map_err(|error| crate::registry::storage::store_failure(&error))?;
    for entry in &listed.items {
        if let Err(crate::registry::storage::WriteError::Failed(error)) = core.remove(entry).await {
            return Err(error);
        }
    }
    Ok(0)
}
