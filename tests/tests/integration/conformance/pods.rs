//! Pods as the API meets them: what may be said and changed, what classes and limits add, where they are placed.

use serde_json::{Value, json};

use super::{Server, facts, kubelet};
use crate::answers::{done, pod, refused};

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_met_as_the_api_says() {
    let (_cluster, server) = Server::start().await;
    kubelet::start(&server, &["node-a"]).await;
    facts!(server;
        data_needs_keys,
        a_pod_gets_what_its_class_says,
        a_pod_lives,
        little_of_a_pod_changes,
        an_ephemeral_container_is_added,
        pods_bear_the_zone_of_their_node,
        a_pod_is_resized,
        a_pod_waits_for_its_gates,
        a_limit_range_fills_in_and_refuses,
        a_pod_fits_its_node_or_waits,
        a_pod_makes_room_for_a_more_important_one,
    );
}

async fn data_needs_keys(server: Server) {
    let namespace = server.namespace("keys").await;
    for (plural, field) in [("configmaps", "data"), ("secrets", "data")] {
        let body = json!({"metadata": {"name": "empty"}, field: {"": "dmFsdWU="}});
        let message = refused(&server.ask("POST", &format!("{namespace}/{plural}"), &body).await, 422, "Invalid");
        assert!(message.contains("data[]: Invalid value: \"\": a valid config key must consist of"), "{message}");
    }
}

async fn a_pod_gets_what_its_class_says(server: Server) {
    const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
    let pods = format!("{}/pods", server.namespace("classes").await);
    let mut classed = pod("one");
    classed["spec"]["runtimeClassName"] = json!("light");
    let message = refused(&server.ask("POST", &pods, &classed).await, 403, "Forbidden");
    assert_eq!(message, "pods \"one\" is forbidden: pod rejected: RuntimeClass \"light\" not found");
    let class = json!({
        "metadata": {"name": "light"}, "handler": "light",
        "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}},
        "scheduling": {"nodeSelector": {"light": "yes"}, "tolerations": [{"key": "light", "operator": "Exists"}]},
    });
    server.post(CLASSES, &class).await;
    let made = server.post(&pods, &classed).await;
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "10m", "memory": "1Mi"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"light": "yes"}));
    assert!(made["spec"]["tolerations"].as_array().unwrap().contains(&json!({"key": "light", "operator": "Exists"})));
    server.delete(&format!("{CLASSES}/light")).await;
}

async fn a_pod_lives(server: Server) {
    let pods = format!("{}/pods", server.namespace("lives").await);
    let mut events = server.watch(&format!("{pods}?watch=1&labelSelector=own%3Dyes")).await;
    for name in ["one", "two", "three"] {
        let mut own = pod(name);
        own["metadata"]["labels"] = json!({"own": "yes"});
        server.post(&pods, &own).await;
    }
    let one = format!("{pods}/one");
    let running = server.until(&one, |pod| pod["status"]["phase"] == "Running").await;
    assert_eq!(
        (&running["spec"]["nodeName"], &running["status"]["qosClass"]),
        (&json!("node-a"), &json!("BestEffort"))
    );
    assert_eq!(
        server.merge(&one, &json!({"metadata": {"labels": {"more": "yes"}}})).await["metadata"]["labels"]["more"],
        "yes"
    );
    let status = json!({"status": {"conditions": [{"type": "Own", "status": "True"}]}});
    let told = server.merge(&format!("{one}/status"), &status).await;
    assert!(told["status"]["conditions"].as_array().unwrap().iter().any(|one| one["type"] == "Own"), "{told}");
    let deleted = server.delete(&one).await;
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 30);
    server.gone(&one).await;
    server.delete(&format!("{pods}?labelSelector=own%3Dyes")).await;
    server.until_listed(&format!("{pods}?labelSelector=own%3Dyes"), 0).await;
    for _ in 0..3 {
        events.until(|kind, _| kind == "DELETED").await;
    }
}

async fn little_of_a_pod_changes(server: Server) {
    let pods = format!("{}/pods", server.namespace("changes").await);
    let one = format!("{pods}/one");
    server.post(&pods, &pod("one")).await;
    let (admin, path) = (&server.admin, one.as_str());
    let merged = |patch: Value| admin.ask_as("PATCH", path, "application/merge-patch+json", patch.to_string());
    assert_eq!(
        done(&merged(json!({"spec": {"activeDeadlineSeconds": 30}})).await.unwrap())["spec"]["activeDeadlineSeconds"],
        30
    );
    done(&merged(json!({"spec": {"activeDeadlineSeconds": 20}})).await.unwrap());
    let message = refused(&merged(json!({"spec": {"activeDeadlineSeconds": 50}})).await.unwrap(), 422, "Invalid");
    assert_eq!(
        message,
        "Pod \"one\" is invalid: spec.activeDeadlineSeconds: Invalid value: 50: must be less than or equal to previous value"
    );
    let message = refused(&merged(json!({"spec": {"hostname": "other"}})).await.unwrap(), 422, "Invalid");
    assert!(
        message.starts_with("Pod \"one\" is invalid: spec: Forbidden: pod updates may not change fields other than"),
        "{message}"
    );
}

async fn an_ephemeral_container_is_added(server: Server) {
    let pods = format!("{}/pods", server.namespace("ephemeral").await);
    let one = format!("{pods}/one");
    server.post(&pods, &pod("one")).await;
    let path = format!("{one}/ephemeralcontainers");
    let container = json!({"name": "debugger", "image": "busybox:1", "command": ["sh"]});
    let patch = json!({"spec": {"ephemeralContainers": [container]}}).to_string();
    let media = "application/strategic-merge-patch+json";
    let patched = done(&server.admin.ask_as("PATCH", &path, media, patch).await.unwrap());
    assert_eq!(patched["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    let second = json!({"name": "second", "image": "busybox:1"});
    let add = |found: &mut Value| found["spec"]["ephemeralContainers"].as_array_mut().unwrap().push(second.clone());
    let updated = server.change(&path, add).await;
    assert_eq!(updated["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    let without = |found: &mut Value| found["spec"]["ephemeralContainers"] = json!([second]);
    let message = refused(&server.try_change(&path, without).await, 422, "Invalid");
    assert!(message.contains("existing ephemeral containers \"debugger\" may not be removed"), "{message}");
}

async fn pods_bear_the_zone_of_their_node(server: Server) {
    let zone = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "o"});
    server.post("/api/v1/nodes", &json!({"metadata": {"name": "zoned", "labels": zone}})).await;
    let pods = format!("{}/pods", server.namespace("zones").await);
    let expected = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
    let mut placed = pod("placed");
    placed["spec"]["nodeName"] = json!("zoned");
    assert_eq!(server.post(&pods, &placed).await["metadata"]["labels"], expected);
    let mut waiting = pod("waiting");
    waiting["spec"]["schedulerName"] = json!("nobody");
    assert_eq!(server.post(&pods, &waiting).await["metadata"]["labels"], Value::Null);
    let binding = json!({"metadata": {"name": "waiting"}, "target": {"kind": "Node", "name": "zoned"}});
    server.post(&format!("{pods}/waiting/binding"), &binding).await;
    assert_eq!(server.get(&format!("{pods}/waiting")).await["metadata"]["labels"], expected);
}

async fn a_pod_is_resized(server: Server) {
    let pods = format!("{}/pods", server.namespace("resized").await);
    let mut sized = pod("one");
    sized["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "20m"}});
    server.post(&pods, &sized).await;
    let path = format!("{pods}/one/resize");
    let wanted = json!({"requests": {"cpu": "15m"}, "limits": {"cpu": "30m"}});
    let patch = json!({"spec": {"containers": [{"name": "one", "resources": wanted}]}}).to_string();
    let media = "application/strategic-merge-patch+json";
    let resized = done(&server.admin.ask_as("PATCH", &path, media, patch).await.unwrap());
    assert_eq!(
        (&resized["spec"]["containers"][0]["resources"], &resized["metadata"]["generation"]),
        (&wanted, &json!(2))
    );
    let guaranteed = json!({"requests": {"cpu": "30m", "memory": "1Mi"}, "limits": {"cpu": "30m", "memory": "1Mi"}});
    let patch = json!({"spec": {"containers": [{"name": "one", "resources": guaranteed}]}}).to_string();
    let message = refused(&server.admin.ask_as("PATCH", &path, media, patch).await.unwrap(), 422, "Invalid");
    assert!(message.contains("Pod QOS Class may not change as a result of resizing"), "{message}");
}

async fn a_pod_waits_for_its_gates(server: Server) {
    let pods = format!("{}/pods", server.namespace("gates").await);
    let mut gated = pod("one");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/a"}, {"name": "example.com/b"}]);
    server.post(&pods, &gated).await;
    let one = format!("{pods}/one");
    let waits = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "SchedulingGated";
    server.until(&one, waits).await;
    let fewer = server.merge(&one, &json!({"spec": {"schedulingGates": [{"name": "example.com/b"}]}})).await;
    assert!(waits(&fewer), "{fewer}");
    server.merge(&one, &json!({"spec": {"schedulingGates": null}})).await;
    server.until(&one, |pod| pod["status"]["phase"] == "Running").await;
}

async fn a_limit_range_fills_in_and_refuses(server: Server) {
    let namespace = server.namespace("limited").await;
    let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let limit = json!({
        "type": "Container", "min": amounts("50m", "100Mi"), "max": amounts("500m", "500Mi"),
        "default": amounts("200m", "200Mi"), "defaultRequest": amounts("100m", "150Mi"),
    });
    let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": [limit]}});
    server.post(&format!("{namespace}/limitranges"), &range).await;
    let pods = format!("{namespace}/pods");
    let plain = server.post(&pods, &pod("plain")).await;
    let expected = json!({"requests": amounts("100m", "150Mi"), "limits": amounts("200m", "200Mi")});
    assert_eq!(plain["spec"]["containers"][0]["resources"], expected);
    let mut partial = pod("partial");
    partial["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "60m"}, "limits": {"memory": "400Mi"}});
    let partial = server.post(&pods, &partial).await;
    let expected = json!({"requests": {"cpu": "60m", "memory": "400Mi"}, "limits": {"cpu": "200m", "memory": "400Mi"}});
    assert_eq!(partial["spec"]["containers"][0]["resources"], expected);
    for (cpu, words) in [
        ("10m", "minimum cpu usage per Container is 50m, but request is 10m"),
        ("600m", "maximum cpu usage per Container is 500m, but limit is 600m"),
    ] {
        let mut beyond = pod("beyond");
        beyond["spec"]["containers"][0]["resources"] =
            json!({"requests": amounts(cpu, "150Mi"), "limits": amounts(cpu, "150Mi")});
        let message = refused(&server.ask("POST", &pods, &beyond).await, 403, "Forbidden");
        assert!(message.contains(words), "{message}");
    }
    server
        .change(&format!("{namespace}/limitranges/limits"), |found| {
            found["spec"]["limits"][0]["min"]["cpu"] = json!("9m")
        })
        .await;
    let mut little = pod("little");
    little["spec"]["containers"][0]["resources"] =
        json!({"requests": amounts("10m", "150Mi"), "limits": amounts("10m", "150Mi")});
    server.post(&pods, &little).await;
}

async fn a_pod_fits_its_node_or_waits(server: Server) {
    let pods = format!("{}/pods", server.namespace("fits").await);
    let mut big = pod("big");
    big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "65"}});
    let mut elsewhere = pod("elsewhere");
    elsewhere["spec"]["nodeSelector"] = json!({"label": "none"});
    for (object, why) in [(big, "Insufficient cpu"), (elsewhere, "didn't match Pod's node affinity/selector")] {
        server.post(&pods, &object).await;
        let path = format!("{pods}/{}", object["metadata"]["name"].as_str().unwrap());
        let waiting = server.until(&path, |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
        let message = waiting["status"]["conditions"][0]["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    server.merge("/api/v1/nodes/node-a", &json!({"metadata": {"labels": {"label": "none"}}})).await;
    server.until(&format!("{pods}/elsewhere"), |pod| pod["spec"]["nodeName"] == "node-a").await;
}

async fn a_pod_makes_room_for_a_more_important_one(server: Server) {
    let pods = format!("{}/pods", server.namespace("room").await);
    server
        .post("/apis/scheduling.k8s.io/v1/priorityclasses", &json!({"metadata": {"name": "important"}, "value": 1000}))
        .await;
    let amounts = json!({"status": {"capacity": {"example.com/room": "5"}, "allocatable": {"example.com/room": "5"}}});
    server.merge("/api/v1/nodes/node-a/status", &amounts).await;
    let sized = |name: &str, class: Value| {
        let mut sized = pod(name);
        let amount = json!({"example.com/room": "3"});
        sized["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
        sized["spec"]["priorityClassName"] = class;
        sized
    };
    server.post(&pods, &sized("first", Value::Null)).await;
    server.until(&format!("{pods}/first"), |pod| pod["status"]["phase"] == "Running").await;
    let made = server.post(&pods, &sized("second", json!("important"))).await;
    assert_eq!(made["spec"]["priority"], 1000);
    server.gone(&format!("{pods}/first")).await;
    server.until(&format!("{pods}/second"), |pod| pod["status"]["phase"] == "Running").await;
}
