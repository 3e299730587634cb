//! `pods/ephemeralcontainers` and `pods/resize`: the two parts of a running pod's spec that may change.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::pod_defaults;
use crate::{
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind, Served},
        object,
        verbs::{
            answer,
            change::{Part, Plan, change},
            get,
        },
    },
    server::Core,
};

/// `pods/ephemeralcontainers`.
pub struct EphemeralContainers;

impl Connect for EphemeralContainers {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            part(core, kind, &call, "ephemeralcontainers", &|new, current| {
                let containers = object::list(new, &["spec", "ephemeralContainers"]).to_vec();
                let mut changed = current.clone();
                object::set(&mut changed, &["spec"], "ephemeralContainers", containers);
                changed
            })
            .await
        })
    }
}

/// `pods/resize`.
pub struct Resize;

impl Connect for Resize {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            part(core, kind, &call, "resize", &|new, current| {
                let mut changed = current.clone();
                if let Some(spec) = changed.get_mut("spec") {
                    object::copy_key(spec, new.get("spec").unwrap_or(&Value::Null), "resources");
                }
                for list in ["containers", "initContainers"] {
                    let from = object::list(new, &["spec", list]).to_vec();
                    let names = |all: &[Value]| -> Vec<Value> {
                        all.iter().map(|one| one.get("name").cloned().unwrap_or_default()).collect()
                    };
                    if names(&from) != names(object::list(current, &["spec", list])) {
                        // Refused when it is checked: what is not the same list can't be resized.
                        object::set(&mut changed, &["spec"], list, from);
                        continue;
                    }
                    for (container, other) in
                        object::list_mut(&mut changed, &["spec", list]).into_iter().flatten().zip(&from)
                    {
                        object::copy_key(container, other, "resources");
                        object::copy_key(container, other, "resizePolicy");
                    }
                }
                changed
            })
            .await
        })
    }
}

/// What each of the two can change, and so what its writers can own.
pub fn written_fields(subresource: &str) -> Option<&'static [&'static [&'static str]]> {
    match subresource {
        "ephemeralcontainers" => Some(&[&["spec", "ephemeralContainers"]]),
        "resize" => Some(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        _ => None,
    }
}

/// Which pod is meant is as it was sent, and an apply says already whose fields are whose; the rest of the metadata stays.
fn identify(changed: &mut Value, sent: &Value, applied: bool) {
    if applied {
        match object::at(sent, &["metadata", "managedFields"]).cloned() {
            Some(owners) => object::set(changed, &["metadata"], "managedFields", owners),
            None => drop(object::remove(changed, &["metadata"], "managedFields")),
        }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        if let Some(given) = object::at(sent, &["metadata", key]).filter(|given| !object::is_zero(given)).cloned() {
            object::set(changed, &["metadata"], key, given);
        }
    }
    match object::at(sent, &["metadata", "resourceVersion"]).cloned() {
        Some(version) => object::set(changed, &["metadata"], "resourceVersion", version),
        None => drop(object::remove(changed, &["metadata"], "resourceVersion")),
    }
}

type Take<'a> = &'a (dyn Fn(&Value, &Value) -> Value + Send + Sync);

/// Changes one part of the spec: `take` moves it from what was sent into the current pod.
async fn part(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    name: &'static str,
    take: Take<'_>,
) -> Result<Reply, ApiError> {
    if call.verb == "get" {
        return get::get(core, kind, call).await;
    }
    let updates = call.verb == "update";
    let body = if updates { Some(codec::decode(kind, call, "UpdateOptions")?) } else { None };
    let patch = if updates { None } else { Some(codec::Patch::read(kind, call)?) };
    let dry_run = call.dry_run(if updates { "UpdateOptions" } else { "PatchOptions" })?;
    body.as_ref().map_or(Ok(()), |body| call.check_identity(body))?;
    let plan = Plan {
        part: Part::Whole(name),
        dry_run,
        creates: false,
        unconditional: true,
        transform: &|current| {
            let Some(current) = current else { return Err(kind.not_found(call.name())) };
            let new = match (&body, &patch) {
                (Some(body), _) => body.clone(),
                (None, Some(patch)) => patch.apply(kind, call, current, name)?,
                (None, None) => return Err(ApiError::method_not_allowed()),
            };
            let mut changed = take(&new, current);
            pod_defaults::spec(&mut changed, &["spec"], true);
            identify(&mut changed, &new, patch.as_ref().is_some_and(codec::Patch::is_apply));
            Ok(changed)
        },
    };
    let (written, _) = change(core, kind, call, &plan).await?;
    answer::stored(core, kind, call, 200, written).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_sent_says_which_pod_is_meant() {
        let mut changed = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": "3", "labels": {"a": "b"}}});
        identify(&mut changed, &json!({"metadata": {"name": "p", "uid": "v", "labels": {"c": "d"}}}), false);
        assert_eq!(changed, json!({"metadata": {"name": "p", "uid": "v", "labels": {"a": "b"}}}));
    }

    #[test]
    fn an_apply_says_whose_the_fields_are() {
        let owners = |manager: &str| json!([{"manager": manager, "operation": "Apply"}]);
        let live = json!({"metadata": {"name": "p", "managedFields": owners("one")}});
        let sent = json!({"metadata": {"name": "p", "managedFields": owners("two")}});
        let (mut applied, mut updated) = (live.clone(), live.clone());
        identify(&mut applied, &sent, true);
        identify(&mut updated, &sent, false);
        assert_eq!(applied["metadata"]["managedFields"], owners("two"));
        assert_eq!(updated["metadata"]["managedFields"], owners("one"));
    }
}
