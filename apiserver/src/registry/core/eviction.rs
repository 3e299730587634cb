//! `pods/eviction`: a delete that asks the budgets first.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{clock::rfc3339_seconds, status::ApiError};
use serde_json::{Value, json};

use super::budget::{self, Verdict};
use crate::{
    admission,
    http::reply::Reply,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind},
        object,
        options::DeleteOptions,
        storage::{Expected, WriteError},
        verbs::{answer, change::MODIFIED, delete::delete_object},
    },
    server::Core,
};

/// How often an eviction is tried anew when another write came between.
const ATTEMPTS: usize = 20;

/// The eviction subresource.
pub struct Evictions;

impl Connect for Evictions {
    fn serve<'a>(
        &'a self,
        core: &'a Arc<Core>,
        kind: &'a Arc<Kind>,
        call: Call,
    ) -> BoxFuture<'a, Result<Reply, ApiError>> {
        Box::pin(async move {
            let dry_run = call.dry_run("CreateOptions")?;
            let body = codec::Foreign::read(&call, "policy", "v1", "Eviction")?.apply(&call, &Value::Null)?;
            if object::name(&body) != call.name() {
                return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
            }
            let body = admission::created_below(core, kind, &call, body).await?;
            let mut options = DeleteOptions::read(&call.query, body.get("deleteOptions"))?;
            options.dry_run |= dry_run;
            evict(core, kind, &call, options).await?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            Ok(answer::encoded(&call, 201, &done))
        })
    }
}

async fn evict(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, mut options: DeleteOptions) -> Result<(), ApiError> {
    let entry = core.get(kind, call.namespace(), call.name()).await?;
    let pod = core.value(kind, &entry).await?;
    let pinned = options.resource_version.is_some();
    if guarded(&pod) {
        match budget::ask(core, call, &pod, options.dry_run).await? {
            Verdict::Free => {}
            // The pod is spared no budget only while it is as it was looked at.
            Verdict::Unhealthy(name) if !pinned => {
                options.resource_version = Some(object::text(&pod, &["metadata", "resourceVersion"]).to_owned());
                return delete(core, kind, call, options).await.map_err(|error| match error.code {
                    409 => budget::busy(&name),
                    _ => error,
                });
            }
            Verdict::Unhealthy(_) => {}
        }
    }
    delete(core, kind, call, options).await
}

/// Whether a budget may hold the pod back: one that does not run, or goes anyway, disrupts nothing.
fn guarded(pod: &Value) -> bool {
    !matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        && !object::is_terminating(pod)
}

/// Says in the pod why it goes, and deletes it.
async fn delete(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, mut options: DeleteOptions) -> Result<(), ApiError> {
    if !options.dry_run {
        let revision = mark(core, kind, call, &options).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(revision.to_string());
        }
    }
    delete_object(core, kind, call, call.namespace(), call.name(), &options).await.map(|_| ())
}

async fn mark(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, options: &DeleteOptions) -> Result<u64, ApiError> {
    for _ in 0..ATTEMPTS {
        let entry = core.get(kind, call.namespace(), call.name()).await?;
        let pod = core.value(kind, &entry).await?;
        check(&pod, options)?;
        let mut marked = pod.clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": rfc3339_seconds(call.now),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        });
        set_condition(&mut marked, condition);
        codec::normalize(kind, &mut marked);
        if marked == pod {
            return Ok(entry.revision);
        }
        match core.put(kind, &marked, Expected::Revision(entry.revision)).await {
            Ok(stored) => {
                kind.after_commit(core, Some(&marked), Some(&pod), stored.revision);
                return Ok(stored.revision);
            }
            Err(WriteError::Conflict(_)) => {}
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
    Err(kind.conflict(call.name(), MODIFIED))
}

/// Sets a condition of a status; the time stays where the truth does.
pub(super) fn set_condition(object: &mut Value, mut condition: Value) {
    let mut all = object::list(object, &["status", "conditions"]).to_vec();
    let kind = object::text(&condition, &["type"]).to_owned();
    match all.iter_mut().find(|own| object::text(own, &["type"]) == kind) {
        Some(own) => {
            if own.get("status") == condition.get("status")
                && let Some(time) = own.get("lastTransitionTime").cloned()
            {
                object::set(&mut condition, &[], "lastTransitionTime", time);
            }
            *own = condition;
        }
        None => all.push(condition),
    }
    object::set(object, &["status"], "conditions", all);
}

/// The pod must be the one that was meant.
fn check(pod: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let name = object::name(pod);
    let refuse = |why: String| Err(ApiError::conflict("", "Pod", name, &why));
    let (uid, revision) = (object::uid(pod), object::text(pod, &["metadata", "resourceVersion"]));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        return refuse(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != revision)
    {
        return refuse(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). The object might have been modified"
        ));
    }
    Ok(())
}
