//! RuntimeClasses: what a runtime takes for itself, and on which nodes it is.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{
    registry::{call::Call, kind::Kind, node::runtime_class::same_toleration, object},
    server::Core,
};

const UNLIKE: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const WITHOUT: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

async fn class_of(core: &Arc<Core>, kind: &Kind, pod: &Value) -> Result<Option<Value>, ApiError> {
    let Some(name) = object::at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) else { return Ok(None) };
    let Some(classes) = core.registry.find("node.k8s.io", "v1", "runtimeclasses") else { return Ok(None) };
    match core.find(classes, "", name).await? {
        Some(entry) => core.value(classes, &entry).await.map(Some),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(kind.forbidden(object::name(pod), &why))
        }
    }
}

/// Fills in what the class of a new pod says.
pub async fn fill(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    let Some(class) = class_of(core, kind, pod).await? else { return Ok(()) };
    if let Some(overhead) = object::at(&class, &["overhead", "podFixed"]).filter(|own| !own.is_null()) {
        let own = object::at(pod, &["spec", "overhead"]).filter(|own| !own.is_null());
        if own.is_some_and(|own| !object::semantically_equal(Some(own), Some(overhead))) {
            return Err(kind.forbidden(object::name(pod), UNLIKE));
        }
        object::set(pod, &["spec"], "overhead", overhead.clone());
    }
    let labels = object::at(&class, &["scheduling", "nodeSelector"]).and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        let own = object::at(pod, &["spec", "nodeSelector", key]).and_then(Value::as_str);
        let value = value.as_str().unwrap_or_default();
        if let Some(own) = own.filter(|own| *own != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            );
            return Err(kind.forbidden(object::name(pod), &why));
        }
        object::set(pod, &["spec", "nodeSelector"], key, value);
    }
    let more = object::list(&class, &["scheduling", "tolerations"]);
    let mut all = object::list(pod, &["spec", "tolerations"]).to_vec();
    let before = all.len();
    for one in more {
        if !all.iter().any(|own| same_toleration(own, one)) {
            all.push(one.clone());
        }
    }
    if all.len() > before {
        object::set(pod, &["spec"], "tolerations", all);
    }
    Ok(())
}

/// Refuses a pod whose overhead is not that of its class.
pub async fn check(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &Value) -> Result<(), ApiError> {
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    let class = class_of(core, kind, pod).await?;
    let of_class = class.as_ref().and_then(|class| object::at(class, &["overhead", "podFixed"]));
    let own = object::at(pod, &["spec", "overhead"]).filter(|own| !own.is_null());
    let why = match (of_class.filter(|amounts| !amounts.is_null()), own) {
        (Some(wanted), own) if !object::semantically_equal(Some(wanted), own) => UNLIKE,
        (None, Some(_)) => WITHOUT,
        _ => return Ok(()),
    };
    Err(kind.forbidden(object::name(pod), why))
}
