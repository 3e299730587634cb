//! What a pod may take of the node's disk, and what is said when it takes more: pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use martello_api::quantity::Quantity;

use super::model::Ending;
use crate::volumes::payload::{self, Kind};

const RESOURCE: &str = "ephemeral-storage";

/// A pod that is evicted at once gets this long to stop, as upstream has it.
const GRACE: Duration = Duration::from_secs(1);

/// From this priority on a pod is critical: it's never evicted for what it stores.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What a pod may store, where it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Volumes on disk: name and limit, in the pod's order.
    volumes: Vec<(String, Quantity)>,
    /// All of the pod together.
    pod: Option<Quantity>,
    /// Single containers: name and limit.
    containers: Vec<(String, Quantity)>,
    /// All volumes on disk: what they hold counts for the pod.
    stored: Vec<String>,
}

/// What a pod stores now, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Volumes on disk, by name.
    pub volumes: BTreeMap<String, u64>,
    /// Writable layers and logs, by container.
    pub containers: BTreeMap<String, u64>,
}

impl Limits {
    /// What `pod` says.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = pod.spec.as_ref().filter(|spec| spec.priority.unwrap_or(0) < CRITICAL_PRIORITY) else {
            return Self::default();
        };
        let on_disk = || {
            let volumes = spec.volumes.iter().flatten();
            volumes.filter(|volume| payload::kind(volume).is_ok_and(|kind| kind == Kind::Empty))
        };
        let limited = |container: &Container| {
            let limit = container.resources.as_ref()?.limits.as_ref()?.get(RESOURCE)?;
            Some((container.name.clone(), amount(limit)?))
        };
        Self {
            volumes: on_disk()
                .filter_map(|volume| {
                    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
                    Some((volume.name.clone(), amount(limit)?))
                })
                .collect(),
            pod: total(&spec.containers, spec.init_containers.as_deref().unwrap_or_default(), &limited).map(|total| {
                match spec.overhead.as_ref().and_then(|overhead| amount(overhead.get(RESOURCE)?)) {
                    Some(overhead) => total + overhead,
                    None => total,
                }
            }),
            containers: spec.containers.iter().filter_map(limited).collect(),
            stored: on_disk().map(|volume| volume.name.clone()).collect(),
        }
    }

    /// Whether there is nothing to hold the pod to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.pod.is_none() && self.containers.is_empty()
    }

    /// The volumes that have to be measured.
    pub fn measured_volumes(&self) -> impl Iterator<Item = &str> {
        let all = self.pod.is_some();
        let limited = move |name: &&String| all || self.volumes.iter().any(|(own, _)| own == *name);
        self.stored.iter().filter(limited).map(String::as_str)
    }

    /// Whether containers have to be measured.
    #[must_use]
    pub fn measures_containers(&self) -> bool {
        self.pod.is_some()
    }

    /// Why the pod must end, if it stores more than it may; in upstream's order and words.
    #[must_use]
    pub fn exceeded(&self, stored: &Stored) -> Option<Ending> {
        let more =
            |bytes: u64, limit: &Quantity| Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX)) > *limit;
        let used = |all: &BTreeMap<String, u64>, name: &String| all.get(name).copied().unwrap_or(0);
        let volume = self.volumes.iter().find(|(name, limit)| more(used(&stored.volumes, name), limit));
        if let Some((name, limit)) = volume {
            let limit = limit.to_string();
            return Some(evicted(format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. ")));
        }
        let all = stored.volumes.values().chain(stored.containers.values()).copied().fold(0, u64::saturating_add);
        if let Some(limit) = self.pod.as_ref().filter(|limit| more(all, limit)) {
            let message = format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ");
            return Some(evicted(message));
        }
        let (name, limit) = self.containers.iter().find(|(name, limit)| more(used(&stored.containers, name), limit))?;
        let limit = limit.to_string();
        Some(evicted(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. ")))
    }
}

fn evicted(message: String) -> Ending {
    Ending { reason: "Evicted".to_owned(), message, grace: Some(GRACE) }
}

/// The limit as it's written; zero counts as none.
fn amount(text: &Text) -> Option<Quantity> {
    text.0.parse::<Quantity>().ok().filter(|limit| !limit.is_zero() && !limit.is_negative())
}

/// What all that runs at a time may store together, where a container says; init containers run beside the sidecars
/// before them only.
fn total(
    main: &[Container],
    init: &[Container],
    limited: &impl Fn(&Container) -> Option<(String, Quantity)>,
) -> Option<Quantity> {
    let limit = |container: &Container| limited(container).map(|(_, limit)| limit);
    let join = |sum: Option<Quantity>, more: Option<Quantity>| match (sum, more) {
        (Some(sum), Some(more)) => Some(sum + more),
        (sum, more) => sum.or(more),
    };
    let (mut sidecars, mut first) = (None, None);
    for container in init {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = join(sidecars, limit(container));
        } else {
            first = first.max(join(sidecars, limit(container)));
        }
    }
    main.iter().map(limit).fold(sidecars, join).max(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(spec: serde_json::Value) -> Limits {
        Limits::of(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    fn stored(volumes: &[(&str, u64)], containers: &[(&str, u64)]) -> Stored {
        let map = |list: &[(&str, u64)]| list.iter().map(|(name, mib)| ((*name).to_owned(), mib << 20)).collect();
        Stored { volumes: map(volumes), containers: map(containers) }
    }

    fn says(limits: &Limits, stored: &Stored) -> String {
        limits.exceeded(stored).map(|ending| ending.message).unwrap_or_default()
    }

    #[test]
    fn a_volume_over_its_limit_ends_its_pod() {
        let limits = limits(json!({"containers": [{"name": "a"}], "volumes": [
            {"name": "free", "emptyDir": {}}, {"name": "cache", "emptyDir": {"sizeLimit": "1024Ki"}},
            {"name": "none", "emptyDir": {"sizeLimit": "0"}},
            {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}));
        assert_eq!(limits.measured_volumes().collect::<Vec<_>>(), ["cache"]);
        assert!(!limits.measures_containers());
        assert_eq!(limits.exceeded(&stored(&[("cache", 1)], &[])), None, "exactly the limit is allowed");
        let ending = limits.exceeded(&stored(&[("cache", 2)], &[])).unwrap();
        assert_eq!(ending.reason, "Evicted");
        assert_eq!(ending.message, "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ");
    }

    #[test]
    fn the_pod_and_each_container_are_held_to_their_limits() {
        let container = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {RESOURCE: limit}}});
        let limits = limits(json!({
            "initContainers": [container("first", "3Mi")],
            "containers": [container("a", "2Mi"), container("b", "2Mi"), {"name": "c"}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }));
        assert!(limits.measures_containers());
        assert_eq!(limits.measured_volumes().collect::<Vec<_>>(), ["data"]);
        assert_eq!(says(&limits, &stored(&[("data", 1)], &[("a", 2), ("c", 1)])), "");
        let of_a = "Container a exceeded its local ephemeral storage limit \"2Mi\". ";
        assert_eq!(says(&limits, &stored(&[], &[("a", 3)])), of_a);
        let of_all = "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ";
        assert_eq!(says(&limits, &stored(&[("data", 2)], &[("a", 1), ("c", 2)])), of_all);
        assert_eq!(says(&limits, &stored(&[("data", 5)], &[("a", 3)])), of_all, "the pod comes first");
    }

    #[test]
    fn what_is_critical_stays() {
        let volumes = json!([{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]);
        assert!(!limits(json!({"containers": [], "priority": 1_999_999_999, "volumes": volumes})).is_empty());
        assert!(limits(json!({"containers": [], "priority": 2_000_001_000, "volumes": volumes})).is_empty());
    }
}
