//! What a pod takes while it is resized: the most of what it asks for, what it was granted and what it has.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::registry::{
    core::pod_usage::{Amounts, read},
    object,
};

/// The pod with its containers' requests and limits as they count.
pub(super) fn effective(pod: &Value) -> Cow<'_, Value> {
    let lists = [("containers", "containerStatuses", false), ("initContainers", "initContainerStatuses", true)];
    let told = lists.iter().any(|(_, statuses, _)| {
        object::list(pod, &["status", statuses]).iter().any(|status| status.get("resources").is_some())
    });
    if !told {
        return Cow::Borrowed(pod);
    }
    let infeasible = is_infeasible(pod);
    let mut made = pod.clone();
    for (list, statuses, only_staying) in lists {
        let statuses = object::list(pod, &["status", statuses]);
        for container in object::list_mut(&mut made, &["spec", list]).into_iter().flatten() {
            if only_staying && object::text(container, &["restartPolicy"]) != "Always" {
                continue;
            }
            let name = object::text(container, &["name"]).to_owned();
            let Some(status) = statuses.iter().find(|status| object::text(status, &["name"]) == name) else { continue };
            if status.get("resources").is_none_or(Value::is_null) {
                continue;
            }
            for part in ["requests", "limits"] {
                let mut most = read(object::at(status, &["resources", part]));
                if part == "requests" {
                    raise(&mut most, read(status.get("allocatedResources")));
                }
                if !infeasible {
                    raise(&mut most, read(object::at(container, &["resources", part])));
                }
                object::set(container, &["resources"], part, written(&most));
            }
        }
    }
    Cow::Owned(made)
}

/// Whether the node can't do what a resize asks for: then that does not count.
fn is_infeasible(pod: &Value) -> bool {
    let conditions = object::list(pod, &["status", "conditions"]);
    let pending = conditions.iter().find(|condition| object::text(condition, &["type"]) == "PodResizePending");
    pending.is_some_and(|condition| object::text(condition, &["reason"]) == "Infeasible")
}

fn raise(most: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let own = most.entry(name).or_default();
        *own = (*own).max(amount);
    }
}

fn written(amounts: &Amounts) -> Value {
    let map: Map<String, Value> =
        amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_shrinks_counts_for_what_it_still_has() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}}]},
            "status": {"containerStatuses": [{
                "name": "c",
                "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}},
                "allocatedResources": {"cpu": "1500m"},
            }]},
        });
        let counted = |pod: &Value, part: &str| effective(pod)["spec"]["containers"][0]["resources"][part].clone();
        assert_eq!(counted(&pod, "requests"), json!({"cpu": "2"}));
        assert_eq!(counted(&pod, "limits"), json!({"cpu": "3"}));
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(counted(&pod, "limits"), json!({"cpu": "2"}));
    }
}
