//! RuntimeClasses: what a runtime takes for itself, and on which nodes it is.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::{Value, json};

use super::forbidden;
use crate::{
    registry::{call::Call, kind::Kind, node::runtime_class::same_toleration, object},
    server::Core,
};

const UNLIKE: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const WITHOUT: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

async fn class_of(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &Value) -> Result<Option<Value>, ApiError> {
    let Some(name) = object::at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) else { return Ok(None) };
    let Some(classes) = core.registry.find("node.k8s.io", "v1", "runtimeclasses") else { return Ok(None) };
    match core.find(classes, "", name).await? {
        Some(entry) => core.value(classes, &entry).await.map(Some),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(forbidden(kind, call, pod, &why))
        }
    }
}

/// Fills in what the class of a new pod says.
pub async fn fill(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    let Some(class) = class_of(core, kind, call, pod).await? else { return Ok(()) };
    if let Some(overhead) = object::at(&class, &["overhead", "podFixed"]).filter(|own| !own.is_null()) {
        let own = object::at(pod, &["spec", "overhead"]).filter(|own| !own.is_null());
        if own.is_some() && !same_overhead(own, overhead) {
            return Err(forbidden(kind, call, pod, UNLIKE));
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
            return Err(forbidden(kind, call, pod, &why));
        }
        object::set(pod, &["spec", "nodeSelector"], key, value);
    }
    let more = object::list(&class, &["scheduling", "tolerations"]);
    let all = [object::list(pod, &["spec", "tolerations"]), more].concat();
    if class.get("scheduling").is_some_and(Value::is_object) && !all.is_empty() {
        object::set(pod, &["spec"], "tolerations", merged(&all));
    }
    Ok(())
}

/// Tolerations without those that others make superfluous; of equal ones the first stays.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(all.len());
    for (at, one) in all.iter().enumerate() {
        let later = all.iter().skip(at + 1);
        let needed = !kept.iter().any(|other| covers(other, one))
            && !later.into_iter().any(|other| covers(other, one) && !same(other, one));
        if needed {
            kept.push(one.clone());
        }
    }
    kept
}

fn same(one: &Value, other: &Value) -> bool {
    let seconds = |toleration: &Value| object::int(toleration, &["tolerationSeconds"]);
    same_toleration(one, other) && seconds(one) == seconds(other)
}

/// Whether `wide` tolerates all that `one` does.
fn covers(wide: &Value, one: &Value) -> bool {
    if same(wide, one) {
        return true;
    }
    let (of_wide, of_one) = (|key: &str| object::text(wide, &[key]), |key: &str| object::text(one, &[key]));
    let any_key = of_wide("key").is_empty() && of_wide("operator") == "Exists";
    if of_one("key") != of_wide("key") && !any_key {
        return false;
    }
    if of_one("effect") != of_wide("effect") && !of_wide("effect").is_empty() {
        return false;
    }
    if of_wide("effect") == "NoExecute"
        && let Some(most) = object::int(wide, &["tolerationSeconds"])
        && object::int(one, &["tolerationSeconds"]).is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match of_wide("operator") {
        "Equal" | "" => of_one("operator") == "Equal" && of_one("value") == of_wide("value"),
        "Exists" => true,
        _ => false,
    }
}

/// Whether a pod has the overhead of its class, however the amounts are written.
fn same_overhead(own: Option<&Value>, of_class: &Value) -> bool {
    let pod = |overhead: Option<&Value>| json!({"overhead": overhead});
    object::same_of("io.k8s.api.core.v1.PodSpec", Some(&pod(own)), Some(&pod(Some(of_class))))
}

/// Refuses a pod whose overhead is not that of its class.
pub async fn check(core: &Arc<Core>, kind: &Kind, call: &Call, pod: &Value) -> Result<(), ApiError> {
    if !call.target.subresource.is_empty() {
        return Ok(());
    }
    let class = class_of(core, kind, call, pod).await?;
    let of_class = class.as_ref().and_then(|class| object::at(class, &["overhead", "podFixed"]));
    let own = object::at(pod, &["spec", "overhead"]).filter(|own| !own.is_null());
    let why = match (of_class.filter(|amounts| !amounts.is_null()), own) {
        (Some(wanted), own) if !same_overhead(own, wanted) => UNLIKE,
        (None, Some(_)) => WITHOUT,
        _ => return Ok(()),
    };
    Err(forbidden(kind, call, pod, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_toleration_stands_for_narrower_ones() {
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let other = json!({"key": "b", "operator": "Equal", "value": "x"});
        let all = json!({"operator": "Exists"});
        assert_eq!(merged(&[short.clone(), other.clone(), other.clone()]), [short.clone(), other.clone()]);
        assert_eq!(merged(&[short.clone(), other, all.clone()]), [all]);
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600});
        assert_eq!(merged(&[short, long.clone()]), [long]);
    }
}
