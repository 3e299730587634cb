//! Controllers of volumes: claims find volumes, what is used stays, and pods get the claims that they bring.

pub mod bind;
mod binder;
mod ephemeral;
mod protection;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{StorageClass, VolumeAttributesClass},
};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{Informer, Watch},
};

/// The caches of what volumes are made of.
#[derive(Clone, Default)]
pub(crate) struct Volumes {
    pub(crate) claims: Informer<PersistentVolumeClaim>,
    pub(crate) volumes: Informer<PersistentVolume>,
    pub(crate) classes: Informer<StorageClass>,
    pub(crate) attributes: Informer<VolumeAttributesClass>,
}

impl Volumes {
    fn watch(&self, client: &Client, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.claims.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.volumes.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.classes.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
        tasks.spawn(self.attributes.clone().run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
    }
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let volumes = Arc::new(Volumes::default());
    binder::spawn(client, caches, &volumes, shutdown, tasks);
    protection::spawn(client, caches, &volumes, shutdown, tasks);
    ephemeral::spawn(client, caches, &volumes, shutdown, tasks);
    volumes.watch(client, shutdown, tasks);
}
