//! Pods that could harm their node are refused, as far as the labels of their namespace ask; workloads are warned about.

use std::{collections::BTreeMap, sync::Arc};

use martello_api::status::ApiError;
use martello_policy::admission::{Levels, Verdict, judge_pod, judge_template};
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// Where the pod template of a kind is; none for kinds without.
fn template<'a>(kind: &Kind, object: &'a Value) -> Option<&'a Value> {
    match (kind.group(), kind.name()) {
        ("apps", _) | ("", "ReplicationController") => object::at(object, &["spec", "template"]),
        ("batch", "Job") => object::at(object, &["spec", "template"]),
        ("batch", "CronJob") => object::at(object, &["spec", "jobTemplate", "spec", "template"]),
        ("", "PodTemplate") => object.get("template"),
        _ => None,
    }
}

/// Judges a pod or a workload that is about to be stored.
pub async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(object) = object.filter(|_| operation != Operation::Delete) else { return Ok(()) };
    let is_pod = super::is_pod(kind);
    let template = template(kind, object);
    if !is_pod && template.is_none() {
        return Ok(());
    }
    if old.is_some_and(|old| old.get("spec") == object.get("spec")) {
        return Ok(());
    }
    let levels = levels(core, call.namespace()).await?;
    let (user, namespace) = (call.user.name.as_str(), call.namespace());
    let verdict: Verdict = match template {
        Some(template) => judge_template(user, namespace, template, &levels),
        None => judge_pod(user, namespace, object, &levels),
    };
    verdict.warnings.into_iter().for_each(|warning| call.warn(warning));
    match verdict.refusal {
        Some(why) if is_pod => Err(kind.forbidden(object::name(object), &why)),
        _ => Ok(()),
    }
}

async fn levels(core: &Arc<Core>, namespace: &str) -> Result<Levels, ApiError> {
    let mut labels = BTreeMap::new();
    if let Some(kind) = core.registry.find("", "v1", "namespaces")
        && let Some(entry) = core.find(kind, "", namespace).await?
    {
        labels.extend(entry.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    Ok(Levels::of_labels(&labels))
}
