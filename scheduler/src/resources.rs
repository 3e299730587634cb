//! What a pod asks for and what a node has.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use martello_api::quantity::Quantity;

/// Amounts by resource name: millicores for `cpu`, whole units (bytes) for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// From a Kubernetes resource list; a quantity that does not parse counts as nothing.
    #[must_use]
    pub fn of_list(list: Option<&BTreeMap<String, Text>>) -> Self {
        let amount = |name: &str, text: &Text| {
            let quantity: Quantity = text.0.parse().ok()?;
            Some(if name == "cpu" { quantity.millis() } else { quantity.units() })
        };
        let parsed = list.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), amount(name, text)?)));
        Self(parsed.collect())
    }

    /// The amount of one resource.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Whether the resource is named at all.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names and amounts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_insert(0);
            *own = (*own).max(*amount);
        }
    }
}

fn requests(container: &Container) -> Resources {
    Resources::of_list(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// What a pod needs at its neediest moment: its containers and sidecars together, or an init container beside the
/// sidecars that were started before it; plus its overhead (KEP-753).
#[must_use]
pub fn of_pod(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container));
    }
    let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars.add(&own);
            starting.raise_to(&sidecars);
        } else {
            let mut moment = own;
            moment.add(&sidecars);
            starting.raise_to(&moment);
        }
    }
    running.raise_to(&starting);
    let whole = Resources::of_list(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    for (name, amount) in whole.0 {
        running.0.insert(name, amount);
    }
    running.add(&Resources::of_list(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_init_container_counts_beside_the_sidecars_before_it() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}}],
            "overhead": {"cpu": "10m"}}}))
        .unwrap();
        let resources = of_pod(&pod);
        assert_eq!((resources.get("cpu"), resources.get("memory")), (1060, 1 << 20));
    }
}
