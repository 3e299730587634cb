//! Where configured admission comes from: the store, by watch.

use std::{sync::Arc, time::Duration};

use martello_api::status::ApiError;

use super::snapshot::{PARTS, Part};
use crate::{
    registry::{Kind, storage::store_failure},
    server::Core,
    store::{EventKind, ListAt, Page, StoreError},
};

const GROUP: &str = "admissionregistration.k8s.io";
/// Between attempts to watch a store that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// Learns what the store holds: no request is served before.
pub async fn learn(core: &Arc<Core>) -> Result<(), ApiError> {
    for (plural, part) in PARTS {
        if let Some(kind) = core.registry.find(GROUP, "v1", plural) {
            list(core, kind, part).await?;
        }
    }
    Ok(())
}

/// Follows what is written until the server ends.
pub fn follow(core: &Arc<Core>) {
    for (plural, part) in PARTS {
        if let Some(kind) = core.registry.find(GROUP, "v1", plural) {
            let (core, kind) = (Arc::clone(core), Arc::clone(kind));
            tokio::spawn(async move {
                let drain = core.drain.clone();
                tokio::select! {
                    () = keep(&core, &kind, part) => {}
                    () = drain.cancelled() => {}
                }
            });
        }
    }
}

async fn list(core: &Arc<Core>, kind: &Kind, part: Part) -> Result<u64, ApiError> {
    let listed = core.store.list(&kind.scope(""), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| store_failure(&error))?;
    let mut objects = Vec::with_capacity(listed.items.len());
    for entry in &listed.items {
        objects.push(core.value(kind, entry).await?);
    }
    core.hooks.replace(part, &objects);
    Ok(listed.revision)
}

async fn keep(core: &Arc<Core>, kind: &Kind, part: Part) {
    loop {
        match list(core, kind, part).await {
            Ok(revision) => {
                if let Err(error) = watch(core, kind, part, revision).await {
                    tracing::warn!(%error, resource = %kind.resource.plural, "watching what configures admission ended; starting over");
                }
            }
            Err(error) => {
                tracing::error!(%error, resource = %kind.resource.plural, "what configures admission can't be read");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch(core: &Arc<Core>, kind: &Kind, part: Part, from: u64) -> Result<(), StoreError> {
    let mut watch = core.store.watch(&kind.scope(""), from).await?;
    loop {
        for event in watch.next().await?.events {
            let entry = &event.entry;
            if event.kind == EventKind::Deleted {
                core.hooks.set(part, entry.key.name(), None);
                continue;
            }
            match core.value(kind, entry).await {
                Ok(object) => core.hooks.set(part, entry.key.name(), Some(&object)),
                Err(error) => {
                    tracing::error!(%error, name = entry.key.name(), "a stored configuration of admission can't be read");
                }
            }
        }
    }
}
