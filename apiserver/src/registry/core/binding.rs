//! Binding a pod to a node: the scheduler's one write.

use std::sync::Arc;

use martello_api::{
    clock::rfc3339_seconds,
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use crate::{
    admission,
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind, Served, Strategy, resource},
        object,
        verbs::{
            answer,
            change::{Part, Plan, change},
        },
    },
    server::Core,
};

/// The legacy collection of bindings; its objects are not kept.
pub struct Bindings;

impl Strategy for Bindings {
    fn resource(&self) -> Resource {
        resource("", "v1", "Binding", "bindings").verbs(&["create"]).build()
    }
}

/// Binds a pod through the collection of bindings: as `pods/binding` does, with the pod's name in the body. For policies
/// and webhooks it is a binding, and nothing below a pod.
pub async fn create(core: &Arc<Core>, kind: &Arc<Kind>, mut call: Call) -> Result<Reply, ApiError> {
    let mut body = codec::Foreign::read(&call, "", "v1", "Binding")?.apply(&call, &Value::Null)?;
    object::remove(&mut body, &["metadata"], "uid");
    let body = admission::fill_below(core, kind, &call, body).await?;
    check_target(&body)?;
    admission::judge_below(core, kind, &call, &body).await?;
    let name = object::name(&body).to_owned();
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let pods = core.registry.find("", "v1", "pods").cloned().ok_or_else(ApiError::no_such_route)?;
    call.target.resource = "pods".to_owned();
    call.target.name = name;
    call.target.subresource = "binding".to_owned();
    let status = bind(core, &pods, &call, &body).await?;
    Ok(answer::encoded(&call, 201, &status))
}

/// `pods/binding`.
pub struct PodBinding;

impl Connect for PodBinding {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            let body = codec::Foreign::read(&call, "", "v1", "Binding")?.apply(&call, &Value::Null)?;
            let body = admission::fill_below(core, kind, &call, body).await?;
            if object::name(&body) != call.name() {
                return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
            }
            check_target(&body)?;
            admission::judge_below(core, kind, &call, &body).await?;
            let status = bind(core, kind, &call, &body).await?;
            Ok(answer::encoded(&call, 201, &status))
        })
    }
}

/// Carries out a binding that was admitted.
async fn bind(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, binding: &Value) -> Result<Value, ApiError> {
    let (dry_run, pod) = (call.dry_run("CreateOptions")?, call.name());
    let node = object::text(binding, &["target", "name"]);
    let plan = Plan {
        part: Part::Whole("binding"),
        dry_run,
        creates: false,
        unconditional: true,
        transform: &|current| {
            let Some(current) = current else { return Err(kind.not_found(pod)) };
            assign(current, binding, node, &rfc3339_seconds(call.now))
        },
    };
    change(core, kind, call, &plan).await?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

fn check_target(binding: &Value) -> Result<(), ApiError> {
    let kind = object::text(binding, &["target", "kind"]);
    let mut faults = Vec::new();
    if !matches!(kind, "Node" | "") {
        faults.push(Cause::not_supported("target.kind", &json!(kind), &["Node", "<empty>"]));
    }
    if object::text(binding, &["target", "name"]).is_empty() {
        faults.push(Cause::required("target.name", ""));
    }
    let said: Vec<String> = faults.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match said.as_slice() {
        [] => Ok(()),
        [one] => Err(ApiError::new(500, "", one.as_str())),
        many => Err(ApiError::new(500, "", format!("[{}]", many.join(", ")))),
    }
}

/// The pod must be the one that the binding means, where it says so.
fn met(pod: &Value, binding: &Value) -> Result<(), ApiError> {
    for (key, shown) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, found) = (object::text(binding, &["metadata", key]), object::text(pod, &["metadata", key]));
        if !wanted.is_empty() && wanted != found {
            let (namespace, name) = (object::namespace(pod), object::name(pod));
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/pods/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {shown} in precondition: {wanted}, {shown} in object meta: {found}"
            );
            return Err(ApiError::conflict("", "pods", name, &why));
        }
    }
    Ok(())
}

fn assign(pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, ApiError> {
    let name = object::name(pod);
    let refuse = |why: String| Err(ApiError::conflict("", "pods/binding", name, &why));
    met(pod, binding)?;
    if object::is_terminating(pod) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let on = object::text(pod, &["spec", "nodeName"]);
    if !on.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {on:?}"));
    }
    if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut new = pod.clone();
    object::set(&mut new, &["spec"], "nodeName", node);
    object::remove(&mut new, &["status"], "nominatedNodeName");
    for part in ["annotations", "labels"] {
        let given = object::at(binding, &["metadata", part]).and_then(Value::as_object);
        for (key, value) in given.into_iter().flatten() {
            object::set(&mut new, &["metadata", part], key, value.clone());
        }
    }
    let mut conditions = object::list(&new, &["status", "conditions"]).to_vec();
    let mut scheduled =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    match conditions.iter_mut().find(|condition| object::text(condition, &["type"]) == "PodScheduled") {
        Some(was) => {
            if object::text(was, &["status"]) == "True" {
                object::copy_key(&mut scheduled, was, "lastTransitionTime");
            }
            *was = scheduled;
        }
        None => conditions.push(scheduled),
    }
    object::set(&mut new, &["status"], "conditions", conditions);
    object::remove(&mut new, &["metadata"], "resourceVersion");
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_means_one_pod() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "status": {"nominatedNodeName": "other"},
        });
        let wrong = json!({"metadata": {"uid": "v"}});
        let why = assign(&pod, &wrong, "a", "now").unwrap_err().message;
        assert!(why.ends_with("Precondition failed: UID in precondition: v, UID in object meta: u"), "{why}");
        let bound = assign(&pod, &json!({"metadata": {"uid": "u", "labels": {"a": "b"}}}), "a", "now").unwrap();
        assert_eq!(bound["spec"]["nodeName"], "a");
        assert_eq!(bound["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(bound["status"].get("nominatedNodeName"), None);
    }

    #[test]
    fn a_binding_tells_that_a_pod_is_scheduled_where_it_was_told_that_it_is_not() {
        let pod = json!({"metadata": {"name": "p", "generation": 1}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "observedGeneration": 1},
            {"type": "Ready", "status": "False"},
        ]}});
        let bound = assign(&pod, &json!({}), "a", "now").unwrap();
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "now"});
        assert_eq!(bound["status"]["conditions"], json!([scheduled, {"type": "Ready", "status": "False"}]));
    }
}
