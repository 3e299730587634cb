//! DaemonSets.

use serde_json::{Value, json};

use super::{Server, apps, image_of, is_ready, kubelet, new_image, pods_of, workload};

fn daemon(name: &str) -> Value {
    let mut daemon = workload(name, 0);
    daemon["spec"].as_object_mut().unwrap().remove("replicas");
    daemon
}

/// Whether each of these nodes runs one, and only these.
fn run_on(nodes: &'static [&'static str]) -> impl Fn(&[Value]) -> bool {
    move |pods| {
        let mut on: Vec<&str> =
            pods.iter().filter(|pod| is_ready(pod)).filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        on.sort_unstable();
        pods.len() == nodes.len() && on == nodes
    }
}

pub(super) async fn a_daemon_runs_on_every_node_and_is_replaced(server: Server) {
    server.namespace("daemons").await;
    server.post(&apps("daemons", "daemonsets"), &daemon("agent")).await;
    let pods = pods_of("daemons", "agent");
    let running = server.until_items(&pods, run_on(&["node-a", "node-b"])).await;
    let path = |pod: &Value| format!("/api/v1/namespaces/daemons/pods/{}", pod["metadata"]["name"].as_str().unwrap());
    server.delete(&path(&running[0])).await;
    server.until_items(&pods, run_on(&["node-a", "node-b"])).await;
    // A pod that failed is replaced, too.
    let failing = path(&running[1]);
    server.merge(&failing, &json!({"metadata": {"labels": {kubelet::FARE: "fails"}}})).await;
    server.gone(&failing).await;
    server.until_items(&pods, run_on(&["node-a", "node-b"])).await;
    let status = server
        .until(&format!("{}/agent", apps("daemons", "daemonsets")), |found| found["status"]["numberReady"] == 2)
        .await;
    assert_eq!(
        (&status["status"]["desiredNumberScheduled"], &status["status"]["numberMisscheduled"]),
        (&json!(2), &json!(0))
    );
}

pub(super) async fn a_daemon_runs_where_its_selector_says(server: Server) {
    server.namespace("selected").await;
    let mut complex = daemon("complex");
    complex["spec"]["template"]["spec"]["nodeSelector"] = json!({"color": "green"});
    server.post(&apps("selected", "daemonsets"), &complex).await;
    let (pods, path) = (pods_of("selected", "complex"), format!("{}/complex", apps("selected", "daemonsets")));
    server.until(&path, |found| found["status"]["observedGeneration"] == 1).await;
    assert_eq!(server.get(&pods).await["items"], json!([]));
    let color = |color: Value| json!({"metadata": {"labels": {"color": color}}});
    server.merge("/api/v1/nodes/node-b", &color(json!("green"))).await;
    server.until_items(&pods, run_on(&["node-b"])).await;
    server.merge("/api/v1/nodes/node-b", &color(json!("blue"))).await;
    server.until_listed(&pods, 0).await;
    let follow = json!({"spec": {"template": {"spec": {"nodeSelector": {"color": "blue"}}}}});
    server.merge(&path, &follow).await;
    server.until_items(&pods, run_on(&["node-b"])).await;
}

pub(super) async fn a_daemon_set_rolls_out_and_back(server: Server) {
    server.namespace("daemon-rolls").await;
    let (pods, path) = (pods_of("daemon-rolls", "agent"), format!("{}/agent", apps("daemon-rolls", "daemonsets")));
    server.post(&apps("daemon-rolls", "daemonsets"), &daemon("agent")).await;
    let first = server.until_items(&pods, run_on(&["node-a", "node-b"])).await;
    let revisions = format!("{}?labelSelector=app%3Dagent", apps("daemon-rolls", "controllerrevisions"));
    assert_eq!(server.until_listed(&revisions, 1).await[0]["revision"], 1);
    // One of two is to be unavailable at most, and the new one never gets ready: the other goes on as it is.
    let mut stuck = new_image("myapp:none");
    stuck["spec"]["template"]["metadata"] = json!({"labels": {kubelet::FARE: "waits"}});
    server.merge(&path, &stuck).await;
    let half = |pods: &[Value]| {
        pods.len() == 2
            && pods.iter().filter(|pod| image_of(pod) == "myapp:none" && !pod["status"]["podIP"].is_null()).count() == 1
    };
    let mid = server.until_items(&pods, half).await;
    let kept = mid.iter().find(|pod| image_of(pod) == "myapp:1.2.0").unwrap();
    assert!(first.iter().any(|pod| pod["metadata"]["uid"] == kept["metadata"]["uid"]));
    let mut back = new_image("myapp:1.2.0");
    back["spec"]["template"]["metadata"] = json!({"labels": {kubelet::FARE: null}});
    server.merge(&path, &back).await;
    let last = server.until_items(&pods, run_on(&["node-a", "node-b"])).await;
    assert!(last.iter().any(|pod| pod["metadata"]["uid"] == kept["metadata"]["uid"]), "it was restarted without need");
    let history = server.until_items(&revisions, |all| all.iter().any(|one| one["revision"] == 3)).await;
    assert_eq!(history.len(), 2, "going back made no new revision: {history:?}");
}
