//! Keeps forwarding and DNS of this node as the cluster's Services and EndpointSlices say.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _, reflector,
        watcher::{self, Event, watcher},
    },
};
use tokio_util::sync::CancellationToken;

use super::tables;
use crate::runtime::{LocalRuntime, RuntimeError};

/// Changes that come within this time are applied together: a rollout changes many slices at once.
const GATHER: Duration = Duration::from_millis(20);
/// Pause before tables that could not be loaded are loaded again.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows the API server until `shutdown`.
pub async fn follow(client: Client, runtime: LocalRuntime, cluster_domain: String, shutdown: CancellationToken) {
    let (services, write_services) = reflector::store::<Service>();
    let (slices, write_slices) = reflector::store::<EndpointSlice>();
    let service_events = watcher(Api::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(write_services)
        .map(|event| is_change(&event, "Services"));
    let slice_events = watcher(Api::all(client), watcher::Config::default())
        .default_backoff()
        .reflect(write_slices)
        .map(|event| is_change(&event, "EndpointSlices"));
    let mut changes = stream::select(service_events.boxed(), slice_events.boxed());
    let mut listed = 0;
    let (mut loaded_services, mut loaded_names) = (None, None);
    while let Some(Some(change)) = shutdown.run_until_cancelled(changes.next()).await {
        listed += usize::from(change == Change::Listed);
        // Half a picture would cut off what is not known yet.
        if change == Change::Nothing || listed < 2 {
            continue;
        }
        tokio::time::sleep(GATHER).await;
        while let Some(Some(_)) = futures::FutureExt::now_or_never(changes.next()) {}
        loop {
            let (all, ends) = (services.state(), slices.state());
            let forward = tables::services(&all, &ends);
            let names = tables::names(&all, &ends, &cluster_domain);
            let applied: Result<(), RuntimeError> = async {
                if loaded_services.as_ref() != Some(&forward) {
                    runtime.apply_services(forward.clone()).await?;
                    loaded_services = Some(forward);
                }
                if loaded_names.as_ref() != Some(&names) {
                    runtime.apply_names(names.clone()).await?;
                    loaded_names = Some(names);
                }
                Ok(())
            }
            .await;
            match applied {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "Services were not loaded, will try again")
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return;
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Change {
    Nothing,
    Listed,
    Changed,
}

fn is_change<K>(event: &Result<Event<K>, watcher::Error>, what: &str) -> Change {
    match event {
        Ok(Event::InitDone) => Change::Listed,
        Ok(Event::Apply(_) | Event::Delete(_)) => Change::Changed,
        Ok(Event::Init | Event::InitApply(_)) => Change::Nothing,
        Err(error) => {
            tracing::warn!(what, %error, "watch broke off, will go on");
            Change::Nothing
        }
    }
}
