//! Pods on nodes that are no more or out of service, and pods that are deleted before they have a node: nobody else would
//! end them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, Preconditions},
};
use martello_api::clock;
use serde_json::{Value, json};
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
/// How long a deleted pod without a node may wait for those that hold it: upstream looks every twenty seconds.
const UNPLACED: Duration = Duration::from_secs(20);

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Whether the pod is deleted, has no node that would end it, and is only kept by finalizers.
fn ends_unplaced(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && node_of(pod).is_none() && !pods::is_finished(pod)
}

/// By which an operator says that a node is off and stays off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Whether nothing on this node ends any more.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
        && !conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<String> = Queue::new();
    let on_node = queue.clone();
    caches.nodes.on_change(move |before, after| {
        if let (Some(node), None) = (before, after) {
            on_node.add_after(node.name_any(), QUARANTINE);
        }
        if let Some(node) = after.filter(|node| is_out_of_service(node)) {
            on_node.add_after(node.name_any(), UNPLACED);
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
        if let Some(pod) = after.filter(|pod| pod.metadata.deletion_timestamp.is_some())
            && let Some(node) = node_of(pod)
            && nodes.get(&Key::new("", node)).is_some_and(|node| is_out_of_service(&node))
        {
            on_pod.add_after(node.to_owned(), UNPLACED);
        }
    });
    let unplaced: Queue<Key> = Queue::new();
    let on_end = unplaced.clone();
    caches.pods.on_change(move |_, after| {
        if let Some(pod) = after.filter(|pod| ends_unplaced(pod)) {
            on_end.add_after(Key::of(pod.as_ref()), UNPLACED);
        }
    });
    let state = (client.clone(), Arc::clone(caches));
    work(tasks, "orphaned-pods", &queue, 1, shutdown, state.clone(), |(client, caches), node| async move {
        reconcile(&client, &caches, &node).await
    });
    work(tasks, "unplaced-pods", &unplaced, 1, shutdown, state, |(client, caches), key| async move {
        match caches.pods.get(&key).filter(|pod| ends_unplaced(pod)) {
            Some(pod) => end(&client, &pod, json!({"phase": "Failed"})).await,
            None => Ok(()),
        }
    });
}

async fn reconcile(client: &Client, caches: &Caches, node: &str) -> Result<(), RequestError> {
    caches.nodes.synced().await;
    if let Some(present) = caches.nodes.get(&Key::new("", node)) {
        let ends = |pod: &Pod| node_of(pod) == Some(node) && pod.metadata.deletion_timestamp.is_some();
        let all = if is_out_of_service(&present) { caches.pods.all() } else { Vec::new() };
        for pod in all.iter().filter(|pod| ends(pod)) {
            end(client, pod, json!({"phase": "Failed"})).await?;
        }
        return Ok(());
    }
    for pod in caches.pods.all().iter().filter(|pod| node_of(pod) == Some(node)) {
        let why = ("DeletionByPodGC", "PodGC: node no longer exists");
        let failed = json!({"phase": "Failed", "conditions": [disrupted(pod, why, clock::now())]});
        end(client, pod, failed).await?;
    }
    Ok(())
}

/// Gives the pod its last status, unless it has one, and deletes it at once. Another pod that has its name by now is none of
/// this.
async fn end(client: &Client, pod: &Pod, failed: Value) -> Result<(), RequestError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    if !pods::is_finished(pod) {
        let body = json!({"metadata": {"uid": pod.uid()}, "status": failed});
        let written = api.patch_status(&name, &patch(), &Patch::Strategic(body)).await;
        written.attempt_unless_gone(|| format!("mark pod {namespace}/{name} as failed"))?;
    }
    let deleted = api.delete(&name, &at_once(pod)).await;
    deleted.attempt_unless_gone(|| format!("delete pod {namespace}/{name}, which no node ends"))?;
    Ok(())
}

/// Has exactly this pod go without a grace period.
fn at_once(pod: &Pod) -> DeleteParams {
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_pod_without_a_node_is_ended_once() {
        let pod = |deleted: bool, node: &str, phase: &str| -> Pod {
            let mut metadata = json!({"name": "p", "namespace": "n", "finalizers": ["example.com/hold"]});
            if deleted {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let spec = json!({"nodeName": node, "containers": []});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}})).unwrap()
        };
        assert!(ends_unplaced(&pod(true, "", "Pending")));
        assert!(!ends_unplaced(&pod(false, "", "Pending")));
        assert!(!ends_unplaced(&pod(true, "node", "Pending")));
        assert!(!ends_unplaced(&pod(true, "", "Failed")));
    }

    #[test]
    fn a_node_is_out_of_service_if_it_is_said_to_be_and_is_not_ready() {
        let node = |key: &str, ready: &str| -> Node {
            let taints = json!([{"key": key, "effect": "NoExecute"}]);
            let conditions = json!([{"type": "Ready", "status": ready}]);
            serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": conditions}})).unwrap()
        };
        assert!(is_out_of_service(&node(OUT_OF_SERVICE, "Unknown")));
        assert!(!is_out_of_service(&node(OUT_OF_SERVICE, "True")));
        assert!(!is_out_of_service(&node("other", "False")));
    }

    #[test]
    fn only_the_pod_that_was_seen_is_deleted() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u-1"}})).unwrap();
        let sent = serde_json::to_value(at_once(&pod)).unwrap();
        assert_eq!((&sent["preconditions"]["uid"], &sent["gracePeriodSeconds"]), (&json!("u-1"), &json!(0)));
    }
}
