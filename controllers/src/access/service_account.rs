//! The ServiceAccount `default` of every namespace.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, post, work},
};

const NAME: &str = "default";

/// Whether things may be made in the namespace.
pub(super) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<String> = Queue::new();
    let on_namespace = queue.clone();
    caches.namespaces.on_change(move |_, after| {
        if let Some(namespace) = after {
            on_namespace.add(namespace.name_any());
        }
    });
    let on_account = queue.clone();
    caches.accounts.on_change(move |before, after| {
        if let (Some(account), None) = (before, after) {
            on_account.add(account.namespace().unwrap_or_default());
        }
    });
    let state = (client.clone(), Arc::clone(caches));
    work(tasks, "serviceaccount", &queue, 2, shutdown, state, |(client, caches), namespace| async move {
        reconcile(&client, &caches, &namespace).await
    });
}

async fn reconcile(client: &Client, caches: &Caches, namespace: &str) -> Result<(), RequestError> {
    caches.namespaces.synced().await;
    caches.accounts.synced().await;
    let active = caches.namespaces.get(&Key::new("", namespace)).is_some_and(|namespace| is_active(&namespace));
    if !active || caches.accounts.get(&Key::new(namespace, NAME)).is_some() {
        return Ok(());
    }
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    match api.create(&post(), &account).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).attempt(|| format!("create the ServiceAccount {NAME} of namespace {namespace}")),
    }
}
