//! How long pods stay on a tainted node, and when they have to leave.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use martello_api::taints::tolerates;

/// How long a pod may stay on a tainted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Not at all.
    No,
    /// This many seconds.
    For(i64),
    /// For good.
    Forever,
}

/// How long `pod` may stay on a node with these taints: the first toleration of each taint counts.
#[must_use]
pub fn stay(pod: &Pod, taints: &[Taint]) -> Stay {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let Some(found): Option<&Toleration> = tolerations.iter().find(|one| tolerates(one, taint)) else {
            return Stay::No;
        };
        if let Some(seconds) = found.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |other| other.min(seconds)).max(0));
        }
    }
    shortest.map_or(Stay::Forever, Stay::For)
}

/// What is to be done about a pod of a tainted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// A planned eviction was called off.
    pub(super) called_off: bool,
    /// When it has to leave.
    pub(super) leaves: Option<Timestamp>,
}

/// When each pod (by its uid) has to leave: a time once set holds while the pod is not tolerated for good.
#[derive(Clone, Default)]
pub(super) struct Evictions(Arc<Mutex<HashMap<String, Timestamp>>>);

impl Evictions {
    pub(super) fn plan(&self, pod: &str, stay: Stay, now: Timestamp) -> Turn {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = match stay {
            Stay::Forever => return Turn { called_off: all.remove(pod).is_some(), leaves: None },
            Stay::No => return Turn { called_off: all.remove(pod).is_some(), leaves: Some(now) },
            Stay::For(seconds) => now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now),
        };
        let leaves = match all.entry(pod.to_owned()) {
            Entry::Occupied(planned) if *planned.get() <= now => planned.remove(),
            Entry::Occupied(planned) => *planned.get(),
            Entry::Vacant(_) if leaves <= now => leaves,
            Entry::Vacant(free) => *free.insert(leaves),
        };
        Turn { called_off: false, leaves: Some(leaves) }
    }

    pub(super) fn forget(&self, pod: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lifecycle::node::conditions::UNREACHABLE;

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let taint = vec![Taint { key: UNREACHABLE.into(), effect: "NoExecute".into(), ..Taint::default() }];
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}))
                .unwrap()
        };
        assert_eq!(stay(&pod(json!([])), &taint), Stay::No);
        assert_eq!(stay(&pod(json!([])), &[]), Stay::Forever);
        let timed =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(stay(&pod(timed), &taint), Stay::For(300));
        assert_eq!(stay(&pod(json!([{"operator": "Exists"}])), &taint), Stay::Forever);

        let evictions = Evictions::default();
        let turn = |called_off, leaves: Option<i64>| Turn { called_off, leaves: leaves.map(at) };
        assert_eq!(evictions.plan("a", Stay::For(300), at(100)), turn(false, Some(400)));
        assert_eq!(evictions.plan("a", Stay::For(300), at(200)), turn(false, Some(400)));
        assert_eq!(evictions.plan("a", Stay::Forever, at(200)), turn(true, None));
        assert_eq!(evictions.plan("a", Stay::Forever, at(200)), turn(false, None));
        assert_eq!(evictions.plan("a", Stay::For(10), at(200)), turn(false, Some(210)));
        assert_eq!(evictions.plan("a", Stay::For(10), at(211)), turn(false, Some(210)));
    }
}
