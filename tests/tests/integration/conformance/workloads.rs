//! Controllers of pods: they make as many as are wanted, replace what fails, roll out and back, adopt and release.

use serde_json::{Value, json};

use super::{Server, facts, kubelet};
use crate::answers::{done, pod, refused};

mod daemon_sets;
mod jobs;
mod stateful_sets;

use daemon_sets::{
    a_daemon_runs_on_every_node_and_is_replaced, a_daemon_runs_where_its_selector_says, a_daemon_set_rolls_out_and_back,
};
use jobs::{
    a_deleted_job_takes_its_pods_along, a_job_adopts_and_releases, a_job_fails_as_its_policy_says,
    a_job_runs_to_its_end, an_indexed_job_has_an_index_per_pod,
};
use stateful_sets::{
    a_stateful_set_bursts_when_told_to, a_stateful_set_goes_in_order_and_halts, a_stateful_set_recreates_a_failed_pod,
    a_stateful_set_rolls_by_partition_and_back,
};

#[tokio::test(flavor = "multi_thread")]
async fn controllers_keep_their_pods() {
    let (_cluster, server) = Server::start().await;
    kubelet::start(&server, &["node-a", "node-b"]).await;
    facts!(server;
        a_deployment_rolls_out_and_cleans_up,
        a_deployment_recreates_its_pods,
        a_deployment_rolls_over_to_what_is_wanted_last,
        a_deployment_is_scaled_in_proportion,
        scales_are_read_and_written,
        a_replica_set_adopts_and_releases,
        a_replication_controller_adopts_and_releases,
        a_controller_is_patched_and_runs,
        a_stateful_set_goes_in_order_and_halts,
        a_stateful_set_bursts_when_told_to,
        a_stateful_set_rolls_by_partition_and_back,
        a_stateful_set_recreates_a_failed_pod,
        a_daemon_runs_on_every_node_and_is_replaced,
        a_daemon_runs_where_its_selector_says,
        a_daemon_set_rolls_out_and_back,
        a_job_runs_to_its_end,
        an_indexed_job_has_an_index_per_pod,
        a_job_fails_as_its_policy_says,
        a_job_adopts_and_releases,
        a_deleted_job_takes_its_pods_along,
        a_budget_blocks_an_eviction_until_it_allows_it,
    );
}

fn template(app: &str, image: &str) -> Value {
    let container = json!({"name": "one", "image": image});
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}})
}

fn workload(name: &str, replicas: usize) -> Value {
    let selector = json!({"matchLabels": {"app": name}});
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": selector, "template": template(name, "myapp:1.2.0")},
    })
}

fn apps(namespace: &str, plural: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/{plural}")
}

fn pods_of(namespace: &str, app: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")
}

fn image_of(object: &Value) -> &Value {
    &object["spec"]["containers"][0]["image"]
}

fn new_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "one", "image": image}]}}}})
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Whether a controller has done what was wanted last.
fn is_settled(object: &Value, replicas: usize) -> bool {
    let status = &object["status"];
    status["observedGeneration"] == object["metadata"]["generation"]
        && status["readyReplicas"].as_u64().unwrap_or(0) == replicas as u64
        && status["replicas"].as_u64().unwrap_or(0) == replicas as u64
        && (status["updatedReplicas"].is_null() || status["updatedReplicas"].as_u64() == Some(replicas as u64))
}

fn owner(object: &Value) -> &Value {
    &object["metadata"]["ownerReferences"][0]["uid"]
}

async fn a_deployment_rolls_out_and_cleans_up(server: Server) {
    server.namespace("rolls").await;
    let path = format!("{}/web", apps("rolls", "deployments"));
    let mut web = workload("web", 2);
    web["spec"]["revisionHistoryLimit"] = json!(1);
    server.post(&apps("rolls", "deployments"), &web).await;
    server.until(&path, |found| is_settled(found, 2)).await;
    for (image, revision) in [("myapp:1.3.0", "2"), ("myapp:1.4.0", "3"), ("myapp:1.5.0", "4")] {
        server.merge(&path, &new_image(image)).await;
        let found = server.until(&path, |found| is_settled(found, 2)).await;
        assert_eq!(found["metadata"]["annotations"]["deployment.kubernetes.io/revision"], revision);
        let updated = |pods: &[Value]| pods.len() == 2 && pods.iter().all(|pod| image_of(pod) == image);
        server.until_items(&pods_of("rolls", "web"), updated).await;
    }
    // One set is in use, and one is kept to go back to.
    let sets = format!("{}?labelSelector=app%3Dweb", apps("rolls", "replicasets"));
    let sets = server.until_listed(&sets, 2).await;
    let mut images: Vec<&str> = sets.iter().map(|set| image_of(&set["spec"]["template"]).as_str().unwrap()).collect();
    images.sort_unstable();
    assert_eq!(images, ["myapp:1.4.0", "myapp:1.5.0"]);
}

async fn a_deployment_recreates_its_pods(server: Server) {
    server.namespace("recreates").await;
    let path = format!("{}/web", apps("recreates", "deployments"));
    let mut web = workload("web", 2);
    web["spec"]["strategy"] = json!({"type": "Recreate"});
    server.post(&apps("recreates", "deployments"), &web).await;
    server.until(&path, |found| is_settled(found, 2)).await;
    let list = server.get(&pods_of("recreates", "web")).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = server.watch(&format!("{}&watch=1&resourceVersion={from}", pods_of("recreates", "web"))).await;
    server.merge(&path, &new_image("myapp:1.3.0")).await;
    let mut old = 2;
    while old > 0 {
        let (kind, pod) = events.next().await;
        if image_of(&pod) == "myapp:1.2.0" {
            old -= usize::from(kind == "DELETED");
        } else {
            assert!(!is_ready(&pod), "a new pod runs beside an old one: {pod}");
        }
    }
    server.until(&path, |found| is_settled(found, 2)).await;
}

async fn a_deployment_rolls_over_to_what_is_wanted_last(server: Server) {
    server.namespace("rollover").await;
    let path = format!("{}/web", apps("rollover", "deployments"));
    let mut web = workload("web", 2);
    web["spec"]["template"]["metadata"]["labels"][kubelet::FARE] = json!("waits");
    server.post(&apps("rollover", "deployments"), &web).await;
    server.until_listed(&pods_of("rollover", "web"), 2).await;
    let mut last = new_image("myapp:1.3.0");
    last["spec"]["template"]["metadata"] = json!({"labels": {"fare": null}});
    server.merge(&path, &last).await;
    server.until(&path, |found| is_settled(found, 2)).await;
    let all_new = |pods: &[Value]| pods.len() == 2 && pods.iter().all(|pod| image_of(pod) == "myapp:1.3.0");
    server.until_items(&pods_of("rollover", "web"), all_new).await;
}

async fn a_deployment_is_scaled_in_proportion(server: Server) {
    server.namespace("proportion").await;
    let path = format!("{}/web", apps("proportion", "deployments"));
    let mut web = workload("web", 10);
    web["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    server.post(&apps("proportion", "deployments"), &web).await;
    server.until(&path, |found| is_settled(found, 10)).await;
    let mut stuck = new_image("myapp:none");
    stuck["spec"]["template"]["metadata"] = json!({"labels": {kubelet::FARE: "waits"}});
    server.merge(&path, &stuck).await;
    let sets = format!("{}?labelSelector=app%3Dweb", apps("proportion", "replicasets"));
    let sized = |old: u64, new: u64| {
        move |sets: &[Value]| {
            let size = |image: &str| {
                let set = sets.iter().find(|set| image_of(&set["spec"]["template"]) == image);
                set.and_then(|set| set["spec"]["replicas"].as_u64())
            };
            size("myapp:1.2.0") == Some(old) && size("myapp:none") == Some(new)
        }
    };
    server.until_items(&sets, sized(8, 5)).await;
    server.merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 30}})).await;
    // 33 are allowed, 20 more than before: 8/13 of them for the old set, the rest for the new one.
    server.until_items(&sets, sized(20, 13)).await;
}

async fn scales_are_read_and_written(server: Server) {
    server.namespace("scales").await;
    let rc = json!({"metadata": {"name": "one"}, "spec": {"replicas": 1, "selector": {"app": "rc"}, "template": template("rc", "myapp:1.2.0")}});
    let mut stateful = workload("one", 1);
    stateful["spec"]["serviceName"] = json!("one");
    let own = |app: &str, mut object: Value| {
        object["spec"]["selector"]["matchLabels"]["app"] = json!(app);
        object["spec"]["template"]["metadata"]["labels"]["app"] = json!(app);
        object
    };
    for (collection, object) in [
        (apps("scales", "deployments"), own("d", workload("one", 1))),
        (apps("scales", "replicasets"), own("r", workload("one", 1))),
        (apps("scales", "statefulsets"), own("s", stateful)),
        ("/api/v1/namespaces/scales/replicationcontrollers".to_owned(), rc),
    ] {
        let (one, scale) = (format!("{collection}/one"), format!("{collection}/one/scale"));
        server.post(&collection, &object).await;
        server.until(&one, |found| found["status"]["readyReplicas"] == 1).await;
        let found = server.get(&scale).await;
        assert_eq!(
            (&found["kind"], &found["spec"]["replicas"], &found["status"]["replicas"]),
            (&json!("Scale"), &json!(1), &json!(1))
        );
        server.change(&scale, |scale| scale["spec"]["replicas"] = json!(2)).await;
        server.until(&one, |found| found["status"]["readyReplicas"] == 2).await;
        server.merge(&scale, &json!({"spec": {"replicas": 4}})).await;
        let grown = server.until(&one, |found| found["status"]["readyReplicas"] == 4).await;
        assert_eq!(grown["spec"]["replicas"], 4);
        server.delete(&one).await;
    }
}

/// An orphan is adopted by the controller that selects it, and a pod that is not selected any more is let go.
async fn adopts_and_releases(server: &Server, namespace: &str, collection: &str, controller: Value) {
    let base = server.namespace(namespace).await;
    let pods = format!("{base}/pods");
    let mut orphan = pod("orphan");
    orphan["metadata"]["labels"] = json!({"app": "own"});
    server.post(&pods, &orphan).await;
    let made = server.post(collection, &controller).await;
    let one = format!("{pods}/orphan");
    let adopted = server.until(&one, |pod| owner(pod) == &made["metadata"]["uid"]).await;
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["controller"], true);
    server.merge(&one, &json!({"metadata": {"labels": {"app": "other"}}})).await;
    server.until(&one, |pod| pod["metadata"]["ownerReferences"].is_null()).await;
    let replaced = server.until_listed(&pods_of(namespace, "own"), 1).await;
    assert_eq!(owner(&replaced[0]), &made["metadata"]["uid"]);
}

async fn a_replica_set_adopts_and_releases(server: Server) {
    adopts_and_releases(&server, "rs-adopts", &apps("rs-adopts", "replicasets"), workload("own", 1)).await;
}

async fn a_replication_controller_adopts_and_releases(server: Server) {
    let controller = json!({"metadata": {"name": "own"}, "spec": {"replicas": 1, "selector": {"app": "own"}, "template": template("own", "myapp:1.2.0")}});
    let collection = "/api/v1/namespaces/rc-adopts/replicationcontrollers";
    adopts_and_releases(&server, "rc-adopts", collection, controller).await;
}

async fn a_controller_is_patched_and_runs(server: Server) {
    server.namespace("patched").await;
    for (plural, name) in [("replicasets", "set"), ("deployments", "web")] {
        let path = format!("{}/{name}", apps("patched", plural));
        server.post(&apps("patched", plural), &workload(name, 1)).await;
        server.until(&path, |found| is_settled(found, 1)).await;
        let patch = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": {"replicas": 3}});
        server.merge(&path, &patch).await;
        let found = server.until(&path, |found| is_settled(found, 3)).await;
        assert_eq!(found["metadata"]["labels"]["patched"], "yes");
    }
}

async fn a_budget_blocks_an_eviction_until_it_allows_it(server: Server) {
    server.namespace("budget").await;
    let budgets = "/apis/policy/v1/namespaces/budget/poddisruptionbudgets";
    let budget =
        json!({"metadata": {"name": "one"}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "set"}}}});
    server.post(budgets, &budget).await;
    server.post(&apps("budget", "replicasets"), &workload("set", 3)).await;
    let path = format!("{budgets}/one");
    let told = server.until(&path, |found| found["status"]["currentHealthy"] == 3).await;
    assert_eq!((&told["status"]["disruptionsAllowed"], &told["status"]["expectedPods"]), (&json!(0), &json!(3)));
    let pods = server.get(&pods_of("budget", "set")).await;
    let name = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let (pod, eviction) = (format!("/api/v1/namespaces/budget/pods/{name}"), json!({"metadata": {"name": name}}));
    let message = refused(&server.ask("POST", &format!("{pod}/eviction"), &eviction).await, 429, "TooManyRequests");
    assert_eq!(message, "Cannot evict pod as it would violate the pod's disruption budget.");
    server.merge(&path, &json!({"spec": {"minAvailable": 2}})).await;
    server.until(&path, |found| found["status"]["disruptionsAllowed"] == 1).await;
    done(&server.ask("POST", &format!("{pod}/eviction"), &eviction).await);
    server.gone(&pod).await;
}
