//! Jobs.

use serde_json::{Value, json};

use super::{Server, is_ready, kubelet, owner, pods_of, stateful_sets::fare, template};
use crate::answers::done;

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

pub(super) async fn a_job_runs_to_its_end(server: Server) {
    server.namespace("job").await;
    server.post(&jobs("job"), &job("work", "succeeds", &json!({"completions": 4, "parallelism": 2}))).await;
    let ended = server.until(&format!("{}/work", jobs("job")), |job| has_condition(job, "Complete")).await;
    let status = &ended["status"];
    assert_eq!((&status["succeeded"], &status["active"], &status["failed"]), (&json!(4), &Value::Null, &Value::Null));
    assert!(status["completionTime"].is_string() && has_condition(&ended, "SuccessCriteriaMet"), "{status}");
}

pub(super) async fn an_indexed_job_has_an_index_per_pod(server: Server) {
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

pub(super) async fn a_job_fails_as_its_policy_says(server: Server) {
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

pub(super) async fn a_job_adopts_and_releases(server: Server) {
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

pub(super) async fn a_deleted_job_takes_its_pods_along(server: Server) {
    server.namespace("job-gone").await;
    let path = format!("{}/work", jobs("job-gone"));
    server.post(&jobs("job-gone"), &job("work", "runs", &json!({"parallelism": 2, "completions": 4}))).await;
    server.until(&path, |job| job["status"]["active"] == 2 && job["status"]["ready"] == 2).await;
    done(&server.ask("DELETE", &path, &json!({"propagationPolicy": "Background"})).await);
    server.gone(&path).await;
    server.until_listed(&pods_of("job-gone", "work"), 0).await;
}
