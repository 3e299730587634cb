//! The class of service of a pod, by what it requests and limits.

use martello_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::object;

/// `Guaranteed`, `Burstable` or `BestEffort`, by cpu and memory of the pod, or else of its containers.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let mut look = |resources: Option<&Value>| {
        for resource in ["cpu", "memory"] {
            let read = |part: &str| {
                let amount = resources.map_or("", |resources| object::text(resources, &[part, resource]));
                amount.parse::<Quantity>().ok().filter(|quantity| !quantity.is_zero())
            };
            let (request, limit) = (read("requests"), read("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    };
    match object::at(pod, &["spec", "resources"]).filter(|resources| !object::is_zero(resources)) {
        Some(resources) => look(Some(resources)),
        None => {
            for list in ["containers", "initContainers"] {
                for container in object::list(pod, &["spec", list]) {
                    look(container.get("resources"));
                }
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
