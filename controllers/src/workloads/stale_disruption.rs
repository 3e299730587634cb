//! Pods that were to be disrupted, and were not: the condition that says so is taken back.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pods;
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, work},
};

/// The condition of a pod that is to be disrupted.
const DISRUPTED: &str = "DisruptionTarget";
/// How long it may stand although the pod is not deleted, as upstream.
const STALE_SECONDS: i64 = 120;

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<Key> = Queue::new();
    let on_condition = queue.clone();
    caches.pods.on_change(move |_, after| {
        if let Some((pod, left)) = after.and_then(|pod| Some((pod, stale_after(pod, clock::now())?))) {
            on_condition.add_after(Key::of(pod.as_ref()), Duration::from_secs(left.unsigned_abs()));
        }
    });
    let state = (client.clone(), Arc::clone(caches), queue.clone());
    work(tasks, "stale-disruption", &queue, 1, shutdown, state, |(client, caches, queue), key| {
        take_back(client, caches, queue, key)
    });
}

/// How long the condition of a pod that is to be disrupted may stand before it is taken back, in seconds left; none where it
/// is not taken back. What a kubelet ends may take its time.
fn stale_after(pod: &Pod, now: Timestamp) -> Option<i64> {
    let condition = pods::condition(pod, DISRUPTED).filter(|condition| condition.status == "True")?;
    let by_kubelet = condition.reason.as_deref() == Some("TerminationByKubelet");
    if by_kubelet || pod.metadata.deletion_timestamp.is_some() || pods::is_finished(pod) {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some((since.as_second() + STALE_SECONDS - now.as_second()).max(0))
}

/// Takes the condition of a pod back that was to be disrupted, and was not.
async fn take_back(client: Client, caches: Arc<Caches>, queue: Queue<Key>, key: Key) -> Result<(), RequestError> {
    let now = clock::now();
    let Some(pod) = caches.pods.get(&key) else { return Ok(()) };
    match stale_after(&pod, now) {
        None => return Ok(()),
        Some(0) => {}
        Some(left) => {
            queue.add_after(key, Duration::from_secs(left.unsigned_abs()));
            return Ok(());
        }
    }
    let condition = json!({"type": DISRUPTED, "status": "False", "observedGeneration": pod.metadata.generation,
        "lastTransitionTime": clock::rfc3339_seconds(now)});
    let body = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": [condition]}});
    let api: Api<Pod> = Api::namespaced(client, &key.namespace);
    let params = PatchParams::apply("DisruptionController").force();
    let written = api.patch_status(&key.name, &params, &Patch::Apply(body)).await;
    written.attempt_unless_gone(|| format!("take the disruption of pod {}/{} back", key.namespace, key.name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disruption_that_does_not_come_is_taken_back() {
        let now = Timestamp::from_second(1000).unwrap();
        let left = |seconds: i64, reason: &str, phase: &str| {
            let since = clock::rfc3339_seconds(Timestamp::from_second(seconds).unwrap());
            let condition = json!({"type": DISRUPTED, "status": "True", "reason": reason, "lastTransitionTime": since});
            let pod = json!({"status": {"phase": phase, "conditions": [condition]}});
            stale_after(&serde_json::from_value(pod).unwrap(), now)
        };
        assert_eq!(left(900, "EvictionByEvictionAPI", "Running"), Some(20));
        assert_eq!(left(800, "EvictionByEvictionAPI", "Running"), Some(0));
        assert_eq!(left(800, "TerminationByKubelet", "Running"), None);
        assert_eq!(left(800, "EvictionByEvictionAPI", "Failed"), None);
    }
}
