use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{resources, snapshot::NodeInfo};

fn node(name: &str, extra: serde_json::Value) -> Arc<Node> {
    let mut value = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": &name[..1]}},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}}});
    if let Some(spec) = extra.get("spec") {
        value["spec"] = spec.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, cpu: &str, spec: serde_json::Value) -> Pod {
    let mut value = json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn on(mut pod: Pod, node: &str) -> Arc<Pod> {
    pod.spec.as_mut().unwrap().node_name = Some(node.into());
    Arc::new(pod)
}

fn snapshot(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Snapshot {
    Snapshot::new(nodes.iter(), pods.iter(), BTreeMap::new())
}

#[test]
fn reasons_are_told_as_users_know_them() {
    let tainted = node("t", json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}));
    let cordoned = node("u", json!({"spec": {"unschedulable": true}}));
    let all = snapshot(&[node("a", json!({})), node("b", json!({})), tainted, cordoned], &[]);
    assert_eq!(
        place(&pod("p", "3", json!({})), &all, 0),
        Placement::Unschedulable(
            "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu."
                .into()
        )
    );
    let none = place(&pod("p", "1", json!({})), &Snapshot::default(), 0);
    assert_eq!(none, Placement::Unschedulable("no nodes available to schedule pods".into()));
}

#[test]
fn a_node_selector_and_affinity_are_honoured() {
    let all = snapshot(&[node("a", json!({})), node("b", json!({}))], &[]);
    let selected = pod("p", "1", json!({"nodeSelector": {"zone": "b"}}));
    assert_eq!(place(&selected, &all, 0), Placement::Node("b".into()));
    let affinity = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}]}}}});
    assert_eq!(place(&pod("p", "1", affinity), &all, 0), Placement::Node("b".into()));
}

#[test]
fn anti_affinity_keeps_pods_apart_in_both_directions() {
    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let one = on(pod("one", "100m", anti.clone()), "a");
    let all = snapshot(&nodes, &[Arc::clone(&one)]);
    assert_eq!(place(&pod("two", "100m", anti.clone()), &all, 0), Placement::Node("b".into()));
    assert_eq!(place(&pod("plain", "100m", json!({})), &all, 0), Placement::Node("b".into()));
    let full = snapshot(&nodes, &[one, on(pod("two", "100m", anti.clone()), "b")]);
    assert_eq!(
        place(&pod("three", "100m", anti), &full, 0),
        Placement::Unschedulable("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.".into())
    );
}

#[test]
fn spread_constraints_bound_the_skew() {
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]});
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let all = snapshot(&nodes, &[on(pod("one", "100m", json!({})), "a")]);
    assert_eq!(place(&pod("two", "100m", spread), &all, 0), Placement::Node("b".into()));
}

#[test]
fn replicas_of_one_owner_are_spread() {
    let mut first = pod("one", "0", json!({}));
    first.metadata.owner_references =
        serde_json::from_value(json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]))
            .unwrap();
    let second = first.clone();
    let all = snapshot(&[node("a", json!({})), node("b", json!({}))], &[on(first, "a")]);
    assert_eq!(place(&second, &all, 0), Placement::Node("b".into()));
}

proptest! {
    #[test]
    fn no_node_is_ever_overcommitted(requests in proptest::collection::vec(0..2500i64, 1..40), tie in any::<u64>()) {
        let nodes = [node("a", json!({})), node("b", json!({})), node("c", json!({}))];
        let mut placed: Vec<Arc<Pod>> = Vec::new();
        for (index, cpu) in requests.iter().enumerate() {
            let pod = pod(&format!("p{index}"), &format!("{cpu}m"), json!({}));
            if let Placement::Node(name) = place(&pod, &snapshot(&nodes, &placed), tie) {
                placed.push(on(pod, &name));
            }
        }
        for info in snapshot(&nodes, &placed).nodes.values() {
            let NodeInfo { requested, allocatable, pods, .. } = info;
            prop_assert!(requested.get("cpu") <= allocatable.get("cpu") && pods.len() <= 10);
            let sum: i64 = pods.iter().map(|pod| resources::of_pod(pod).get("cpu")).sum();
            prop_assert_eq!(sum, requested.get("cpu"), "{}", info.node.name_any());
        }
    }
}
