//! Whether a node is to have a pod of a DaemonSet.

use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use kube::ResourceExt;
use martello_api::{
    node_selector::{NAME_FIELD, selects},
    taints::tolerates,
};

/// What a node and a DaemonSet have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// A pod is to be made where there is none.
    pub should_run: bool,
    /// A pod that is there may stay.
    pub may_stay: bool,
}

/// Whether pods of `spec` are for `node`. `spec` has the tolerations of [`with_tolerations`].
#[must_use]
pub(super) fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = node.name_any();
    let named = spec.node_name.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == name);
    if !named || !selects(spec, node) {
        return Fit { should_run: false, may_stay: false };
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let refuses = |effects: &[&str]| {
        taints
            .iter()
            .filter(|taint| effects.contains(&taint.effect.as_str()))
            .any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    };
    Fit { should_run: !refuses(&["NoSchedule", "NoExecute"]), may_stay: !refuses(&["NoExecute"]) }
}

/// The spec with what every daemon bears: a node in trouble is where it is needed.
#[must_use]
pub(super) fn with_tolerations(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

/// The affinity by which a pod comes to this node and no other.
#[must_use]
pub(super) fn only_on(affinity: Option<Affinity>, node: &str) -> Affinity {
    let mut affinity = affinity.unwrap_or_default();
    let mut nodes: NodeAffinity = affinity.node_affinity.take().unwrap_or_default();
    let field = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
    affinity.node_affinity = Some(nodes);
    affinity
}

/// The node that a pod is on, or will be.
#[must_use]
pub(super) fn of_pod(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let nodes = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &nodes.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.as_deref().unwrap_or_default());
    fields.filter(|field| field.key == NAME_FIELD).find_map(|field| field.values.as_ref()?.first().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(spec: serde_json::Value, node: serde_json::Value) -> (bool, bool) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let fit = fit(&with_tolerations(&spec), &serde_json::from_value(node).unwrap());
        (fit.should_run, fit.may_stay)
    }

    #[test]
    fn a_node_is_chosen_by_its_labels_and_taints() {
        let node = |taints: serde_json::Value| json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"taints": taints}});
        assert_eq!(fits(json!({"containers": []}), node(json!([]))), (true, true));
        assert_eq!(fits(json!({"containers": [], "nodeSelector": {"a": "c"}}), node(json!([]))), (false, false));
        let reserved = json!([{"key": "gpu", "effect": "NoSchedule"}]);
        assert_eq!(fits(json!({"containers": []}), node(reserved)), (false, true));
        let cordoned = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        assert_eq!(fits(json!({"containers": []}), node(cordoned)), (true, true));
        let evicting = json!([{"key": "out", "effect": "NoExecute"}]);
        assert_eq!(fits(json!({"containers": []}), node(evicting)), (false, false));
    }

    #[test]
    fn a_pod_names_its_node_before_it_is_there() {
        let pod =
            Pod { spec: Some(PodSpec { affinity: Some(only_on(None, "n7")), ..PodSpec::default() }), ..Pod::default() };
        assert_eq!(of_pod(&pod), Some("n7"));
    }
}
