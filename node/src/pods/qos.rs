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

/// The limit of a container for `cpu` or `memory`; zero counts as none.
#[must_use]
pub fn limit(container: &Container, name: &str) -> Option<Amount> {
    let quantity = container.resources.as_ref()?.limits.as_ref()?.get(name)?;
    Amount::parse(&quantity.0).filter(|amount| !amount.is_zero())
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
