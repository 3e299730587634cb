//! Priority: the class of a pod becomes its number and its way with lesser pods.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::{Operation, forbidden};
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// Resolves the priority of a new pod; that of a changed one stays.
pub async fn resolve(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    if let Some(old) = old {
        for key in ["priority", "preemptionPolicy"] {
            if let Some(before) = object::at(old, &["spec", key]).cloned() {
                object::set_default(object, &["spec"], key, before);
            }
        }
        return Ok(());
    }
    let refuse = |pod: &Value, why: String| Err(forbidden(kind, call, pod, &why));
    let asked = object::text(object, &["spec", "priorityClassName"]).to_owned();
    let class = if asked.is_empty() {
        default_class(core, None).await?
    } else {
        let Some(class) = find(core, &asked).await? else {
            return refuse(object, format!("no PriorityClass with name {asked} was found"));
        };
        Some(class)
    };
    let (priority, policy) = match &class {
        Some(class) => {
            object::set(object, &["spec"], "priorityClassName", object::name(class));
            (object::int(class, &["value"]).unwrap_or(0), object::text(class, &["preemptionPolicy"]))
        }
        None => (0, "PreemptLowerPriority"),
    };
    const END: &str = "from the given PriorityClass name";
    if let Some(own) = object::int(object, &["spec", "priority"])
        && own != priority
    {
        return refuse(
            object,
            format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} {END}"
            ),
        );
    }
    object::set(object, &["spec"], "priority", priority);
    let own = object::text(object, &["spec", "preemptionPolicy"]);
    if !policy.is_empty() {
        if !own.is_empty() && own != policy {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} {END}"
            );
            return refuse(object, why);
        }
        object::set(object, &["spec"], "preemptionPolicy", policy);
    }
    Ok(())
}

/// Refuses a second default class.
pub async fn check_class(
    core: &Arc<Core>,
    kind: &Kind,
    operation: Operation,
    class: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(class) = class.filter(|class| object::flag(class, &["globalDefault"])) else { return Ok(()) };
    let except = (operation == Operation::Update).then(|| object::name(class));
    match default_class(core, except).await? {
        Some(other) => {
            let name = object::name(&other);
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(kind.forbidden(object::name(class), &why))
        }
        None => Ok(()),
    }
}

async fn find(core: &Arc<Core>, name: &str) -> Result<Option<Value>, ApiError> {
    let Some(classes) = core.registry.find("scheduling.k8s.io", "v1", "priorityclasses") else { return Ok(None) };
    match core.find(classes, "", name).await? {
        Some(entry) => core.value(classes, &entry).await.map(Some),
        None => Ok(None),
    }
}

/// The class of pods that name none: of several the least.
async fn default_class(core: &Arc<Core>, except: Option<&str>) -> Result<Option<Value>, ApiError> {
    let Some(classes) = core.registry.find("scheduling.k8s.io", "v1", "priorityclasses") else { return Ok(None) };
    let mut all = core.all(classes, "").await?;
    all.retain(|class| object::flag(class, &["globalDefault"]) && Some(object::name(class)) != except);
    Ok(all.into_iter().min_by_key(|class| object::int(class, &["value"])))
}
