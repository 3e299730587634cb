//! Sends a pod's status to the API server.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::{
    ResourceExt as _,
    api::{Api, DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use super::{
    checks::full,
    events::{Kind, Recorder},
};
use crate::pods::status::full_name;

/// Why a status wasn't sent.
#[derive(Debug)]
pub enum Failure {
    /// The pod isn't there any more.
    Gone,
    /// It may work later.
    Again(String),
}

/// The conditions that this agent sets.
const OWN: [&str; 5] = ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];

/// Sends `status`; the pod's uid keeps it from another pod of the same name.
///
/// # Errors
/// If the API server refuses or can't be reached.
pub async fn send(client: &kube::Client, pod: &Pod, status: &PodStatus) -> Result<(), Failure> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let change = change(pod, status);
    let sent = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(change)).await;
    sent.map(drop).map_err(failure)
}

/// Removes the pod from the API server, if it's still the same one.
///
/// # Errors
/// If the API server refuses or can't be reached.
pub async fn remove(client: &kube::Client, pod: &Pod) -> Result<(), Failure> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let params =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(&pod.name_any(), &params).await.map(drop).map_err(failure)
}

fn failure(error: kube::Error) -> Failure {
    match &error {
        // A conflict means that another pod has this name now.
        kube::Error::Api(status) if status.code == 404 || status.code == 409 => Failure::Gone,
        _ => Failure::Again(full(&error)),
    }
}

/// The change to be merged; what is empty is taken away in so many words.
fn change(pod: &Pod, status: &PodStatus) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    if let Some(map) = status.as_object_mut() {
        for name in ["reason", "message", "podIP", "podIPs"] {
            map.entry(name).or_insert(Value::Null);
        }
        let conditions = map.get_mut("conditions").and_then(Value::as_array_mut);
        if let Some(conditions) = conditions {
            conditions.retain(|one| one.get("type").and_then(Value::as_str).is_some_and(|name| OWN.contains(&name)));
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                for name in ["reason", "message", "lastProbeTime"] {
                    condition.entry(name).or_insert(Value::Null);
                }
            }
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// Takes conditions that others set from the pod's object.
pub fn join_foreign_conditions(status: &mut PodStatus, current: Option<&PodStatus>) {
    let foreign = current.iter().flat_map(|status| status.conditions.iter().flatten());
    let foreign = foreign.filter(|one| !OWN.contains(&one.type_.as_str())).cloned();
    let own = status.conditions.take().into_iter().flatten().filter(|one| OWN.contains(&one.type_.as_str()));
    status.conditions = Some(own.chain(foreign).collect());
}

/// Tells of waits that begin with this status.
pub fn tell_backoffs(events: &Recorder, pod: &Pod, before: &PodStatus, now: &PodStatus) {
    for (old, new) in [
        (&before.container_statuses, &now.container_statuses),
        (&before.init_container_statuses, &now.init_container_statuses),
        (&before.ephemeral_container_statuses, &now.ephemeral_container_statuses),
    ] {
        for status in new.iter().flatten() {
            let old = old.iter().flatten().find(|old| old.name == status.name);
            let reason = waiting_reason(status);
            if old.and_then(waiting_reason) == reason {
                continue;
            }
            let name = &status.name;
            match reason {
                Some("CrashLoopBackOff") => {
                    let message = format!("Back-off restarting failed container {name} in pod {}", full_name(pod));
                    events.container(pod, name, Kind::Warning, "BackOff", message);
                }
                Some("ImagePullBackOff") => {
                    let message = format!("Back-off pulling image {:?}", status.image);
                    events.container(pod, name, Kind::Normal, "BackOff", message);
                    events.container(pod, name, Kind::Warning, "Failed", "Error: ImagePullBackOff");
                }
                _ => {}
            }
        }
    }
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;

    #[test]
    fn what_is_empty_is_taken_away_and_others_conditions_stay_theirs() {
        let condition =
            |name: &str| PodCondition { type_: name.into(), status: "True".into(), ..PodCondition::default() };
        let status = PodStatus {
            conditions: Some(vec![condition("Ready"), condition("example.com/gate")]),
            ..PodStatus::default()
        };
        let change = change(&Pod::default(), &status);
        let conditions = change["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 1);
        assert!(conditions[0].get("reason").is_some_and(Value::is_null));
        assert!(change["status"].get("podIP").is_some_and(Value::is_null));
    }
}
