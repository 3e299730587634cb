//! Claims that pods bring along: made with the pod, and gone with it.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, ResourceExt, runtime::events::EventType};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Volumes;
use crate::{
    Caches,
    runtime::{Attempt, EventSink, Key, Queue, RequestError, controller_of, post, said, work},
    workloads::controller_reference,
};

const WORKERS: usize = 2;

pub(super) fn spawn(
    client: &Client,
    caches: &Arc<Caches>,
    cache: &Arc<Volumes>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let queue: Queue<Key> = Queue::new();
    let on_pod = queue.clone();
    caches.pods.on_change(move |_, after| {
        if let Some(pod) = after.filter(|pod| !missing(pod, &[]).is_empty()) {
            on_pod.add(Key::of(pod.as_ref()));
        }
    });
    let on_claim = queue.clone();
    cache.claims.on_change(move |before, after| {
        if let (Some(claim), None) = (before, after)
            && let Some(owner) = controller_of(claim.as_ref()).filter(|owner| owner.kind == "Pod")
        {
            on_claim.add(Key::new(claim.namespace().unwrap_or_default(), owner.name.clone()));
        }
    });
    let events = EventSink::new(client, "ephemeral_volume");
    let state = (client.clone(), Arc::clone(caches), Arc::clone(cache), events);
    work(
        tasks,
        "ephemeral-volume",
        &queue,
        WORKERS,
        shutdown,
        state,
        |(client, caches, cache, events), key| async move {
            caches.pods.synced().await;
            cache.claims.synced().await;
            let Some(pod) = caches.pods.get(&key) else { return Ok(()) };
            provide(&client, &cache, &events, &pod).await
        },
    );
}

/// The claims that a pod brings and that are not there.
fn missing(pod: &Pod, present: &[String]) -> Vec<PersistentVolumeClaim> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
            let name = format!("{}-{}", pod.name_any(), volume.name);
            if present.contains(&name) {
                return None;
            }
            let from = template.metadata.unwrap_or_default();
            let metadata = ObjectMeta {
                name: Some(name),
                namespace: pod.namespace(),
                labels: from.labels,
                annotations: from.annotations,
                owner_references: Some(vec![controller_reference(pod)]),
                ..ObjectMeta::default()
            };
            Some(PersistentVolumeClaim { metadata, spec: Some(template.spec), status: None })
        })
        .collect()
}

async fn provide(client: &Client, cache: &Volumes, events: &EventSink, pod: &Pod) -> Result<(), RequestError> {
    let namespace = pod.namespace().unwrap_or_default();
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for claim in cache.claims.in_namespace(&namespace) {
        let owned = controller_of(claim.as_ref()).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
        if owned { own.push(claim.name_any()) } else { foreign.push(claim.name_any()) }
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let prefix = format!("{}-", pod.name_any());
    let of_volume = |claim: &str| format!("ephemeral volume {}", claim.strip_prefix(&prefix).unwrap_or(claim));
    for claim in missing(pod, &own) {
        let name = claim.name_any();
        if foreign.contains(&name) {
            let note = format!(
                "{}: PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
                of_volume(&name),
                pod.name_any()
            );
            events.publish(&pod.object_ref(&()), EventType::Warning, "FailedBinding", note).await;
            continue;
        }
        match api.create(&post(), &claim).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let note = format!("{}: create PVC {name}: {}", of_volume(&name), said(&error));
                events.publish(&pod.object_ref(&()), EventType::Warning, "FailedBinding", note).await;
                return Err(error).attempt(|| format!("create PersistentVolumeClaim {namespace}/{name} of a pod"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_gets_the_claims_that_it_brings() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]},
                }}},
                {"name": "other", "emptyDir": {}},
            ]},
        }))
        .unwrap();
        let made = missing(&pod, &[]);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].name_any(), "web-tmp");
        assert_eq!(made[0].metadata.owner_references.as_ref().unwrap()[0].uid, "u");
        assert!(missing(&pod, &["web-tmp".to_owned()]).is_empty());
    }
}
