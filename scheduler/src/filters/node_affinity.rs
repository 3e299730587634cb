//! Whether the node is one that the pod's node selector and node affinity name.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use kube::ResourceExt;

use super::Request;
use crate::snapshot::NodeInfo;

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |test: fn(i64, i64) -> bool| {
        let (left, right) = (value.and_then(number), values.first().and_then(|bound| number(bound)));
        matches!((left, right), (Some(left), Some(right)) if test(left, right))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}

/// Whether `node` is one that `term` selects; an empty term selects none.
pub(crate) fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.node.name_any();
    labels.iter().all(|requirement| requirement_holds(requirement, node.label(&requirement.key)))
        && fields.iter().all(|requirement| {
            requirement_holds(requirement, (requirement.key == "metadata.name").then_some(name.as_str()))
        })
}

pub(super) fn check(request: &Request<'_>, node: &NodeInfo) -> Vec<String> {
    let selected = request.spec.node_selector.iter().flatten().all(|(key, value)| node.label(key) == Some(value));
    let affinity = request.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted =
        required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_term(term, node)));
    if selected && wanted { Vec::new() } else { vec!["node(s) didn't match Pod's node affinity/selector".to_owned()] }
}
