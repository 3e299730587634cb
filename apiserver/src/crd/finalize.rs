//! The end of a definition: its objects go first.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use martello_api::{clock, status::ApiError};
use serde_json::Value;

use super::{
    definition::Definition,
    follow::{DEFINITIONS, send},
    naming::set_condition,
};
use crate::{
    registry::{
        Kind, object,
        storage::{WriteError, store_failure},
    },
    server::Core,
    store::{Entry, EventKind, Key, ListAt, Listed, Page, Resource, Scope, StoreError},
};

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Delay before a request or a watch that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Removes all objects of a definition, then the definition.
pub async fn end(core: &Arc<Core>, client: &kube::Client, crd: &Value) {
    let definition = Definition::compile(crd);
    let name = object::name(crd).to_owned();
    let path = format!("/apis/{}/v1/{}/{name}", DEFINITIONS.0, DEFINITIONS.1);
    tell(client, &path).await;
    while let Err(error) = remove_all(core, client, &definition).await {
        tracing::warn!(name, %error, "objects of a custom resource could not be removed, will try again");
        tokio::time::sleep(RETRY).await;
    }
    while let Err(error) = release(client, &path).await {
        if error.code == 404 {
            return;
        }
        if error.code != 409 {
            tracing::warn!(name, %error, "a custom resource definition could not be ended, will try again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Writes down that the end has begun.
async fn tell(client: &kube::Client, path: &str) {
    let Ok(mut crd) = send(client, "GET", path, &Value::Null).await else { return };
    note(&mut crd, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress");
    if let Err(error) = send(client, "PUT", &format!("{path}/status"), &crd).await {
        tracing::debug!(%error, "the condition of an ending definition was not written");
    }
}

/// Takes the finalizer off, and says so in the same write: whoever watches sees that only where others hold the definition
/// back, as upstream has it.
async fn release(client: &kube::Client, path: &str) -> Result<(), ApiError> {
    let mut crd = send(client, "GET", path, &Value::Null).await?;
    let rest: Vec<String> =
        object::finalizers(&crd).into_iter().filter(|own| *own != FINALIZER).map(str::to_owned).collect();
    note(&mut crd, false, "InstanceDeletionCompleted", "removed all instances");
    object::set(&mut crd, &["metadata"], "finalizers", rest);
    send(client, "PUT", &format!("{path}/status"), &crd).await.map(|_| ())
}

fn note(crd: &mut Value, holds: bool, reason: &str, message: &str) {
    let mut status = crd.get("status").cloned().unwrap_or_default();
    set_condition(&mut status, "Terminating", holds, reason, message, clock::now());
    object::set(crd, &[], "status", status);
}

/// Asks for the end of every object, and waits until there is none: something may hold them back.
async fn remove_all(core: &Arc<Core>, client: &kube::Client, definition: &Definition) -> Result<(), ApiError> {
    let scope = Scope::all(&Resource::from_qualified(&definition.stored_as()));
    loop {
        let listed = core.store.list(&scope, ListAt::Latest, Page::default()).await;
        let listed = listed.map_err(|error| store_failure(&error))?;
        if listed.items.is_empty() {
            return Ok(());
        }
        let Some((root, kind)) = collections(core, definition) else {
            remove_unserved(core, &listed.items).await?;
            continue;
        };
        let namespaces: BTreeSet<&str> = listed.items.iter().map(|entry| entry.key.namespace()).collect();
        for namespace in namespaces {
            let within = if namespace.is_empty() { "" } else { &format!("/namespaces/{namespace}") };
            let path = format!("{root}{within}/{}", definition.names.plural);
            send(client, "DELETE", &path, &Value::Null).await?;
        }
        tokio::select! {
            waited = gone(core, &scope, listed) => waited.map_err(|error| store_failure(&error))?,
            // Served otherwise, or not at all any more: then nobody may be left who could let go of them.
            () = core.registry.replaced(&kind) => {}
        }
    }
}

/// Where the objects are served: the path before the namespace, and the kind behind it.
fn collections(core: &Core, definition: &Definition) -> Option<(String, Arc<Kind>)> {
    let version = definition.versions.iter().find(|version| version.served)?;
    let kind = core.registry.lookup(&definition.group, &version.name, &definition.names.plural)?;
    Some((format!("/apis/{}/{}", definition.group, version.name), kind))
}

/// No path leads to the objects, so nobody can hold on to them. What somebody else wrote meanwhile is left for another look.
async fn remove_unserved(core: &Arc<Core>, objects: &[Arc<Entry>]) -> Result<(), ApiError> {
    let mut is_crossed = false;
    for entry in objects {
        match core.remove(entry).await {
            Ok(_) => {}
            Err(WriteError::Conflict(_)) => is_crossed = true,
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
    if is_crossed {
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

/// Waits until all objects of a list are gone.
async fn gone(core: &Core, scope: &Scope, listed: Listed) -> Result<(), StoreError> {
    let mut left: HashSet<Key> = listed.items.into_iter().map(|entry| entry.key.clone()).collect();
    let mut changes = core.store.watch(scope, listed.revision).await?;
    while !left.is_empty() {
        for event in changes.next().await?.events.iter().filter(|event| event.kind == EventKind::Deleted) {
            left.remove(&event.entry.key);
        }
    }
    Ok(())
}
