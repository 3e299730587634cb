//! The agent: joins the cluster with this node and does for its pods what upstream's kubelet does.

pub mod checks;
pub mod config;
pub mod context;
pub mod events;
pub mod inventories;

pub mod perform;
pub mod probes;
pub mod publish;
pub mod register;
pub mod roster;
pub mod sources;
pub mod start;
pub mod storage;
pub mod worker;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use tokio_util::sync::CancellationToken;

use self::{config::Config, context::Context, events::Recorder, roster::Pods};
use crate::{images::Images, runtime::Runtime, server, status::lease, status::machine::Machine};

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its server can't listen.
    #[error("serve logs, exec and port-forward on port {port}")]
    Serve {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the agent until `shutdown`; the containers go on running then.
///
/// # Errors
/// If its server can't listen. A cluster that can't be reached is waited for.
pub async fn run(
    client: kube::Client,
    config: Config,
    runtime: Arc<dyn Runtime>,
    images: Arc<dyn Images>,
    door: server::Door,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let (events, send_events) = Recorder::new(client.clone(), config.node_name.clone());
    let (services, keep_services) = services(client.clone());
    let context = Arc::new(Context {
        machine: Machine::look(&config.state_dir),
        runtime_info: runtime.info(),
        client: client.clone(),
        runtime,
        images,
        events,
        services,
        published: parking_lot::Mutex::default(),
        config,
    });
    let pods = Pods::default();
    let port = context.config.port;
    let serve = server::listen(Arc::clone(&context), pods.clone(), door, shutdown.clone()).await;
    let serve = serve.map_err(|source| AgentError::Serve { port, source })?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve);
    tasks.spawn(send_events);
    tasks.spawn(keep_services);
    let Some(uid) = register::register(&context, &shutdown).await else { return Ok(()) };
    let node = context.config.node_name.clone();
    tasks.spawn(lease::keep(client, node, Some(uid), shutdown.clone()));
    tasks.spawn(register::keep(Arc::clone(&context), shutdown.clone()));
    tokio::select! {
        () = context.services_ready() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    roster::run(context, pods, shutdown).await;
    Ok(())
}

/// All Services, kept up to date.
fn services(client: kube::Client) -> (reflector::Store<Service>, impl Future<Output = ()> + Send) {
    let (store, writer) = reflector::store();
    let api: Api<Service> = Api::all(client);
    let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    let keep = events.for_each(|event| {
        if let Err(error) = event {
            tracing::warn!(%error, "the watch of Services was interrupted");
        }
        std::future::ready(())
    });
    (store, keep)
}
