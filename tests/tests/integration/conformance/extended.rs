//! Resources that a node has besides those that Kubernetes knows: asked for, counted, and refused when there is too little.

use serde_json::{Value, json};

use super::{Server, kubelet};
use crate::answers::{pod, refused};

const RESOURCE: &str = "example.com/dongle";
const JSON_PATCH: &str = "application/json-patch+json";

fn asking(name: &str, resources: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

fn limit(count: &str) -> Value {
    json!({"limits": {RESOURCE: count}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_resource_is_scheduled_counted_and_refused_when_it_is_too_much() {
    let (_cluster, server) = Server::start().await;
    kubelet::start(&server, &["node-a"]).await;
    let namespace = server.namespace("extended").await;
    let pods = format!("{namespace}/pods");
    // Before the node has any, nobody finds a place.
    server.post(&pods, &asking("first", limit("2"))).await;
    let waits = |pod: &Value| {
        let condition = &pod["status"]["conditions"][0];
        let message = condition["message"].as_str().unwrap_or_default();
        condition["reason"] == "Unschedulable"
            && message.starts_with(&format!("0/1 nodes are available: 1 Insufficient {RESOURCE}."))
    };
    server.until(&format!("{pods}/first"), waits).await;

    let add = |place: &str| json!({"op": "add", "path": format!("/status/{place}/example.com~1dongle"), "value": "3"});
    let patch = json!([add("capacity"), add("allocatable")]).to_string();
    let node = server.admin.ask_as("PATCH", "/api/v1/nodes/node-a/status", JSON_PATCH, patch).await.unwrap().json();
    assert_eq!(
        (&node["status"]["capacity"][RESOURCE], &node["status"]["allocatable"][RESOURCE]),
        (&json!("3"), &json!("3"))
    );
    let runs = |pod: &Value| pod["spec"]["nodeName"] == "node-a" && pod["status"]["phase"] == "Running";
    let first = server.until(&format!("{pods}/first"), runs).await;
    assert_eq!(
        first["spec"]["containers"][0]["resources"]["requests"][RESOURCE], "2",
        "what is asked for is the limit"
    );

    // Two of three are taken: two more are too many, one fits beside.
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {format!("requests.{RESOURCE}"): "5"}}});
    server.post(&format!("{namespace}/resourcequotas"), &quota).await;
    server.post(&pods, &asking("second", limit("2"))).await;
    server.until(&format!("{pods}/second"), waits).await;
    server.post(&pods, &asking("third", limit("1"))).await;
    server.until(&format!("{pods}/third"), runs).await;
    let key = format!("requests.{RESOURCE}");
    server.until(&format!("{namespace}/resourcequotas/few"), |quota| quota["status"]["used"][&key] == "5").await;
    let message = refused(&server.ask("POST", &pods, &asking("fourth", limit("1"))).await, 403, "Forbidden");
    let counts = format!("requested: {key}=1, used: {key}=5, limited: {key}=5");
    assert_eq!(message, format!("pods \"fourth\" is forbidden: exceeded quota: few, {counts}"));
    server.delete(&format!("{pods}/first")).await;
    server.until(&format!("{pods}/second"), runs).await;

    // It can't be shared, and comes whole.
    for (resources, why) in [
        (
            json!({"limits": {RESOURCE: "2"}, "requests": {RESOURCE: "1"}}),
            format!(
                "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to {RESOURCE} limit of 2"
            ),
        ),
        (
            json!({"requests": {RESOURCE: "1"}}),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"
                .to_owned(),
        ),
        (
            limit("500m"),
            format!("spec.containers[0].resources.limits[{RESOURCE}]: Invalid value: \"500m\": must be an integer"),
        ),
    ] {
        let message = refused(&server.ask("POST", &pods, &asking("odd", resources)).await, 422, "Invalid");
        assert!(message.contains(&why), "{message}\ndoes not say\n{why}");
    }
}
