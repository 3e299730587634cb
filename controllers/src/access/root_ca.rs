//! The ConfigMap `kube-root-ca.crt` of every namespace: by it pods know the API server.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::service_account::is_active;
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, post, work},
};

/// Name of the ConfigMap.
pub const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const ABOUT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) fn spawn(
    client: &Client,
    caches: &Arc<Caches>,
    bundle: watch::Receiver<String>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue: Queue<String> = Queue::new();
    let on_namespace = queue.clone();
    caches.namespaces.on_change(move |_, after| {
        if let Some(namespace) = after {
            on_namespace.add(namespace.name_any());
        }
    });
    let on_map = queue.clone();
    caches.root_certificates.on_change(move |before, after| {
        if let Some(map) = after.or(before) {
            on_map.add(map.namespace().unwrap_or_default());
        }
    });
    let (mut changed, all, again) = (bundle.clone(), caches.namespaces.clone(), queue.clone());
    let stop = shutdown.clone();
    tasks.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(changed.changed()).await {
            all.all().iter().for_each(|namespace| again.add(namespace.name_any()));
        }
    });
    let state = (client.clone(), Arc::clone(caches), bundle);
    work(tasks, "root-ca", &queue, 2, shutdown, state, |(client, caches, bundle), namespace| async move {
        let bundle = bundle.borrow().clone();
        reconcile(&client, &caches, &namespace, bundle).await
    });
}

async fn reconcile(client: &Client, caches: &Caches, namespace: &str, bundle: String) -> Result<(), RequestError> {
    caches.namespaces.synced().await;
    caches.root_certificates.synced().await;
    if !caches.namespaces.get(&Key::new("", namespace)).is_some_and(|namespace| is_active(&namespace)) {
        return Ok(());
    }
    let present = caches.root_certificates.get(&Key::new(namespace, NAME));
    let wanted = Some([(FILE.to_owned(), bundle)].into());
    if present.as_ref().is_some_and(|present| present.data == wanted) {
        return Ok(());
    }
    let metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        annotations: Some([("kubernetes.io/description".to_owned(), ABOUT.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let map = ConfigMap { metadata, data: wanted.clone(), ..ConfigMap::default() };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let attempted = || format!("write the ConfigMap {NAME} of namespace {namespace}");
    match present {
        None => match api.create(&post(), &map).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).attempt(attempted),
        },
        Some(present) => {
            let next = ConfigMap { data: wanted, ..present.as_ref().clone() };
            api.replace(NAME, &post(), &next).await.map(drop).attempt(attempted)
        }
    }
}
