//! LimitRanges: what containers get that ask for nothing, and what pods, containers and claims may ask for.

use std::sync::Arc;

use martello_api::{quantity::Quantity, status::ApiError};
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{
        call::Call,
        core::pod_usage::{Amounts, of_containers, read},
        kind::Kind,
        object,
    },
    server::Core,
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Lists of containers, and what messages call one.
const CONTAINERS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

/// The largest amount of whole units that is compared in thousandths, as upstream's.
const MAX_IN_MILLIS: i64 = i64::MAX / 1000;

/// Whether limits are about this call.
fn concerns(kind: &Kind, call: &Call, operation: Operation) -> bool {
    if !kind.group().is_empty() || operation == Operation::Delete {
        return false;
    }
    match (kind.name(), call.target.subresource.as_str()) {
        ("Pod", "") => operation == Operation::Create,
        ("Pod", "resize") => operation == Operation::Update,
        ("PersistentVolumeClaim", "") => true,
        _ => false,
    }
}

async fn ranges(core: &Core, namespace: &str) -> Result<Vec<Value>, ApiError> {
    let kind = core.registry.find("", "v1", "limitranges").ok_or_else(ApiError::no_such_route)?;
    core.all(kind, namespace).await
}

/// Fills in what the containers of a pod leave out.
pub async fn fill(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
) -> Result<(), ApiError> {
    if kind.name() != "Pod" || !concerns(kind, call, operation) {
        return Ok(());
    }
    let is_new = operation == Operation::Create;
    if !is_new && object::at(object, &["metadata", "deletionTimestamp"]).is_some() {
        return Ok(());
    }
    let notes = object::at(object, &["metadata", "annotations"]).cloned();
    for range in ranges(core, call.namespace()).await? {
        fill_pod(object, &range);
    }
    // Who resizes a pod changes nothing but its resources.
    match notes {
        _ if is_new => {}
        Some(notes) => object::set(object, &["metadata"], "annotations", notes),
        None => {
            object::remove(object, &["metadata"], "annotations");
        }
    }
    Ok(())
}

fn fill_pod(pod: &mut Value, range: &Value) {
    let mut defaults = [("requests", "request", "defaultRequest"), ("limits", "limit", "default")]
        .map(|(part, word, key)| (part, word, key, serde_json::Map::new()));
    for limit in limits_of(range, "Container") {
        for (_, _, key, all) in &mut defaults {
            all.extend(limit.get(*key).and_then(Value::as_object).cloned().into_iter().flatten());
        }
    }
    let mut notes = Vec::new();
    for (list, title) in CONTAINERS {
        for container in object::list_mut(pod, &["spec", list]).into_iter().flatten() {
            let name = object::text(container, &["name"]).to_owned();
            for (part, word, _, all) in &defaults {
                let mut set = Vec::new();
                for (resource, amount) in all {
                    if object::at(container, &["resources", part, resource]).is_none() {
                        object::set(container, &["resources", part], resource, amount.clone());
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    notes.push(format!("{} {word} for {title} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        object::set(pod, &["metadata", "annotations"], ANNOTATION, note);
    }
}

fn limits_of<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    object::list(range, &["spec", "limits"]).iter().filter(move |limit| object::text(limit, &["type"]) == kind)
}

/// Refuses what is outside of the limits of its namespace.
pub async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(object) = object.filter(|_| concerns(kind, call, operation)) else { return Ok(()) };
    // What is on its way out may still be changed, its finalizers above all.
    if operation == Operation::Update && object::at(object, &["metadata", "deletionTimestamp"]).is_some() {
        return Ok(());
    }
    for range in ranges(core, call.namespace()).await? {
        let mut faults = Vec::new();
        if kind.name() == "Pod" {
            pod_faults(object, &range, &mut faults);
        } else {
            claim_faults(object, &range, &mut faults);
        }
        if !faults.is_empty() {
            return Err(kind.forbidden(object::name(object), &together(faults)));
        }
    }
    Ok(())
}

/// Several faults in one message, each once.
fn together(mut faults: Vec<String>) -> String {
    let mut seen = Vec::new();
    faults.retain(|fault| {
        let fresh = !seen.contains(fault);
        seen.push(fault.clone());
        fresh
    });
    match faults.as_slice() {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    }
}

fn pod_faults(pod: &Value, range: &Value, faults: &mut Vec<String>) {
    for limit in object::list(range, &["spec", "limits"]) {
        match object::text(limit, &["type"]) {
            "Container" => {
                for (list, _) in CONTAINERS {
                    for container in object::list(pod, &["spec", list]) {
                        let of = |part: &str| read(object::at(container, &["resources", part]));
                        Asked { kind: "Container", requests: of("requests"), limits: of("limits") }
                            .against(limit, faults);
                    }
                }
            }
            "Pod" => {
                let of = |part: &str| of_containers(pod, part);
                Asked { kind: "Pod", requests: of("requests"), limits: of("limits") }.against(limit, faults);
            }
            _ => {}
        }
    }
}

fn claim_faults(claim: &Value, range: &Value, faults: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = read(object::at(claim, &["spec", "resources", "requests"]));
    let asked = Asked { kind: KIND, requests, limits: Amounts::new() };
    for limit in limits_of(range, KIND) {
        for (name, bound) in read(limit.get("min")) {
            asked.at_least(&name, bound, faults);
        }
        for (name, bound) in read(limit.get("max")) {
            asked.request_at_most(&name, bound, faults);
        }
    }
}

/// What a pod or container asks for.
struct Asked {
    kind: &'static str,
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn against(&self, limit: &Value, faults: &mut Vec<String>) {
        for (name, bound) in read(limit.get("min")) {
            self.at_least(&name, bound, faults);
        }
        for (name, bound) in read(limit.get("max")) {
            self.at_most(&name, bound, faults);
        }
        for (name, bound) in read(limit.get("maxLimitRequestRatio")) {
            self.in_ratio(&name, bound, faults);
        }
    }

    /// What is asked for, and a bound, as numbers of one precision: thousandths where none is too large for that.
    fn in_numbers(&self, name: &str, bound: Quantity) -> (i64, i64, i64) {
        let of = |amounts: &Amounts| amounts.get(name).copied().unwrap_or_default();
        let all = [of(&self.requests), of(&self.limits), bound];
        let fine = all.iter().all(|amount| amount.units() <= MAX_IN_MILLIS);
        let [request, limit, bound] = all.map(|amount| if fine { amount.millis() } else { amount.units() });
        (request, limit, bound)
    }

    fn at_least(&self, name: &str, bound: Quantity, faults: &mut Vec<String>) {
        let start = format!("minimum {name} usage per {} is {bound}", self.kind);
        let (request, limit, least) = self.in_numbers(name, bound);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => faults.push(format!("{start}.  No request is specified")),
            (Some(own), _) if request < least => faults.push(format!("{start}, but request is {own}")),
            (_, Some(own)) if limit < least => faults.push(format!("{start}, but limit is {own}")),
            _ => {}
        }
    }

    fn at_most(&self, name: &str, bound: Quantity, faults: &mut Vec<String>) {
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        let (request, limit, most) = self.in_numbers(name, bound);
        match (self.limits.get(name), self.requests.get(name)) {
            (None, _) => faults.push(format!("{start}.  No limit is specified")),
            (Some(own), _) if limit > most => faults.push(format!("{start}, but limit is {own}")),
            (_, Some(own)) if request > most => faults.push(format!("{start}, but request is {own}")),
            _ => {}
        }
    }

    fn request_at_most(&self, name: &str, bound: Quantity, faults: &mut Vec<String>) {
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        let (request, _, most) = self.in_numbers(name, bound);
        match self.requests.get(name) {
            None => faults.push(format!("{start}.  No request is specified")),
            Some(own) if request > most => faults.push(format!("{start}, but request is {own}")),
            Some(_) => {}
        }
    }

    fn in_ratio(&self, name: &str, bound: Quantity, faults: &mut Vec<String>) {
        let start = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
        let (request, limit, _) = self.in_numbers(name, bound);
        if request == 0 {
            return faults.push(format!("{start}, but no request is specified or request is 0"));
        }
        if limit == 0 {
            return faults.push(format!("{start}, but no limit is specified or limit is 0"));
        }
        let ratio = limit as f64 / request as f64;
        let exceeded = if bound.units() <= MAX_IN_MILLIS {
            ratio * 1000.0 > bound.millis() as f64
        } else {
            ratio > bound.units() as f64
        };
        if exceeded {
            faults.push(format!("{start}, but provided ratio is {ratio:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn several_faults_are_told_together() {
        let range = json!({"spec": {"limits": [
            {"type": "Container", "min": {"cpu": "1"}, "max": {"memory": "1Gi"}, "maxLimitRequestRatio": {"cpu": "2"}},
        ]}});
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "2Gi"},
        }}]}});
        let mut faults = Vec::new();
        pod_faults(&pod, &range, &mut faults);
        assert_eq!(
            together(faults),
            "[minimum cpu usage per Container is 1, but request is 500m, maximum memory usage per Container is 1Gi, but limit is 2Gi, cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000]"
        );
    }

    #[test]
    fn amounts_are_compared_in_thousandths_rounded_up() {
        let asked = |request: &str| {
            let requests = read(Some(&json!({"cpu": request})));
            Asked { kind: "Container", requests, limits: Amounts::new() }
        };
        let mut faults = Vec::new();
        asked("100u").at_least("cpu", "1m".parse().unwrap(), &mut faults);
        assert!(faults.is_empty());
        asked("0").at_least("cpu", "1m".parse().unwrap(), &mut faults);
        assert_eq!(faults, ["minimum cpu usage per Container is 1m, but request is 0"]);
    }

    #[test]
    fn what_is_left_out_is_filled_in_and_noted() {
        let range = json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1m"}}]}});
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
        fill_pod(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
        );
    }
}
