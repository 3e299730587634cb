//! Quotas.

use serde_json::{Value, json};

use super::{Server, controller, deployment};
use crate::answers::{pod, refused};

/// Makes a quota, and waits until it tells its use.
pub(in crate::conformance) async fn with_quota(server: &Server, namespace: &str, name: &str, spec: Value) -> String {
    let path = format!("{namespace}/resourcequotas/{name}");
    server.post(&format!("{namespace}/resourcequotas"), &json!({"metadata": {"name": name}, "spec": spec})).await;
    server.until(&path, |quota| quota["status"]["hard"] == spec["hard"] && quota["status"]["used"].is_object()).await;
    path
}

pub(in crate::conformance) async fn until_used(server: &Server, quota: &str, resource: &str, used: &str) {
    server.until(quota, |quota| quota["status"]["used"][resource] == used).await;
}

pub(super) async fn a_quota_tells_its_use_at_once(server: Server) {
    let namespace = server.namespace("quota").await;
    let hard = json!({"hard": {"resourcequotas": "1", "pods": "5", "cpu": "1", "services": "10"}});
    let quota = with_quota(&server, &namespace, "quota", hard).await;
    until_used(&server, &quota, "resourcequotas", "1").await;
    let found = server.get(&quota).await;
    assert_eq!(found["status"]["used"], json!({"resourcequotas": "1", "pods": "0", "cpu": "0", "services": "0"}));
}

pub(super) async fn a_quota_counts_what_is_made_and_deleted(server: Server) {
    let namespace = server.namespace("counted").await;
    let apps = "/apis/apps/v1/namespaces/counted";
    let set = deployment("set", 0);
    let (rc, ports) = (controller("rc", 0), json!([{"port": 80}]));
    // A configmap and a secret are there already, or not, depending on who came first.
    let counted = [
        (
            "services",
            format!("{namespace}/services"),
            json!({"metadata": {"name": "s"}, "spec": {"ports": ports}}),
            "0",
        ),
        (
            "services.nodeports",
            format!("{namespace}/services"),
            json!({"metadata": {"name": "n"}, "spec": {"type": "NodePort", "ports": ports}}),
            "0",
        ),
        ("secrets", format!("{namespace}/secrets"), json!({"metadata": {"name": "s"}}), "0"),
        ("configmaps", format!("{namespace}/configmaps"), json!({"metadata": {"name": "m"}}), "1"),
        ("replicationcontrollers", format!("{namespace}/replicationcontrollers"), rc, "0"),
        ("count/replicasets.apps", format!("{apps}/replicasets"), set, "0"),
    ];
    let hard: serde_json::Map<String, Value> =
        counted.iter().map(|(name, ..)| ((*name).to_owned(), json!("5"))).collect();
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": hard})).await;
    for (resource, collection, object, before) in counted {
        until_used(&server, &quota, resource, before).await;
        server.post(&collection, &object).await;
        let after = (before.parse::<u32>().unwrap() + 1).to_string();
        until_used(&server, &quota, resource, &after).await;
        server.delete(&format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap())).await;
        until_used(&server, &quota, resource, before).await;
    }
}

fn requesting(name: &str, cpu: &str, memory: &str) -> Value {
    let mut requesting = pod(name);
    let amounts = json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi", "example.com/dongle": "2"});
    requesting["spec"]["containers"][0]["resources"] =
        json!({"requests": amounts, "limits": {"example.com/dongle": "2"}});
    requesting
}

pub(super) async fn a_quota_limits_pods_by_what_they_request(server: Server) {
    let namespace = server.namespace("requests").await;
    let hard = json!({
        "pods": "5", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi", "requests.example.com/dongle": "3",
    });
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": hard})).await;
    let pods = format!("{namespace}/pods");
    server.post(&pods, &requesting("fits", "500m", "252Mi")).await;
    let used = server.until(&quota, |quota| quota["status"]["used"]["pods"] == "1").await["status"]["used"].clone();
    assert_eq!(
        used,
        json!({
            "pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "1Gi", "requests.example.com/dongle": "2",
        })
    );
    let message = refused(&server.ask("POST", &pods, &requesting("greedy", "600m", "100Mi")).await, 403, "Forbidden");
    assert_eq!(
        message,
        "pods \"greedy\" is forbidden: exceeded quota: quota, requested: cpu=600m,requests.example.com/dongle=2, used: cpu=500m,requests.example.com/dongle=2, limited: cpu=1,requests.example.com/dongle=3"
    );
    let patch = json!({"spec": {"containers": [{"name": "one", "image": "myapp:1.2.0", "resources": {"requests": {"cpu": "100m"}}}]}});
    let media = "application/strategic-merge-patch+json";
    let changed = server.admin.ask_as("PATCH", &format!("{pods}/fits"), media, patch.to_string()).await.unwrap();
    refused(&changed, 422, "Invalid");
    server.delete(&format!("{pods}/fits")).await;
    until_used(&server, &quota, "cpu", "0").await;
}

pub(super) async fn a_quota_of_a_scope_counts_its_own_pods(server: Server) {
    let namespace = server.namespace("scopes").await;
    let mut quotas = Vec::new();
    for (name, scope) in
        [("best", "BestEffort"), ("rest", "NotBestEffort"), ("ends", "Terminating"), ("stays", "NotTerminating")]
    {
        let spec = json!({"hard": {"pods": "5"}, "scopes": [scope]});
        quotas.push(with_quota(&server, &namespace, name, spec).await);
    }
    let pods = format!("{namespace}/pods");
    let mut ending = requesting("ending", "100m", "10Mi");
    ending["spec"]["activeDeadlineSeconds"] = json!(3600);
    for (object, used) in [(pod("plain"), ["1", "0", "0", "1"]), (ending, ["0", "1", "1", "0"])] {
        server.post(&pods, &object).await;
        for (quota, used) in quotas.iter().zip(used) {
            until_used(&server, quota, "pods", used).await;
        }
        server.delete(&format!("{pods}/{}", object["metadata"]["name"].as_str().unwrap())).await;
        for quota in &quotas {
            until_used(&server, quota, "pods", "0").await;
        }
    }
}

pub(super) async fn a_quota_is_changed_and_deleted(server: Server) {
    let namespace = server.namespace("changed").await;
    let quota = with_quota(&server, &namespace, "quota", json!({"hard": {"cpu": "1", "memory": "500Mi"}})).await;
    server.change(&quota, |quota| quota["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"})).await;
    server.until(&quota, |quota| quota["status"]["hard"] == json!({"cpu": "2", "memory": "1Gi"})).await;
    server.delete(&quota).await;
    refused(&server.ask("GET", &quota, &Value::Null).await, 404, "NotFound");
}

pub(super) async fn a_controller_tells_that_a_quota_stopped_it(server: Server) {
    let namespace = server.namespace("stopped").await;
    with_quota(&server, &namespace, "quota", json!({"hard": {"pods": "2"}})).await;
    server.post(&format!("{namespace}/replicationcontrollers"), &controller("rc", 3)).await;
    let path = format!("{namespace}/replicationcontrollers/rc");
    let failure = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "ReplicaFailure")
    };
    let found = server.until(&path, |object| failure(object).is_some()).await;
    let failure_found = failure(&found).unwrap();
    assert_eq!(failure_found["reason"], "FailedCreate");
    assert!(failure_found["message"].as_str().unwrap().contains("exceeded quota"), "{failure_found}");
    server.merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 2}})).await;
    server.until(&path, |object| failure(object).is_none()).await;
}
