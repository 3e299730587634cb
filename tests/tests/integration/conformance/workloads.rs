//! Controllers of pods: they make as many as are wanted, replace what fails, roll out and back, adopt and release.

use serde_json::{Value, json};

use super::{Server, facts, kubelet};
use crate::answers::{done, pod, refused};

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

fn stateful(name: &str, replicas: usize) -> Value {
    let mut set = workload(name, replicas);
    set["spec"]["serviceName"] = json!(name);
    set
}

async fn fare(server: &Server, namespace: &str, pod: &str, how: Value) {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    server.merge(&path, &json!({"metadata": {"labels": {kubelet::FARE: how}}})).await;
}

fn names(pods: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

async fn a_stateful_set_goes_in_order_and_halts(server: Server) {
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

async fn a_stateful_set_bursts_when_told_to(server: Server) {
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

async fn a_stateful_set_rolls_by_partition_and_back(server: Server) {
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

async fn a_stateful_set_recreates_a_failed_pod(server: Server) {
    server.namespace("failed").await;
    server.post(&apps("failed", "statefulsets"), &stateful("db", 1)).await;
    let pod = "/api/v1/namespaces/failed/pods/db-0";
    let first = server.until(pod, is_ready).await;
    fare(&server, "failed", "db-0", json!("fails")).await;
    let second = server.until(pod, |pod| is_ready(pod) && pod["metadata"]["uid"] != first["metadata"]["uid"]).await;
    assert_eq!(second["metadata"]["labels"][kubelet::FARE], Value::Null);
}

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

async fn a_daemon_runs_on_every_node_and_is_replaced(server: Server) {
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

async fn a_daemon_runs_where_its_selector_says(server: Server) {
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

async fn a_daemon_set_rolls_out_and_back(server: Server) {
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

fn job(name: &str, fare: &str, spec: &Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": spec});
    let mut template = template(name, "myapp:1.2.0");
    template["metadata"]["labels"][kubelet::FARE] = json!(fare);
    template["spec"]["restartPolicy"] = json!("Never");
    job["spec"]["template"] = template;
    job
}

fn has_condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == name && one["status"] == "True"))
}

fn jobs(namespace: &str) -> String {
    format!("/apis/batch/v1/namespaces/{namespace}/jobs")
}

async fn a_job_runs_to_its_end(server: Server) {
    server.namespace("job").await;
    server.post(&jobs("job"), &job("work", "succeeds", &json!({"completions": 4, "parallelism": 2}))).await;
    let ended = server.until(&format!("{}/work", jobs("job")), |job| has_condition(job, "Complete")).await;
    let status = &ended["status"];
    assert_eq!((&status["succeeded"], &status["active"], &status["failed"]), (&json!(4), &Value::Null, &Value::Null));
    assert!(status["completionTime"].is_string() && has_condition(&ended, "SuccessCriteriaMet"), "{status}");
}

async fn an_indexed_job_has_an_index_per_pod(server: Server) {
    server.namespace("indexed").await;
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    server.post(&jobs("indexed"), &job("work", "succeeds", &spec)).await;
    let ended = server.until(&format!("{}/work", jobs("indexed")), |job| has_condition(job, "Complete")).await;
    assert_eq!(ended["status"]["completedIndexes"], "0-2");
    let pods = server.get(&pods_of("indexed", "work")).await;
    let mut indexes = Vec::new();
    for pod in pods["items"].as_array().unwrap() {
        let index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
        assert_eq!(pod["spec"]["hostname"], format!("work-{index}"));
        let variable = &pod["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
        indexes.push(index.to_owned());
    }
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2"]);
}

async fn a_job_fails_as_its_policy_says(server: Server) {
    server.namespace("policy").await;
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
    let spec = json!({"backoffLimit": 5, "podFailurePolicy": {"rules": [rule]}});
    server.post(&jobs("policy"), &job("strict", "fails", &spec)).await;
    let failed = server.until(&format!("{}/strict", jobs("policy")), |job| has_condition(job, "Failed")).await;
    let condition =
        failed["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Failed").unwrap();
    assert_eq!(condition["reason"], "PodFailurePolicy");
    assert_eq!(failed["status"]["failed"], 1);

    // A pod that was evicted does not count where the policy ignores that.
    let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]});
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}});
    server.post(&jobs("policy"), &job("lenient", "runs", &spec)).await;
    let pods = server.until_items(&pods_of("policy", "lenient"), |pods| pods.len() == 1 && is_ready(&pods[0])).await;
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/policy/pods/{name}");
    let eviction = json!({"metadata": {"name": name, "namespace": "policy"}});
    done(&server.ask("POST", &format!("{path}/eviction"), &eviction).await);
    server.gone(&path).await;
    let replaced = |pods: &[Value]| pods.len() == 1 && pods[0]["metadata"]["name"] != name && is_ready(&pods[0]);
    let second = server.until_items(&pods_of("policy", "lenient"), replaced).await;
    fare(&server, "policy", second[0]["metadata"]["name"].as_str().unwrap(), json!("succeeds")).await;
    server.until(&format!("{}/lenient", jobs("policy")), |job| has_condition(job, "Complete")).await;
}

async fn a_job_adopts_and_releases(server: Server) {
    server.namespace("job-adopts").await;
    server.post(&jobs("job-adopts"), &job("work", "runs", &json!({"parallelism": 2}))).await;
    let pods = server.until_listed(&pods_of("job-adopts", "work"), 2).await;
    let path =
        |pod: &Value| format!("/api/v1/namespaces/job-adopts/pods/{}", pod["metadata"]["name"].as_str().unwrap());
    let uid = owner(&pods[0]).clone();
    server.merge(&path(&pods[0]), &json!({"metadata": {"ownerReferences": null}})).await;
    server.until(&path(&pods[0]), |pod| owner(pod) == &uid).await;
    let labels: serde_json::Map<String, Value> =
        pods[1]["metadata"]["labels"].as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
    server.merge(&path(&pods[1]), &json!({"metadata": {"labels": labels}})).await;
    server.until(&path(&pods[1]), |pod| pod["metadata"]["ownerReferences"].is_null()).await;
}

async fn a_deleted_job_takes_its_pods_along(server: Server) {
    server.namespace("job-gone").await;
    let path = format!("{}/work", jobs("job-gone"));
    server.post(&jobs("job-gone"), &job("work", "runs", &json!({"parallelism": 2, "completions": 4}))).await;
    server.until(&path, |job| job["status"]["active"] == 2 && job["status"]["ready"] == 2).await;
    done(&server.ask("DELETE", &path, &json!({"propagationPolicy": "Background"})).await);
    server.gone(&path).await;
    server.until_listed(&pods_of("job-gone", "work"), 0).await;
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
