//! The loops that bring the cluster to its declared state.
//!
//! Each controller is a pure `plan(snapshot, now)` and a thin loop around it: watch → queue → plan → execute.
//! They hold nothing but a [`kube::Client`]: what they may do is decided by the API server, as for anybody else.

pub mod access;
mod devices;
pub mod lifecycle;
pub mod runtime;
pub mod services;
pub mod volumes;
pub mod workloads;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    coordination::v1::Lease,
    core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, ReplicationController, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use runtime::{Informer, Watch};

/// What the controllers need to know of the cluster beside its API.
#[derive(Clone, Debug)]
pub struct Config {
    /// PEM bundle of the authorities that sign server certificates; published as `kube-root-ca.crt` in every namespace.
    pub root_ca: tokio::sync::watch::Receiver<String>,
    /// How long a node may stay silent before it counts as unreachable; upstream's default is 50 s.
    pub node_monitor_grace: Duration,
}

/// The caches that the controllers share: one watch per kind, whoever reads it.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) leases: Informer<Lease>,
    pub(crate) services: Informer<Service>,
    pub(crate) endpoints: Informer<Endpoints>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) accounts: Informer<ServiceAccount>,
    pub(crate) root_certificates: Informer<ConfigMap>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) stateful_sets: Informer<StatefulSet>,
    pub(crate) daemon_sets: Informer<DaemonSet>,
    pub(crate) revisions: Informer<ControllerRevision>,
    pub(crate) replication_controllers: Informer<ReplicationController>,
    pub(crate) jobs: Informer<Job>,
    pub(crate) cron_jobs: Informer<CronJob>,
    pub(crate) budgets: Informer<PodDisruptionBudget>,
    pub(crate) autoscalers: Informer<HorizontalPodAutoscaler>,
    pub(crate) cluster_roles: Informer<ClusterRole>,
}

impl Caches {
    fn new() -> Self {
        Self {
            pods: Informer::new(),
            nodes: Informer::new(),
            leases: Informer::new(),
            services: Informer::new(),
            endpoints: Informer::new(),
            slices: Informer::new(),
            namespaces: Informer::new(),
            accounts: Informer::new(),
            root_certificates: Informer::new(),
            deployments: Informer::new(),
            replica_sets: Informer::new(),
            stateful_sets: Informer::new(),
            daemon_sets: Informer::new(),
            revisions: Informer::new(),
            replication_controllers: Informer::new(),
            jobs: Informer::new(),
            cron_jobs: Informer::new(),
            budgets: Informer::new(),
            autoscalers: Informer::new(),
            cluster_roles: Informer::new(),
        }
    }

    fn watch(&self, client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let root_ca = Watch::fields(&format!("metadata.name={}", access::root_ca::NAME));
        tasks.spawn(self.pods.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.nodes.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.leases.clone().run(
            Api::namespaced(client.clone(), lifecycle::node::LEASE_NAMESPACE),
            Watch::all(),
            shutdown.clone(),
        ));
        tasks.spawn(self.services.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.endpoints.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.slices.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.namespaces.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.accounts.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.root_certificates.clone().run(Api::all(client.clone()), root_ca, shutdown.clone()));
        tasks.spawn(self.deployments.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.replica_sets.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        self.watch_workloads(client, shutdown, tasks);
        tasks.spawn(self.cluster_roles.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
    }

    fn watch_workloads(&self, client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.stateful_sets.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.daemon_sets.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.revisions.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.replication_controllers.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.jobs.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.cron_jobs.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.budgets.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.autoscalers.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
    }
}

/// Runs every controller until `shutdown`.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    let caches = Arc::new(Caches::new());
    workloads::replicaset::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::deployment::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::replication_controller::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::stateful_set::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::daemon_set::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::job::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::cron_job::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::disruption::spawn(&client, &caches, &shutdown, &mut tasks);
    workloads::autoscaler::spawn(&client, &caches, &shutdown, &mut tasks);
    services::spawn(&client, &caches, &shutdown, &mut tasks);
    access::spawn(&client, &caches, &config, &shutdown, &mut tasks);
    lifecycle::namespace::spawn(&client, &caches, &shutdown, &mut tasks);
    lifecycle::node::spawn(&client, &caches, &config, &shutdown, &mut tasks);
    lifecycle::orphaned_pods::spawn(&client, &caches, &shutdown, &mut tasks);
    lifecycle::garbage::spawn(&client, &shutdown, &mut tasks);
    volumes::spawn(&client, &caches, &shutdown, &mut tasks);
    devices::spawn(&client, &caches, &shutdown, &mut tasks);
    caches.watch(&client, &shutdown, &mut tasks);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended abnormally");
        }
    }
}
