//! `pods/eviction`: a delete that asks the budgets first.

use std::sync::Arc;

use martello_api::{
    clock::rfc3339_seconds,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::budget::{self, Verdict};
use crate::{
    admission,
    registry::{
        call::Call,
        codec,
        kind::{Connect, Kind, Served},
        object,
        options::{DeleteOptions, UNSAFE_DELETE},
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
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            let dry_run = call.dry_run("CreateOptions")?;
            let mut body = codec::Foreign::read(&call, "policy", "v1", "Eviction")?.apply(&call, &Value::Null)?;
            object::set(&mut body, &[], "apiVersion", "policy/v1");
            let mut body = admission::fill_below(core, kind, &call, body).await?;
            if object::name(&body) != call.name() {
                return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
            }
            let mut options = match object::at(&body, &["deleteOptions"]).filter(|given| !given.is_null()) {
                Some(given) => delete_options(&call, given)?,
                None => DeleteOptions::default(),
            };
            options.dry_run |= dry_run;
            if options.dry_run && body.get("deleteOptions").is_some_and(Value::is_object) {
                object::set(&mut body, &["deleteOptions"], "dryRun", json!(["All"]));
            }
            admission::judge_below(core, kind, &call, &body).await?;
            evict(core, kind, &call, options).await?;
            let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            Ok(answer::encoded(&call, 201, &done))
        })
    }
}

/// The options in an eviction; those of the request must agree with them.
fn delete_options(call: &Call, given: &Value) -> Result<DeleteOptions, ApiError> {
    if object::flag(given, &[UNSAFE_DELETE]) {
        let why = "can not be set for pod eviction, try after removing the option";
        let cause = Cause::invalid(format!("deleteOptions.{UNSAFE_DELETE}"), &json!(true), why);
        return Err(ApiError::invalid("policy", "Eviction", call.name(), vec![cause]));
    }
    let asked: Vec<&str> = call.query.all("dryRun").collect();
    let own: Vec<&str> = object::list(given, &["dryRun"]).iter().filter_map(Value::as_str).collect();
    if let Some(why) = disagreement(&asked, &own) {
        return Err(ApiError::new(500, "", why));
    }
    DeleteOptions::read(&call.query, Some(given))
}

/// What is wrong with an eviction that is asked to be a trial in one way and says it is one in another.
fn disagreement(asked: &[&str], own: &[&str]) -> Option<String> {
    let differ = !asked.is_empty() && !own.is_empty() && asked != own;
    let shown = |values: &[&str]| values.join(" ");
    differ.then(|| {
        format!("Non-matching dry-run options in request and content: [{}] and [{}]", shown(asked), shown(own))
    })
}

async fn evict(core: &Arc<Core>, kind: &Arc<Kind>, call: &Call, options: DeleteOptions) -> Result<(), ApiError> {
    let pinned = options.resource_version.is_some();
    let mut attempts = 1..ATTEMPTS;
    loop {
        let entry = core.get(kind, call.namespace(), call.name()).await?;
        let pod = core.value(kind, &entry).await?;
        if guarded(&pod) {
            return beside_budgets(core, kind, call, options, &pod).await;
        }
        let mut options = options.clone();
        if may_start(&pod) && !pinned {
            options.resource_version = Some(object::text(&pod, &["metadata", "resourceVersion"]).to_owned());
        }
        match delete(core, kind, call, options).await {
            // What it became meanwhile may be guarded.
            Err(error) if error.code == 409 && !pinned && attempts.next().is_some() => {}
            done => return done,
        }
    }
}

/// Evicts a pod that budgets may guard.
async fn beside_budgets(
    core: &Arc<Core>,
    kind: &Arc<Kind>,
    call: &Call,
    mut options: DeleteOptions,
    pod: &Value,
) -> Result<(), ApiError> {
    let pinned = options.resource_version.is_some();
    match budget::ask(core, call, pod, options.dry_run).await? {
        // The pod is spared no budget only while it is as it was looked at.
        Verdict::Unhealthy(name) if !pinned => {
            options.resource_version = Some(object::text(pod, &["metadata", "resourceVersion"]).to_owned());
            delete(core, kind, call, options).await.map_err(|error| match error.code {
                409 => budget::busy(&name),
                _ => error,
            })
        }
        Verdict::Free | Verdict::Unhealthy(_) => delete(core, kind, call, options).await,
    }
}

/// Whether a pod that no budget guards could become one that is guarded.
fn may_start(pod: &Value) -> bool {
    object::text(pod, &["status", "phase"]) == "Pending" && !object::is_terminating(pod)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eviction_is_a_trial_or_not() {
        for (asked, own) in [(&[][..], &["All"][..]), (&["All"], &[]), (&["All"], &["All"])] {
            assert_eq!(disagreement(asked, own), None);
        }
        assert_eq!(
            disagreement(&["All"], &["a", "b"]).unwrap(),
            "Non-matching dry-run options in request and content: [All] and [a b]"
        );
    }

    #[test]
    fn only_a_pod_that_runs_is_guarded() {
        let pod = |phase: &str| json!({"metadata": {}, "status": {"phase": phase}});
        for (phase, is_guarded, starts) in
            [("Running", true, false), ("Pending", false, true), ("Failed", false, false), ("", true, false)]
        {
            assert_eq!((guarded(&pod(phase)), may_start(&pod(phase))), (is_guarded, starts), "{phase}");
        }
    }
}
