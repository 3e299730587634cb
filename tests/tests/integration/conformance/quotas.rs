//! What quotas count: pods by their scopes, claims by their classes, Services by their types, and objects of any kind.

use serde_json::{Value, json};

use super::{
    Server, facts,
    machinery::quotas::{until_used, with_quota},
};
use crate::answers::{pod, refused};

#[tokio::test(flavor = "multi_thread")]
async fn quotas_count_what_they_are_for() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_quota_of_priorities_counts_the_pods_of_these_classes,
        a_quota_of_affinities_counts_the_pods_that_look_into_other_namespaces,
        a_quota_of_attributes_counts_the_claims_of_these_classes,
        a_quota_of_a_storage_class_counts_its_claims,
        a_quota_counts_services_by_their_types,
        a_quota_counts_objects_of_custom_kinds,
        several_quotas_bind_together,
    );
}

fn selecting(scope: &str, operator: &str, values: &[&str], hard: Value) -> Value {
    let mut expression = json!({"scopeName": scope, "operator": operator});
    if !values.is_empty() {
        expression["values"] = json!(values);
    }
    json!({"hard": hard, "scopeSelector": {"matchExpressions": [expression]}})
}

/// What somebody is told whose object is one too many.
fn exceeded(what: &str, quota: &str, amounts: &str) -> String {
    let (requested, rest) = amounts.split_once(' ').unwrap();
    let (used, limited) = rest.split_once(' ').unwrap();
    format!("{what} is forbidden: exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")
}

async fn a_quota_of_priorities_counts_the_pods_of_these_classes(server: Server) {
    let namespace = server.namespace("priorities").await;
    for (name, value) in [("quota-high", 1000), ("quota-low", 10)] {
        let class = json!({"metadata": {"name": name}, "value": value});
        server.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await;
    }
    let mut quotas = Vec::new();
    for (name, operator, values) in [
        ("in", "In", &["quota-high"][..]),
        ("not-in", "NotIn", &["quota-high"]),
        ("exists", "Exists", &[]),
        ("absent", "DoesNotExist", &[]),
    ] {
        let most = if name == "in" { "1" } else { "5" };
        let spec = selecting("PriorityClass", operator, values, json!({"pods": most}));
        quotas.push(with_quota(&server, &namespace, name, spec).await);
    }
    let pods = format!("{namespace}/pods");
    let of_class = |name: &str, class: &str| {
        let mut made = pod(name);
        if !class.is_empty() {
            made["spec"]["priorityClassName"] = json!(class);
        }
        made
    };
    for (name, class, used) in [
        ("plain", "", ["0", "1", "0", "1"]),
        ("low", "quota-low", ["0", "2", "1", "1"]),
        ("high", "quota-high", ["1", "2", "2", "1"]),
    ] {
        server.post(&pods, &of_class(name, class)).await;
        for (quota, used) in quotas.iter().zip(used) {
            until_used(&server, quota, "pods", used).await;
        }
    }
    let message = refused(&server.ask("POST", &pods, &of_class("more", "quota-high")).await, 403, "Forbidden");
    assert_eq!(message, exceeded("pods \"more\"", "in", "pods=1 pods=1 pods=1"));
    server.post(&pods, &of_class("more", "quota-low")).await;
}

async fn a_quota_of_affinities_counts_the_pods_that_look_into_other_namespaces(server: Server) {
    let namespace = server.namespace("affinities").await;
    let spec = json!({"hard": {"pods": "0"}, "scopes": ["CrossNamespacePodAffinity"]});
    with_quota(&server, &namespace, "apart", spec).await;
    let pods = format!("{namespace}/pods");
    let near = |name: &str, kind: &str, term: Value| {
        let mut made = pod(name);
        let mut whole = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}});
        whole.as_object_mut().unwrap().extend(term.as_object().unwrap().clone());
        made["spec"]["affinity"] = match kind {
            "podAffinity" => json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [whole]}}),
            _ => {
                let preferred = json!([{"weight": 1, "podAffinityTerm": whole}]);
                json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
            }
        };
        made
    };
    let refusal = exceeded("pods \"far\"", "apart", "pods=1 pods=0 pods=0");
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in [json!({"namespaces": ["default"]}), json!({"namespaceSelector": {}})] {
            let answer = server.ask("POST", &pods, &near("far", kind, term)).await;
            assert_eq!(refused(&answer, 403, "Forbidden"), refusal);
        }
    }
    server.post(&pods, &near("near", "podAffinity", json!({}))).await;
    server.post(&pods, &pod("alone")).await;
}

fn claim(name: &str, size: &str, extra: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn a_quota_of_attributes_counts_the_claims_of_these_classes(server: Server) {
    let namespace = server.namespace("attributes").await;
    let spec = |operator: &str, values: &[&str]| {
        let hard = json!({"persistentvolumeclaims": "1", "requests.storage": "10Gi"});
        selecting("VolumeAttributesClass", operator, values, hard)
    };
    let gold = with_quota(&server, &namespace, "gold", spec("In", &["gold"])).await;
    let other = with_quota(&server, &namespace, "other", spec("NotIn", &["gold"])).await;
    let claims = format!("{namespace}/persistentvolumeclaims");
    let of = |name: &str, class: &str| claim(name, "3Gi", json!({"volumeAttributesClassName": class}));
    server.post(&claims, &of("one", "gold")).await;
    until_used(&server, &gold, "persistentvolumeclaims", "1").await;
    until_used(&server, &gold, "requests.storage", "3Gi").await;
    until_used(&server, &other, "persistentvolumeclaims", "0").await;
    let message = refused(&server.ask("POST", &claims, &of("two", "gold")).await, 403, "Forbidden");
    let one = "persistentvolumeclaims=1";
    assert_eq!(message, exceeded("persistentvolumeclaims \"two\"", "gold", &format!("{one} {one} {one}")));
    // A claim without a class is none of gold.
    server.post(&claims, &claim("plain", "1Gi", json!({}))).await;
    until_used(&server, &other, "requests.storage", "1Gi").await;
    let message = refused(&server.ask("POST", &claims, &of("two", "silver")).await, 403, "Forbidden");
    assert_eq!(message, exceeded("persistentvolumeclaims \"two\"", "other", &format!("{one} {one} {one}")));
}

async fn a_quota_of_a_storage_class_counts_its_claims(server: Server) {
    let namespace = server.namespace("classes").await;
    let of_fast = "fast.storageclass.storage.k8s.io/requests.storage";
    let claims_of_fast = "fast.storageclass.storage.k8s.io/persistentvolumeclaims";
    let hard = json!({of_fast: "5Gi", claims_of_fast: "5", "requests.storage": "100Gi"});
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": hard})).await;
    let claims = format!("{namespace}/persistentvolumeclaims");
    let of = |name: &str, size: &str, class: &str| claim(name, size, json!({"storageClassName": class}));
    server.post(&claims, &of("one", "4Gi", "fast")).await;
    server.post(&claims, &of("two", "20Gi", "slow")).await;
    until_used(&server, &quota, "requests.storage", "24Gi").await;
    until_used(&server, &quota, of_fast, "4Gi").await;
    until_used(&server, &quota, claims_of_fast, "1").await;
    let message = refused(&server.ask("POST", &claims, &of("three", "2Gi", "fast")).await, 403, "Forbidden");
    let amounts = format!("{of_fast}=2Gi {of_fast}=4Gi {of_fast}=5Gi");
    assert_eq!(message, exceeded("persistentvolumeclaims \"three\"", "quota", &amounts));
}

async fn a_quota_counts_services_by_their_types(server: Server) {
    let namespace = server.namespace("services").await;
    let hard = json!({"services": "4", "services.loadbalancers": "1", "services.nodeports": "3"});
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": hard})).await;
    let services = format!("{namespace}/services");
    let of = |name: &str, kind: &str, ports: &[u16]| {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
        json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": ports}})
    };
    server.post(&services, &of("plain", "ClusterIP", &[80])).await;
    server.post(&services, &of("balanced", "LoadBalancer", &[80, 443])).await;
    until_used(&server, &quota, "services", "2").await;
    until_used(&server, &quota, "services.nodeports", "2").await;
    let message = refused(&server.ask("POST", &services, &of("more", "LoadBalancer", &[80])).await, 403, "Forbidden");
    let one = "services.loadbalancers=1";
    assert_eq!(message, exceeded("services \"more\"", "quota", &format!("{one} {one} {one}")));
    let message = refused(&server.ask("POST", &services, &of("more", "NodePort", &[80, 81])).await, 403, "Forbidden");
    let amounts = "services.nodeports=2 services.nodeports=2 services.nodeports=3";
    assert_eq!(message, exceeded("services \"more\"", "quota", amounts));
    // Who changes the type of a Service is charged like who makes one.
    let plain = format!("{services}/plain");
    let changed = server.try_change(&plain, |found| found["spec"]["type"] = json!("LoadBalancer")).await;
    let message = refused(&changed, 403, "Forbidden");
    assert_eq!(message, exceeded("services \"plain\"", "quota", &format!("{one} {one} {one}")));
    server.change(&plain, |found| found["spec"]["type"] = json!("NodePort")).await;
    until_used(&server, &quota, "services.nodeports", "3").await;
    // What is given back may be used again.
    server.delete(&format!("{services}/balanced")).await;
    until_used(&server, &quota, "services.loadbalancers", "0").await;
    server.post(&services, &of("more", "LoadBalancer", &[80])).await;
}

async fn a_quota_counts_objects_of_custom_kinds(server: Server) {
    let namespace = server.namespace("custom").await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "metadata": {"name": "foos.quota.example.com"},
        "spec": {
            "group": "quota.example.com", "scope": "Namespaced", "names": {"plural": "foos", "singular": "foo", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let foos = "/apis/quota.example.com/v1/namespaces/custom/foos";
    server.until_answered(foos, |answer| answer.status == 200).await;
    let object = |name: &str| json!({"apiVersion": "quota.example.com/v1", "kind": "Foo", "metadata": {"name": name}});
    server.post(foos, &object("before")).await;
    let count = "count/foos.quota.example.com";
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": {count: "2", "count/secrets": "9"}})).await;
    until_used(&server, &quota, count, "1").await;
    server.post(foos, &object("second")).await;
    let message = refused(&server.ask("POST", foos, &object("third")).await, 403, "Forbidden");
    let amounts = format!("{count}=1 {count}=2 {count}=2");
    assert_eq!(message, exceeded("foos.quota.example.com \"third\"", "quota", &amounts));
    server.delete(&format!("{foos}/before")).await;
    until_used(&server, &quota, count, "1").await;
    server.post(foos, &object("third")).await;
}

async fn several_quotas_bind_together(server: Server) {
    let namespace = server.namespace("several").await;
    let wide = with_quota(&server, &namespace, "wide", json!({"hard": {"services": "5"}})).await;
    with_quota(&server, &namespace, "narrow", json!({"hard": {"services": "1"}})).await;
    let services = format!("{namespace}/services");
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    server.post(&services, &service("one")).await;
    let message = refused(&server.ask("POST", &services, &service("two")).await, 403, "Forbidden");
    assert_eq!(message, exceeded("services \"two\"", "narrow", "services=1 services=1 services=1"));
    until_used(&server, &wide, "services", "1").await;
    // A dry run is refused as well, and charges nothing.
    refused(&server.ask("POST", &format!("{services}?dryRun=All"), &service("two")).await, 403, "Forbidden");
}
