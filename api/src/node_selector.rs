//! Which nodes a pod asks for: its node selector and its node affinity.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// The one field of nodes that terms may be about.
pub const NAME_FIELD: &str = "metadata.name";

/// Whether pods of `spec` may be on `node`, as far as their node selector and their required node affinity say.
#[must_use]
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let plain = spec.node_selector.iter().flatten().all(|(key, value)| label(node, key) == Some(value.as_str()));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    plain && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_selects(term, node)))
}

/// Whether `node` is one that `term` selects; an empty term selects none.
#[must_use]
pub fn term_selects(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| node.metadata.name.as_deref().filter(|_| key == NAME_FIELD);
    labels.iter().all(|requirement| holds(requirement, label(node, &requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = found.is_some_and(|text| values.iter().any(|value| value == text));
    let compared = |test: fn(&i64, &i64) -> bool| {
        let own = found.and_then(|text| text.parse().ok());
        let bound = values.first().and_then(|text| text.parse().ok());
        own.zip(bound).is_some_and(|(own, bound)| test(&own, &bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selected(term: Value) -> bool {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}})).unwrap();
        term_selects(&serde_json::from_value(term).unwrap(), &node)
    }

    #[test]
    fn a_term_selects_by_labels_and_by_name() {
        for (key, operator, values, expected) in [
            ("zone", "In", json!(["a", "b"]), true),
            ("zone", "In", json!(["b"]), false),
            ("zone", "NotIn", json!(["a"]), false),
            ("other", "In", json!(["a"]), false),
            ("other", "NotIn", json!(["a"]), true),
            ("zone", "Exists", json!([]), true),
            ("other", "DoesNotExist", json!([]), true),
            ("cores", "Gt", json!(["7"]), true),
            ("cores", "Gt", json!(["8"]), false),
            ("cores", "Lt", json!(["10"]), true),
            ("zone", "Gt", json!(["1"]), false),
            ("zone", "Is", json!(["a"]), false),
        ] {
            let requirement = json!({"key": key, "operator": operator, "values": values});
            assert_eq!(selected(json!({"matchExpressions": [requirement]})), expected, "{key} {operator} {values}");
        }
        assert!(!selected(json!({})), "an empty term selects nothing");
        let name = |name: &str| json!({"matchFields": [{"key": NAME_FIELD, "operator": "In", "values": [name]}]});
        assert!(selected(name("n1")) && !selected(name("n2")));
    }

    #[test]
    fn one_of_the_terms_is_enough_and_the_plain_selector_counts_too() {
        let term = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        let node: Node = serde_json::from_value(json!({"metadata": {"labels": {"zone": "a"}}})).unwrap();
        let asks = |plain: Value, terms: Value| {
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
            let spec = json!({"containers": [], "nodeSelector": plain, "affinity": {"nodeAffinity": required}});
            selects(&serde_json::from_value(spec).unwrap(), &node)
        };
        assert!(asks(json!({}), json!([term("b"), term("a")])));
        assert!(!asks(json!({}), json!([term("b")])));
        assert!(!asks(json!({"zone": "b"}), json!([term("a")])));
        assert!(selects(&PodSpec::default(), &node));
    }
}
