//! ClusterRoles with an aggregation rule: their rules are those of the roles that it selects.

use std::sync::Arc;

use k8s_openapi::{
    Resource,
    api::rbac::v1::{ClusterRole, PolicyRule},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::SelectorExt,
};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, revision, work},
    workloads::selector,
};

/// Under this name upstream's controller applies the rules.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// The rules that `role` should have, or `None` if it does not aggregate. Selected roles come in the order of
/// their names; a rule that several of them hold stands once.
#[must_use]
pub fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selects in selectors.iter().filter_map(selector) {
        for other in all.iter().filter(|other| other.name_any() != role.name_any() && selects.matches(other.labels())) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<String> = Queue::new();
    let (again, roles) = (queue.clone(), caches.cluster_roles.clone());
    caches.cluster_roles.on_change(move |_, _| {
        let aggregating = roles.all().into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregating.for_each(|role| again.add(role.name_any()));
    });
    let state = (client.clone(), Arc::clone(caches));
    work(tasks, "clusterrole-aggregation", &queue, 1, shutdown, state, |(client, caches), name| async move {
        reconcile(&client, &caches, &name).await
    });
}

async fn reconcile(client: &Client, caches: &Caches, name: &str) -> Result<(), RequestError> {
    caches.cluster_roles.synced().await;
    let Some(role) = caches.cluster_roles.get(&Key::new("", name)) else { return Ok(()) };
    let Some(rules) = rules(&role, &caches.cluster_roles.all()) else { return Ok(()) };
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(());
    }
    let api: Api<ClusterRole> = Api::all(client.clone());
    // The uid keeps a role that was deleted meanwhile from being made anew.
    let body = json!({"apiVersion": ClusterRole::API_VERSION, "kind": ClusterRole::KIND,
        "metadata": {"name": name, "uid": role.uid()}, "rules": rules});
    let patched = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body)).await;
    let patched = patched.attempt(|| format!("write the aggregated rules of ClusterRole {name}"))?;
    caches.cluster_roles.caught_up(revision(&patched)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_gathered_by_label_once() {
        let role = |value: serde_json::Value| Arc::new(serde_json::from_value::<ClusterRole>(value).unwrap());
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let sum = role(json!({"metadata": {"name": "sum"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "sum"}}]}}));
        let a = role(json!({"metadata": {"name": "a", "labels": {"to": "sum"}}, "rules": [rule]}));
        let b = role(json!({"metadata": {"name": "b", "labels": {"to": "sum"}}, "rules": [rule]}));
        let c = role(json!({"metadata": {"name": "c"}, "rules": [{"verbs": ["*"]}]}));
        assert_eq!(rules(&sum, &[Arc::clone(&sum), a, b, c]).unwrap().len(), 1);
    }
}
