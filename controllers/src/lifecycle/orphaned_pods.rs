//! Pods on nodes that are no more: nobody else would end them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch},
};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::node::disrupted;
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, patch, work},
    workloads::pods,
};

/// How long a node must be gone: a node that registers anew keeps its pods. As upstream.
const QUARANTINE: Duration = Duration::from_secs(40);

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<String> = Queue::new();
    let on_node = queue.clone();
    caches.nodes.on_change(move |before, after| {
        if let (Some(node), None) = (before, after) {
            on_node.add_after(node.name_any(), QUARANTINE);
        }
    });
    let (on_pod, nodes) = (queue.clone(), caches.nodes.clone());
    caches.pods.on_change(move |before, after| {
        let placed = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| node_of(pod).map(str::to_owned));
        if let Some(node) = placed(after).filter(|_| placed(before) != placed(after))
            && nodes.get(&Key::new("", &node)).is_none()
        {
            on_pod.add_after(node, QUARANTINE);
        }
    });
    let state = (client.clone(), Arc::clone(caches));
    work(tasks, "orphaned-pods", &queue, 1, shutdown, state, |(client, caches), node| async move {
        reconcile(&client, &caches, &node).await
    });
}

async fn reconcile(client: &Client, caches: &Caches, node: &str) -> Result<(), RequestError> {
    caches.nodes.synced().await;
    if caches.nodes.get(&Key::new("", node)).is_some() {
        return Ok(());
    }
    for pod in caches.pods.all().iter().filter(|pod| node_of(pod) == Some(node)) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        if !pods::is_finished(pod) {
            let why = ("DeletionByPodGC", "PodGC: node no longer exists");
            let status = json!({"phase": "Failed", "conditions": [disrupted(pod, why, clock::now())]});
            let body = json!({"metadata": {"uid": pod.uid()}, "status": status});
            let written = api.patch_status(&name, &patch(), &Patch::Strategic(body)).await;
            written.attempt_unless_gone(|| format!("mark pod {namespace}/{name} as failed"))?;
        }
        let deleted = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        deleted.attempt_unless_gone(|| format!("delete pod {namespace}/{name}, whose node {node} is gone"))?;
    }
    Ok(())
}
