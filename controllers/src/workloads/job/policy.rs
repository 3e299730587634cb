//! What the failure of a pod means to its Job, and when enough succeeded.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyRule},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::indexes;
use crate::workloads::pods;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// One failure more.
    Count,
    /// Nothing: another pod is made.
    Ignore,
    /// Its index failed.
    FailIndex,
    /// The Job failed, for this reason.
    FailJob(String),
}

/// What the failure of `pod` means by the Job's policy: the first rule that matches decides.
#[must_use]
pub(super) fn meaning(spec: &JobSpec, pod: &Pod) -> Meaning {
    let rules = spec.pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let Some(why) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Meaning::Ignore,
            "FailIndex" => Meaning::FailIndex,
            "FailJob" => Meaning::FailJob(format!("{why} matching FailJob rule at index {at}")),
            _ => Meaning::Count,
        };
    }
    Meaning::Count
}

fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let shown = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(codes) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let own = all.filter(|one| codes.container_name.as_ref().is_none_or(|name| *name == one.name));
        for container in own {
            let Some(ended) = container.state.as_ref().and_then(|state| state.terminated.as_ref()) else { continue };
            let listed = codes.values.contains(&ended.exit_code);
            if ended.exit_code != 0 && listed == (codes.operator == "In") {
                return Some(format!(
                    "Container {} for pod {} failed with exit code {}",
                    container.name,
                    shown(),
                    ended.exit_code
                ));
            }
        }
        return None;
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let found = patterns.iter().find(|pattern| {
        let status = pattern.status.as_deref().unwrap_or("True");
        pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == status)
    })?;
    Some(format!("Pod {} has condition {}", shown(), found.type_))
}

/// The rule of the success policy that holds, if one does.
#[must_use]
pub(super) fn succeeded(spec: &JobSpec, done: &BTreeSet<i32>) -> Option<String> {
    let rules = &spec.success_policy.as_ref()?.rules;
    let completions = spec.completions.unwrap_or(0);
    let at = rules.iter().position(|rule| {
        let listed = rule.succeeded_indexes.as_deref().map(|text| indexes::read(text, completions));
        let own = listed.as_ref().map_or(done.len(), |listed| listed.intersection(done).count());
        match (rule.succeeded_count, &listed) {
            (Some(count), _) => usize::try_from(count).is_ok_and(|count| own >= count),
            (None, Some(listed)) => own == listed.len(),
            (None, None) => false,
        }
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> JobSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let spec = spec(json!({"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}}));
        let pod = |code: i32, disrupted: bool| -> Pod {
            let status = if disrupted { "True" } else { "False" };
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {
                "conditions": [{"type": "DisruptionTarget", "status": status}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}}}]}}))
            .unwrap()
        };
        assert_eq!(meaning(&spec, &pod(1, false)), Meaning::Count);
        assert_eq!(meaning(&spec, &pod(42, true)), Meaning::Ignore);
        let why = "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(meaning(&spec, &pod(42, false)), Meaning::FailJob(why.to_owned()));
    }

    #[test]
    fn a_success_policy_counts_its_own_indexes() {
        let spec = spec(json!({"template": {}, "completions": 5, "successPolicy": {"rules": [
            {"succeededIndexes": "0-1"}, {"succeededCount": 3}]}}));
        assert_eq!(succeeded(&spec, &BTreeSet::from([0, 2])), None);
        assert_eq!(succeeded(&spec, &BTreeSet::from([0, 1])), Some("Matched rules at index 0".to_owned()));
        assert_eq!(succeeded(&spec, &BTreeSet::from([1, 2, 3])), Some("Matched rules at index 1".to_owned()));
    }
}
