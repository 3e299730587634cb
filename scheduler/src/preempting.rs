//! Carries a preemption out: the pod is promised its node, and the victims are told why they end, and ended.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::events::{Event, EventType, Recorder},
};
use martello_api::clock;
use serde_json::json;

use crate::{SCHEDULER_NAME, placing::FIELD_MANAGER, preemption::Victims};

/// Ends the victims of `pod`. What fails is logged: the next try sees what is still there.
pub(crate) async fn carry_out(client: &Client, recorder: &Recorder, pod: &Pod, victims: &Victims) {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for victim in &victims.pods {
        let (namespace, name) = (victim.namespace().unwrap_or_default(), victim.name_any());
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let body = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{SCHEDULER_NAME}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": clock::rfc3339_seconds(clock::now())}]}});
        if let Err(error) = api.patch_status(&name, &params, &Patch::Strategic(body)).await {
            tracing::debug!(namespace, name, %error, "condition DisruptionTarget was not written");
        }
        let preconditions = Preconditions { uid: victim.uid(), resource_version: None };
        let ending = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&name, &ending).await {
            Ok(_) => {
                let note = format!("Preempted by pod {} on node {}", pod.uid().unwrap_or_default(), victims.node);
                let event = Event {
                    type_: EventType::Normal,
                    reason: "Preempted".to_owned(),
                    note: Some(note),
                    action: "Preempting".to_owned(),
                    secondary: Some(pod.object_ref(&())),
                };
                if let Err(error) = recorder.publish(&event, &victim.object_ref(&())).await {
                    tracing::debug!(namespace, name, %error, "event was not written");
                }
            }
            Err(error) => tracing::warn!(namespace, name, %error, "a pod could not be preempted"),
        }
    }
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let body = json!({"metadata": {"uid": pod.uid()}, "status": {"nominatedNodeName": victims.node}});
    if let Err(error) = api.patch_status(&name, &params, &Patch::Merge(body)).await {
        tracing::debug!(namespace, name, %error, "the promised node was not written");
    }
}
