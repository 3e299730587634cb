//! StatefulSets.

use serde_json::{Value, json};

use super::{Server, apps, image_of, is_ready, kubelet, new_image, pods_of, workload};

fn stateful(name: &str, replicas: usize) -> Value {
    let mut set = workload(name, replicas);
    set["spec"]["serviceName"] = json!(name);
    set
}

pub(super) async fn fare(server: &Server, namespace: &str, pod: &str, how: Value) {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    server.merge(&path, &json!({"metadata": {"labels": {kubelet::FARE: how}}})).await;
}

fn names(pods: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

pub(super) async fn a_stateful_set_goes_in_order_and_halts(server: Server) {
    server.namespace("ordered").await;
    let (sets, pods) = (apps("ordered", "statefulsets"), pods_of("ordered", "db"));
    let path = format!("{sets}/db");
    server.post(&sets, &stateful("db", 1)).await;
    server.until(&path, |found| found["status"]["readyReplicas"] == 1).await;
    fare(&server, "ordered", "db-0", json!("waits")).await;
    server.until(&path, |found| found["status"]["readyReplicas"].as_u64().unwrap_or(0) == 0).await;
    let list = server.get(&pods).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = server.watch(&format!("{pods}&watch=1&resourceVersion={from}")).await;
    let scaled = server.merge(&path, &json!({"spec": {"replicas": 3}})).await;
    // It has seen what is wanted, and waits for the pod that is not ready.
    server.until(&path, |found| found["status"]["observedGeneration"] == scaled["metadata"]["generation"]).await;
    assert_eq!(names(server.get(&pods).await["items"].as_array().unwrap()), ["db-0"]);
    fare(&server, "ordered", "db-0", Value::Null).await;
    let mut ready = Vec::new();
    while ready.len() < 3 {
        let (_, pod) = events.next().await;
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        if is_ready(&pod) && !ready.contains(&name) {
            ready.push(name);
        }
    }
    assert_eq!(ready, ["db-0", "db-1", "db-2"]);
    server.merge(&path, &json!({"spec": {"replicas": 0}})).await;
    let mut gone = Vec::new();
    while gone.len() < 3 {
        let (kind, pod) = events.next().await;
        if kind == "DELETED" {
            gone.push(pod["metadata"]["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(gone, ["db-2", "db-1", "db-0"]);
}

pub(super) async fn a_stateful_set_bursts_when_told_to(server: Server) {
    server.namespace("bursts").await;
    let path = format!("{}/db", apps("bursts", "statefulsets"));
    let mut set = stateful("db", 1);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    set["spec"]["template"]["metadata"]["labels"][kubelet::FARE] = json!("waits");
    server.post(&apps("bursts", "statefulsets"), &set).await;
    server.until_listed(&pods_of("bursts", "db"), 1).await;
    server.merge(&path, &json!({"spec": {"replicas": 3}})).await;
    server.until_listed(&pods_of("bursts", "db"), 3).await;
    server.merge(&path, &json!({"spec": {"replicas": 0}})).await;
    server.until_listed(&pods_of("bursts", "db"), 0).await;
}

pub(super) async fn a_stateful_set_rolls_by_partition_and_back(server: Server) {
    server.namespace("partition").await;
    let (path, pods) = (format!("{}/db", apps("partition", "statefulsets")), pods_of("partition", "db"));
    let mut set = stateful("db", 3);
    set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    server.post(&apps("partition", "statefulsets"), &set).await;
    let settled = server
        .until(&path, |found| {
            found["status"]["readyReplicas"] == 3
                && found["status"]["currentRevision"] == found["status"]["updateRevision"]
        })
        .await;
    let first = settled["status"]["currentRevision"].clone();
    let images = |wanted: [&'static str; 3]| {
        move |pods: &[Value]| {
            pods.len() == 3
                && pods.iter().all(|pod| {
                    let index: usize =
                        pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"].as_str().unwrap().parse().unwrap();
                    is_ready(pod) && image_of(pod) == wanted[index]
                })
        }
    };
    let (old, new) = ("myapp:1.2.0", "myapp:1.3.0");
    server.merge(&path, &new_image(new)).await;
    server.until_items(&pods, images([old, old, new])).await;
    // What is deleted comes back on its own side of the partition.
    for name in ["db-0", "db-2"] {
        server.delete(&format!("/api/v1/namespaces/partition/pods/{name}")).await;
    }
    server.until_items(&pods, images([old, old, new])).await;
    server.merge(&path, &json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})).await;
    server.until_items(&pods, images([new, new, new])).await;
    let rolled = server
        .until(&path, |found| {
            found["status"]["currentRevision"] == found["status"]["updateRevision"]
                && found["status"]["currentRevision"] != first
        })
        .await;
    server.merge(&path, &new_image(old)).await;
    server.until_items(&pods, images([old, old, old])).await;
    // Going back is known as such: it is the first revision again.
    let back = server.until(&path, |found| found["status"]["currentRevision"] == first).await;
    assert_ne!(rolled["status"]["currentRevision"], back["status"]["currentRevision"]);
}

pub(super) async fn a_stateful_set_recreates_a_failed_pod(server: Server) {
    server.namespace("failed").await;
    server.post(&apps("failed", "statefulsets"), &stateful("db", 1)).await;
    let pod = "/api/v1/namespaces/failed/pods/db-0";
    let first = server.until(pod, is_ready).await;
    fare(&server, "failed", "db-0", json!("fails")).await;
    let second = server.until(pod, |pod| is_ready(pod) && pod["metadata"]["uid"] != first["metadata"]["uid"]).await;
    assert_eq!(second["metadata"]["labels"][kubelet::FARE], Value::Null);
}
