//! Holds a pod to what it may store on the node's disk: looks every few seconds, and ends it when it stores more.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::{checks::full, context::Context, events::Kind};
use crate::{
    pods::{
        fact::Fact,
        storage::{Limits, Stored},
    },
    runtime::{ContainerState, Part, RuntimeError},
};

/// Looking takes at most one part in this many of a processor's time.
const SHARE: u32 = 10;

/// Looks until the pod stores more than it may; for ever if it never does.
pub async fn watch(context: Arc<Context>, pod: Arc<Pod>, limits: Limits, tell: impl Fn(Fact)) {
    let mut pause = context.config.storage_look;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        match look(&context, &pod, &limits).await {
            Ok(stored) => {
                if let Some(ending) = limits.exceeded(&stored) {
                    context.events.pod(&pod, Kind::Warning, &ending.reason, ending.message.clone());
                    return tell(Fact::Evicted(ending));
                }
            }
            // Before its start, and after its end, there is nothing to look at.
            Err(RuntimeError::NoPod { .. }) => {}
            Err(error) => {
                tracing::warn!(
                    namespace = pod.namespace(),
                    name = pod.name_any(),
                    error = full(&error),
                    "what the pod stores can't be measured"
                );
            }
        }
        pause = longest(context.config.storage_look, begun.elapsed());
    }
}

fn longest(usual: Duration, took: Duration) -> Duration {
    usual.max(took * SHARE)
}

async fn look(context: &Context, pod: &Pod, limits: &Limits) -> Result<Stored, RuntimeError> {
    let uid = pod.uid().unwrap_or_default();
    let containers = context.runtime.containers(&uid).await?;
    let mut stored = Stored::default();
    // Nothing is written where nothing runs.
    if !containers.iter().any(|one| matches!(one.state, ContainerState::Running { .. })) {
        return Ok(stored);
    }
    for name in limits.measured_volumes() {
        let bytes = context.runtime.measure(&uid, Part::Volume(name)).await?;
        stored.volumes.insert(name.to_owned(), bytes);
    }
    if limits.measures_containers() {
        for one in containers {
            let layer = context.runtime.measure(&uid, Part::Layer(&one.id)).await?;
            let own = stored.containers.entry(one.name.clone()).or_default();
            *own = own.saturating_add(layer);
        }
        for (name, own) in &mut stored.containers {
            *own = own.saturating_add(context.runtime.measure(&uid, Part::Logs(name)).await?);
        }
    }
    Ok(stored)
}
