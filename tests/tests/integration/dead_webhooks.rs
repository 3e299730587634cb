//! A webhook that is gone, or never answers, stops those whom it is for, and not the cluster that has to heal.

use std::time::{Duration, Instant};

use martello_tests::raw::Endpoint;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    answers::{ask_as_user, done, pod, refused},
    certificates,
    conformance::Server,
    webhooks::Hook,
};

const CONFIGURATIONS: [(&str, &str); 2] = [
    ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    ("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
];
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// Within this configurations are in force.
const PATIENCE: Duration = Duration::from_secs(30);

/// Much less than one of those webhooks may take, twice.
const SOON: Duration = Duration::from_secs(25);

/// Puts webhooks before everything that anybody but the administrator asks for, and waits until they are in force. They
/// are asked at a port of loopback.
async fn everything_asks(server: &Server, other: &Endpoint, (port, authority): (u16, &str), seconds: u32) {
    let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
    let condition = json!({"name": "others", "expression": "request.userInfo.username != 'admin'"});
    for (path, kind) in CONFIGURATIONS {
        let client = json!({"url": format!("https://127.0.0.1:{port}/"), "caBundle": authority});
        let webhook = json!({
            "name": "everything.example.com", "clientConfig": client, "rules": [rule],
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": seconds,
            "matchConditions": [condition],
        });
        let configuration = json!({"kind": kind, "metadata": {"name": "everything"}, "webhooks": [webhook]});
        server.post(path, &configuration).await;
    }
    let trial = json!({"metadata": {"name": "trial"}}).to_string();
    let sought = async {
        while other.ask("POST", &format!("{MAPS}?dryRun=All"), trial.clone()).await.unwrap().status != 500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sought).await.expect("it is in force in time");
}

fn replica_set(name: &str) -> Value {
    let mut template = json!({"metadata": {"labels": {"set": name}}});
    template["spec"] = pod("one")["spec"].clone();
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"set": name}}, "template": template});
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn as_node(node: &Endpoint, method: &str, path: &str, body: &Value) -> Value {
    done(&node.ask(method, path, body.to_string()).await.unwrap())
}

/// A node joins, tells that it is well, and goes on telling it.
async fn a_node_goes_on(server: &Server, own: &Endpoint) {
    as_node(own, "POST", "/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    let spec = json!({"holderIdentity": "n1", "leaseDurationSeconds": 40});
    let mut lease = as_node(own, "POST", LEASES, &json!({"metadata": {"name": "n1"}, "spec": spec})).await;
    lease["spec"]["renewTime"] = json!("2026-01-01T00:00:00.000000Z");
    as_node(own, "PUT", &format!("{LEASES}/n1"), &lease).await;
    let mut node = server.get("/api/v1/nodes/n1").await;
    // Controllers write it, too, and a conflict with them is not what is looked at.
    node["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let told = as_node(own, "PUT", "/api/v1/nodes/n1/status", &node).await;
    assert_eq!(told["status"]["conditions"][0]["type"], "Ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_gone_does_not_keep_the_cluster_from_healing() {
    let (mut cluster, server) = Server::start().await;
    let other = cluster.another_admin("other").await.unwrap();
    let node = certificates::node(&mut cluster, "n1").await;
    // In force before the namespace goes, and before anything is made.
    everything_asks(&server, &other, (1, ""), 10).await;
    a_node_goes_on(&server, &node).await;
    // Who only acts as a node is no part of the cluster.
    let (lease, groups) = (json!({"metadata": {"name": "n1"}}), ["system:nodes", "system:masters"]);
    let masked = ask_as_user(&server.admin, "system:node:n1", &groups, "POST", LEASES, Some(&lease)).await;
    refused(&masked, 500, "InternalError");

    // New namespaces get what belongs to them, and old ones go with all that is in them.
    let namespace = server.namespace("heals").await;
    server.post(&format!("{namespace}/configmaps"), &json!({"metadata": {"name": "one"}})).await;
    server.delete(&namespace).await;
    server.gone(&namespace).await;

    // Services find their backends.
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "s"}, "ports": [{"port": 80}]}});
    server.post("/api/v1/namespaces/default/services", &service).await;
    let slices =
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Ds";
    server.until_items(slices, |items| !items.is_empty()).await;

    // What the cluster itself runs comes up; what users run waits for the webhook that is to guard it.
    let sets = |namespace: &str| format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods?labelSelector=set%3Dguarded");
    for namespace in ["kube-system", "default"] {
        server.post(&sets(namespace), &replica_set("guarded")).await;
    }
    server.until_listed(&pods("kube-system"), 1).await;
    let failed = |set: &Value| {
        let conditions = set["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "ReplicaFailure")
    };
    let set = server.until(&format!("{}/guarded", sets("default")), |set| failed(set).is_some()).await;
    let message = failed(&set).unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("failed calling webhook \"everything.example.com\""), "{message}");
    assert_eq!(server.get(&pods("default")).await["items"], json!([]));

    // Others are stopped by the webhooks, and may take them away.
    let map = json!({"metadata": {"name": "mine"}}).to_string();
    refused(&other.ask("POST", MAPS, map.clone()).await.unwrap(), 500, "InternalError");
    for (path, _) in CONFIGURATIONS {
        let own = format!("{path}/everything");
        let media = "application/merge-patch+json";
        let patch = json!({"metadata": {"labels": {"going": "yes"}}}).to_string();
        done(&other.ask_as("PATCH", &own, media, patch).await.unwrap());
        done(&other.ask("DELETE", &own, "").await.unwrap());
    }
    server.until_listed(&pods("default"), 1).await;
    done(&other.ask("POST", MAPS, map).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_never_answers_does_not_keep_the_cluster_from_healing() {
    let (mut cluster, server) = Server::start().await;
    let other = cluster.another_admin("other").await.unwrap();
    let node = certificates::node(&mut cluster, "n1").await;
    // It takes connections, and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Hook::start().await.authority;
    everything_asks(&server, &other, (mute.local_addr().unwrap().port(), &authority), 1).await;
    for (path, _) in CONFIGURATIONS {
        server.change(&format!("{path}/everything"), |found| found["webhooks"][0]["timeoutSeconds"] = json!(30)).await;
    }
    let began = Instant::now();
    a_node_goes_on(&server, &node).await;
    assert!(began.elapsed() < SOON, "a node waited {:?}", began.elapsed());
    // Whom one of the system's own did not hear a moment ago none of them waits for: ten waits would take a minute.
    let path = format!("{LEASES}/n1");
    let lease = server.get(&path).await;
    let mut lease = as_node(&node, "PUT", &path, &lease).await;
    let began = Instant::now();
    for second in 10..20 {
        lease["spec"]["renewTime"] = json!(format!("2026-01-01T00:00:{second}.000000Z"));
        lease = as_node(&node, "PUT", &path, &lease).await;
    }
    assert!(began.elapsed() < SOON, "a node's Leases waited {:?}", began.elapsed());
    let began = Instant::now();
    server.namespace("heals").await;
    assert!(began.elapsed() < SOON, "a namespace waited {:?}", began.elapsed());
    for (path, _) in CONFIGURATIONS {
        done(&other.ask("DELETE", &format!("{path}/everything"), "").await.unwrap());
    }
    done(&other.ask("POST", MAPS, json!({"metadata": {"name": "mine"}}).to_string()).await.unwrap());
}
