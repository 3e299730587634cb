//! What an aggregated ClusterRole consists of.

use std::collections::BTreeMap;

use martello_api::k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

/// The rules that `role`'s aggregation rule gathers from `all`: in the order of the parts' names, each rule once.
/// `None` if `role` is not aggregated.
#[must_use]
pub fn aggregate(role: &ClusterRole, all: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut parts: Vec<&ClusterRole> = all
        .iter()
        .filter(|part| part.metadata.name != role.metadata.name)
        .filter(|part| selectors.iter().any(|selector| is_selected(selector, part.metadata.labels.as_ref())))
        .collect();
    parts.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in parts.into_iter().filter_map(|part| part.rules.as_ref()).flatten() {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}

/// Whether `labels` satisfy `selector`. An empty selector selects everything; one with an unknown operator, nothing.
#[must_use]
pub fn is_selected(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => value(&expression.key).is_some_and(|own| values.contains(own)),
                "NotIn" => value(&expression.key).is_none_or(|own| !values.contains(own)),
                "Exists" => value(&expression.key).is_some(),
                "DoesNotExist" => value(&expression.key).is_none(),
                _ => false,
            }
        })
}
