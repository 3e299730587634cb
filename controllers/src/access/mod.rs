//! What every namespace needs before anybody can work in it, ClusterRoles that are made of others, and certificate requests
//! whose time is over.

pub mod aggregation;
mod requests;
pub mod root_ca;
pub mod service_account;

use std::sync::Arc;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Caches, Config};

pub(crate) fn spawn(
    client: &Client,
    caches: &Arc<Caches>,
    config: &Config,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    service_account::spawn(client, caches, shutdown, tasks);
    root_ca::spawn(client, caches, config.root_ca.clone(), shutdown, tasks);
    aggregation::spawn(client, caches, shutdown, tasks);
    requests::spawn(client, shutdown, tasks);
}
