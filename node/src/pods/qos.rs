//! A pod's quality-of-service class, from its requests and limits.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::quantity::Amount;

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers().all(is_guaranteed) {
        "Guaranteed"
    } else if containers().all(|container| amount(container, "cpu").is_none() && amount(container, "memory").is_none())
    {
        "BestEffort"
    } else {
        "Burstable"
    }
}

fn is_guaranteed(container: &Container) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let Some(limit) = limit(container, name) else { return false };
        request(container, name).is_none_or(|request| request == limit)
    })
}

fn amount(container: &Container, name: &str) -> Option<Amount> {
    limit(container, name).or_else(|| request(container, name))
}

/// The limit of a container for `cpu`, `memory` or `ephemeral-storage`; zero counts as none.
#[must_use]
pub fn limit(container: &Container, name: &str) -> Option<Amount> {
    let quantity = container.resources.as_ref()?.limits.as_ref()?.get(name)?;
    Amount::parse(&quantity.0).filter(|amount| !amount.is_zero())
}

/// What all of the pod may use of `name`, as far as its containers say; nothing if none does. Init containers run
/// beside the sidecars before them only, so the most of them counts.
#[must_use]
pub fn total_limit(pod: &Pod, name: &str) -> Option<Amount> {
    let spec = pod.spec.as_ref()?;
    let own = |container: &Container| limit(container, name).unwrap_or_default();
    let (mut sidecars, mut first) = (Amount::default(), Amount::default());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.plus(own(container));
        } else {
            first = first.max(sidecars.plus(own(container)));
        }
    }
    let main = spec.containers.iter().fold(sidecars, |sum, container| sum.plus(own(container)));
    let overhead = spec.overhead.as_ref().and_then(|overhead| Amount::parse(&overhead.get(name)?.0));
    let most = Some(main.max(first)).filter(|most| !most.is_zero())?;
    Some(most.plus(overhead.unwrap_or_default()))
}

/// The memory that all of the pod may use, if there is a limit: its own, or that of its containers where each has one.
#[must_use]
pub fn memory_limit(pod: &Pod) -> Option<Amount> {
    let spec = pod.spec.as_ref()?;
    let own = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref()?.get("memory"));
    if let Some(own) = own.and_then(|own| Amount::parse(&own.0)).filter(|own| !own.is_zero()) {
        return Some(own);
    }
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.all(|container| limit(container, "memory").is_some()).then(|| total_limit(pod, "memory")).flatten()
}

/// The request of a container for `cpu` or `memory`; zero counts as none.
#[must_use]
pub fn request(container: &Container, name: &str) -> Option<Amount> {
    let quantity = container.resources.as_ref()?.requests.as_ref()?.get(name)?;
    Amount::parse(&quantity.0).filter(|amount| !amount.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "spec": {"containers": [{"name": "a", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_pods_limit_is_that_of_what_runs_at_a_time() {
        let container =
            |name: &str, memory: &str| serde_json::json!({"name": name, "resources": {"limits": {"memory": memory}}});
        let mut sidecar = container("s", "1Mi");
        sidecar["restartPolicy"] = "Always".into();
        let mut spec = serde_json::json!({
            "initContainers": [container("before", "4Mi"), sidecar, container("after", "4Mi")],
            "containers": [container("a", "1Mi"), container("b", "2Mi")],
        });
        let limit = |spec: &serde_json::Value| {
            let pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
            (memory_limit(&pod).map(|one| one.units() >> 20), total_limit(&pod, "memory").map(|one| one.units() >> 20))
        };
        assert_eq!(limit(&spec), (Some(5), Some(5)));
        spec["containers"][0]["resources"]["limits"]["memory"] = "6Mi".into();
        assert_eq!(limit(&spec), (Some(9), Some(9)));
        spec["containers"][1]["resources"] = serde_json::json!({});
        assert_eq!(limit(&spec), (None, Some(7)));
        spec["resources"] = serde_json::json!({"limits": {"memory": "20Mi"}});
        assert_eq!(limit(&spec).0, Some(20));
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(class(&pod(&json("{}"))), "BestEffort");
        assert_eq!(class(&pod(&json(r#"{"requests":{"cpu":"1"}}"#))), "Burstable");
        assert_eq!(class(&pod(&json(r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#))), "Guaranteed");
        let same = r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1000m","memory":"1024Mi"}}"#;
        assert_eq!(class(&pod(&json(same))), "Guaranteed");
        let less = r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m","memory":"1Gi"}}"#;
        assert_eq!(class(&pod(&json(less))), "Burstable");
    }
}
