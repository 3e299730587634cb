//! Nodes without machines: what is bound to one of them runs as its labels say, and ends when it is asked to.

use serde_json::{Value, json};

use super::Server;
use crate::answers::done;

/// The label that says how a pod fares: `waits` (never ready), `succeeds`, `fails`; without it, it runs.
pub(crate) const FARE: &str = "fare";

/// Adds ready nodes, and lives their pods' lives until the test ends.
pub(crate) async fn start(server: &Server, nodes: &[&str]) {
    for name in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let made = server.post("/api/v1/nodes", &node).await;
        let amounts = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "500"});
        let now = made["metadata"]["creationTimestamp"].clone();
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now});
        let status = json!({"capacity": amounts, "allocatable": amounts, "conditions": [ready]});
        server.merge(&format!("/api/v1/nodes/{name}/status"), &json!({"status": status})).await;
    }
    let server = server.clone();
    tokio::spawn(async move {
        let mut pods = server.watch("/api/v1/pods?watch=1").await;
        // Ends with the server.
        while let Some((kind, pod)) = pods.next_or_end().await {
            if kind != "DELETED" && pod["spec"]["nodeName"].is_string() {
                live(&server, &pod).await;
            }
        }
    });
}

/// The next thing that a node would do for a pod.
async fn live(server: &Server, pod: &Value) {
    let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
    let metadata = &pod["metadata"];
    let path = format!("/api/v1/namespaces/{}/pods/{}", text(&metadata["namespace"]), text(&metadata["name"]));
    let phase = text(&pod["status"]["phase"]);
    let has_ended = matches!(&*phase, "Succeeded" | "Failed");
    let is_asked_to_end = !metadata["deletionTimestamp"].is_null();
    if is_asked_to_end && has_ended {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}});
        let Ok(gone) = server.admin.ask("DELETE", &path, options.to_string()).await else { return };
        assert!(matches!(gone.status, 200 | 404 | 409), "{}", gone.text());
        return;
    }
    let (wanted, ready) = match metadata["labels"][FARE].as_str() {
        _ if is_asked_to_end => ("Failed", "False"),
        Some("succeeds") => ("Succeeded", "False"),
        Some("fails") => ("Failed", "False"),
        Some("waits") => ("Running", "False"),
        _ => ("Running", "True"),
    };
    let told = pod["status"]["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    if has_ended || phase == wanted && told.is_some_and(|told| told["status"] == ready) {
        return;
    }
    let since = metadata["creationTimestamp"].clone();
    let name = &pod["spec"]["containers"][0]["name"];
    let state = match wanted {
        "Running" => json!({"running": {"startedAt": since}}),
        _ => {
            json!({"terminated": {"exitCode": u8::from(wanted == "Failed") * 42, "finishedAt": since, "startedAt": since}})
        }
    };
    let container = json!({"name": name, "ready": ready == "True", "state": state, "restartCount": 0, "image": "i", "imageID": "i"});
    let conditions: Vec<Value> = ["Ready", "ContainersReady"]
        .iter()
        .map(|kind| json!({"type": kind, "status": ready, "lastTransitionTime": since}))
        .collect();
    let address = format!(
        "10.200.{}.{}",
        text(&metadata["uid"]).bytes().next().unwrap_or(1),
        text(&metadata["uid"]).bytes().map(u32::from).sum::<u32>() % 250 + 1
    );
    let status = json!({
        "phase": wanted, "startTime": since, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions, "containerStatuses": [container],
    });
    let media = "application/strategic-merge-patch+json";
    let body = json!({"metadata": {"uid": metadata["uid"]}, "status": status}).to_string();
    let Ok(answer) = server.admin.ask_as("PATCH", &format!("{path}/status"), media, body).await else {
        return; // The server was stopped: the test is over.
    };
    // Somebody may have deleted it, or another of its name may be there.
    if !matches!(answer.status, 404 | 409) {
        done(&answer);
    }
}
