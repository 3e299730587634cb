//! The machinery that all kinds share: discovery, field validation, garbage collection, namespaces, quotas.

use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::{done, pod, refused};

pub(super) mod quotas;

use quotas::{
    a_controller_tells_that_a_quota_stopped_it, a_quota_counts_what_is_made_and_deleted,
    a_quota_is_changed_and_deleted, a_quota_limits_pods_by_what_they_request, a_quota_of_a_scope_counts_its_own_pods,
    a_quota_tells_its_use_at_once,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_machinery_works() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        every_group_has_a_preferred_version_with_resources,
        discovery_comes_at_once_when_asked_for,
        the_version_is_told,
        a_review_has_no_table,
        unknown_and_duplicate_fields_are_found,
        unknown_metadata_is_found,
        pods_go_with_their_controller,
        pods_are_orphaned_when_asked,
        replica_sets_go_with_their_deployment,
        replica_sets_are_orphaned_when_asked,
        a_controller_stays_until_its_pods_are_gone,
        a_dependent_with_another_owner_stays,
        a_circle_of_owners_blocks_nothing,
        a_namespace_takes_its_objects_along,
        a_namespace_is_patched_and_updated,
        the_status_of_a_namespace_is_written,
        a_namespace_has_finalizers,
        a_quota_tells_its_use_at_once,
        a_quota_counts_what_is_made_and_deleted,
        a_quota_limits_pods_by_what_they_request,
        a_quota_of_a_scope_counts_its_own_pods,
        a_quota_is_changed_and_deleted,
        a_controller_tells_that_a_quota_stopped_it,
    );
}

async fn every_group_has_a_preferred_version_with_resources(server: Server) {
    let groups = server.get("/apis").await;
    for group in groups["groups"].as_array().unwrap() {
        let preferred = &group["preferredVersion"];
        assert!(group["versions"].as_array().unwrap().contains(preferred), "{group}");
        let name = preferred["groupVersion"].as_str().unwrap();
        let resources = server.get(&format!("/apis/{name}")).await;
        assert_eq!(resources["groupVersion"], name);
        assert!(!resources["resources"].as_array().unwrap().is_empty(), "{name}");
        assert_eq!(server.get(&format!("/apis/{}", group["name"].as_str().unwrap())).await["name"], group["name"]);
    }
}

async fn discovery_comes_at_once_when_asked_for(server: Server) {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for (path, group, version, resource) in [("/api", "", "v1", "pods"), ("/apis", "apps", "v1", "deployments")] {
        let answer = server.admin.ask_with("GET", path, &[("accept", accept)], "").await.unwrap();
        let list = done(&answer);
        assert_eq!(list["kind"], "APIGroupDiscoveryList");
        let named = |item: &&Value| item["metadata"]["name"].as_str().unwrap_or_default() == group;
        let found = list["items"].as_array().unwrap().iter().find(named).unwrap();
        let version = found["versions"].as_array().unwrap().iter().find(|found| found["version"] == version).unwrap();
        assert!(version["resources"].as_array().unwrap().iter().any(|found| found["resource"] == resource), "{path}");
    }
}

async fn the_version_is_told(server: Server) {
    let version = server.get("/version").await;
    for part in ["major", "minor"] {
        version[part].as_str().unwrap().parse::<u32>().unwrap();
    }
}

async fn a_review_has_no_table(server: Server) {
    let review = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}}).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let headers = [("accept", table), ("content-type", "application/json")];
    let answer = server.admin.ask_with("POST", path, &headers, review).await.unwrap();
    let message = refused(&answer, 406, "NotAcceptable");
    assert!(message.starts_with("only the following media types are accepted: application/json"), "{message}");
}

async fn unknown_and_duplicate_fields_are_found(server: Server) {
    server.namespace("fields").await;
    let path = "/apis/apps/v1/namespaces/fields/deployments";
    let body = r#"{"metadata":{"name":"one"},"spec":{"replicas":1,"replicas":2,"unknown":"x","selector":
        {"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","image":"myapp:1.2.0"}]}}}}"#;
    let strict = format!("{path}?fieldValidation=Strict");
    let message = refused(&server.admin.ask("POST", &strict, body).await.unwrap(), 400, "BadRequest");
    assert_eq!(
        message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \"spec.replicas\", unknown field \"spec.unknown\""
    );
    let warned = server.admin.ask("POST", &format!("{path}?fieldValidation=Warn"), body).await.unwrap();
    assert_eq!(warned.headers.get_all("warning").iter().count(), 2, "{:?}", warned.headers);
    assert_eq!(done(&warned)["spec"]["replicas"], 2);
    let silent = server.admin.ask("PUT", &format!("{path}/one?fieldValidation=Ignore"), body).await.unwrap();
    assert_eq!((done(&silent)["kind"].clone(), silent.headers.contains_key("warning")), (json!("Deployment"), false));
    for (media, patch) in [
        ("application/merge-patch+json", r#"{"spec":{"unknown":1,"replicas":3,"replicas":4}}"#),
        ("application/strategic-merge-patch+json", r#"{"spec":{"unknown":1,"replicas":3,"replicas":4}}"#),
    ] {
        let one = format!("{path}/one?fieldValidation=Strict");
        let message = refused(&server.admin.ask_as("PATCH", &one, media, patch).await.unwrap(), 422, "Invalid");
        assert!(message.contains("duplicate field \"spec.replicas\""), "{media}: {message}");
        assert!(message.contains("unknown field \"spec.unknown\""), "{media}: {message}");
    }
}

async fn unknown_metadata_is_found(server: Server) {
    server.namespace("metadata").await;
    let path = "/apis/apps/v1/namespaces/metadata/deployments?fieldValidation=Strict";
    let body = json!({"metadata": {"name": "one", "unknownMeta": "x"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}, "unknownSub": "y"}, "spec": {"containers": [{"name": "c", "image": "myapp:1.2.0"}]}},
    }});
    let message = refused(&server.ask("POST", path, &body).await, 400, "BadRequest");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSub"] {
        assert!(message.contains(&format!("unknown field {field:?}")), "{message}");
    }
}

/// A controller of pods that nothing runs.
fn controller(name: &str, replicas: usize) -> Value {
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "one", "image": "myapp:1.2.0"}]}});
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"app": name}, "template": template}})
}

fn deployment(name: &str, replicas: usize) -> Value {
    let mut deployment = controller(name, replicas);
    deployment["spec"]["selector"] = json!({"matchLabels": {"app": name}});
    deployment
}

fn pods_of(namespace: &str, app: &str) -> String {
    format!("{namespace}/pods?labelSelector=app%3D{app}")
}

async fn with_controller(server: &Server, namespace: &str, replicas: usize) -> (String, String, Vec<Value>) {
    let namespace = server.namespace(namespace).await;
    server.post(&format!("{namespace}/replicationcontrollers"), &controller("rc", replicas)).await;
    let pods = server.until_listed(&pods_of(&namespace, "rc"), replicas).await;
    (format!("{namespace}/replicationcontrollers/rc"), namespace, pods)
}

async fn delete_with(server: &Server, path: &str, policy: &str) {
    done(&server.ask("DELETE", path, &json!({"propagationPolicy": policy})).await);
}

async fn pods_go_with_their_controller(server: Server) {
    let (controller, namespace, _) = with_controller(&server, "background", 2).await;
    delete_with(&server, &controller, "Background").await;
    refused(&server.ask("GET", &controller, &Value::Null).await, 404, "NotFound");
    server.until_listed(&pods_of(&namespace, "rc"), 0).await;
}

async fn pods_are_orphaned_when_asked(server: Server) {
    let (controller, namespace, before) = with_controller(&server, "orphan", 3).await;
    delete_with(&server, &controller, "Orphan").await;
    server.gone(&controller).await;
    let orphaned =
        |pods: &[Value]| pods.len() == 3 && pods.iter().all(|pod| pod["metadata"]["ownerReferences"].is_null());
    let after = server.until_items(&pods_of(&namespace, "rc"), orphaned).await;
    let uids = |pods: &[Value]| {
        let mut uids: Vec<String> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    assert_eq!(uids(&before), uids(&after));
}

async fn with_deployment(server: &Server, namespace: &str) -> (String, String) {
    let path = server.namespace(namespace).await;
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    server.post(&deployments, &deployment("web", 2)).await;
    server.until_listed(&pods_of(&path, "web"), 2).await;
    (format!("{deployments}/web"), path)
}

async fn replica_sets_go_with_their_deployment(server: Server) {
    let (deployment, namespace) = with_deployment(&server, "deployed").await;
    delete_with(&server, &deployment, "Background").await;
    server.until_listed("/apis/apps/v1/namespaces/deployed/replicasets?labelSelector=app%3Dweb", 0).await;
    server.until_listed(&pods_of(&namespace, "web"), 0).await;
}

async fn replica_sets_are_orphaned_when_asked(server: Server) {
    let (deployment, namespace) = with_deployment(&server, "deployed-orphan").await;
    delete_with(&server, &deployment, "Orphan").await;
    server.gone(&deployment).await;
    let sets = "/apis/apps/v1/namespaces/deployed-orphan/replicasets?labelSelector=app%3Dweb";
    let orphaned = |sets: &[Value]| sets.len() == 1 && sets[0]["metadata"]["ownerReferences"].is_null();
    server.until_items(sets, orphaned).await;
    let pods = server.get(&pods_of(&namespace, "web")).await;
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet";
    assert_eq!(pods["items"].as_array().unwrap().iter().filter(|pod| owned(pod)).count(), 2);
}

async fn a_controller_stays_until_its_pods_are_gone(server: Server) {
    let (controller, namespace, pods) = with_controller(&server, "foreground", 3).await;
    let held = format!("{namespace}/pods/{}", pods[0]["metadata"]["name"].as_str().unwrap());
    server.merge(&held, &json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    delete_with(&server, &controller, "Foreground").await;
    let waiting = server.until_listed(&pods_of(&namespace, "rc"), 1).await;
    assert_eq!(waiting[0]["metadata"]["uid"], pods[0]["metadata"]["uid"]);
    let owner = server.get(&controller).await;
    assert_eq!(owner["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    server.merge(&held, &json!({"metadata": {"finalizers": null}})).await;
    server.gone(&controller).await;
    refused(&server.ask("GET", &held, &Value::Null).await, 404, "NotFound");
}

async fn a_dependent_with_another_owner_stays(server: Server) {
    let (first, namespace, pods) = with_controller(&server, "owners", 4).await;
    let second = server.post(&format!("{namespace}/replicationcontrollers"), &controller("second", 0)).await;
    let owner = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "second", "uid": second["metadata"]["uid"]});
    for pod in &pods[..2] {
        let path = format!("{namespace}/pods/{}", pod["metadata"]["name"].as_str().unwrap());
        let patch = json!({"metadata": {"ownerReferences": [pod["metadata"]["ownerReferences"][0], owner]}});
        server.merge(&path, &patch).await;
    }
    delete_with(&server, &first, "Foreground").await;
    server.gone(&first).await;
    let left = server.until_listed(&pods_of(&namespace, "rc"), 2).await;
    for pod in left {
        assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
        assert_eq!(pod["metadata"]["ownerReferences"], json!([owner]));
    }
}

async fn a_circle_of_owners_blocks_nothing(server: Server) {
    let namespace = server.namespace("circle").await;
    let names = ["circle-1", "circle-2", "circle-3"];
    let mut made = Vec::new();
    for name in names {
        let mut member = pod(name);
        member["metadata"]["labels"] = json!({"app": "circle"});
        made.push(server.post(&format!("{namespace}/pods"), &member).await);
    }
    for (index, name) in names.iter().enumerate() {
        let owner = &made[(index + 2) % 3];
        let reference = json!({
            "apiVersion": "v1", "kind": "Pod", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        });
        server.merge(&format!("{namespace}/pods/{name}"), &json!({"metadata": {"ownerReferences": [reference]}})).await;
    }
    delete_with(&server, &format!("{namespace}/pods/circle-1"), "Foreground").await;
    server.until_listed(&pods_of(&namespace, "circle"), 0).await;
}

async fn a_namespace_takes_its_objects_along(server: Server) {
    let namespace = server.namespace("doomed").await;
    server.post(&format!("{namespace}/pods"), &pod("one")).await;
    server
        .post(
            &format!("{namespace}/services"),
            &json!({"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    server.merge(&format!("{namespace}/pods/one"), &json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    let answer = server.delete(&namespace).await;
    assert_eq!(answer["status"]["phase"], "Terminating");
    let late = server.ask("POST", &format!("{namespace}/configmaps"), &json!({"metadata": {"name": "late"}})).await;
    let message = refused(&late, 403, "Forbidden");
    assert_eq!(
        message,
        "configmaps \"late\" is forbidden: unable to create new content in namespace doomed because it is being terminated"
    );
    server
        .until(&namespace, |found| {
            let conditions = found["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter().any(|one| one["type"] == "NamespaceFinalizersRemaining" && one["status"] == "True")
            })
        })
        .await;
    server.merge(&format!("{namespace}/pods/one"), &json!({"metadata": {"finalizers": null}})).await;
    server.gone(&namespace).await;
    server.namespace("doomed").await;
    for kind in ["pods", "services"] {
        assert_eq!(server.get(&format!("{namespace}/{kind}")).await["items"], json!([]), "{kind}");
    }
}

async fn a_namespace_is_patched_and_updated(server: Server) {
    let namespace = server.namespace("patched").await;
    let patched = server.merge(&namespace, &json!({"metadata": {"labels": {"testLabel": "testValue"}}})).await;
    assert_eq!(patched["metadata"]["labels"]["testLabel"], "testValue");
    let updated = server.change(&namespace, |found| found["metadata"]["labels"]["updated"] = json!("yes")).await;
    assert_eq!(
        (&updated["metadata"]["labels"]["updated"], &updated["metadata"]["labels"]["testLabel"]),
        (&json!("yes"), &json!("testValue"))
    );
}

async fn the_status_of_a_namespace_is_written(server: Server) {
    let namespace = server.namespace("status").await;
    let path = format!("{namespace}/status");
    assert_eq!(server.get(&path).await["status"]["phase"], "Active");
    let condition =
        |reason: &str| json!({"type": "StatusPatch", "status": "True", "reason": reason, "message": "by a test"});
    let patched = server.merge(&path, &json!({"status": {"conditions": [condition("patched")]}})).await;
    assert_eq!(patched["status"]["conditions"][0]["reason"], "patched");
    let updated = server
        .change(&path, |found| found["status"]["conditions"].as_array_mut().unwrap().push(condition("updated")))
        .await;
    assert_eq!(
        (&updated["status"]["conditions"][1]["reason"], &updated["status"]["phase"]),
        (&json!("updated"), &json!("Active"))
    );
}

async fn a_namespace_has_finalizers(server: Server) {
    const OWN: &str = "example.com/own";
    let namespace = server.namespace("finalized").await;
    let path = format!("{namespace}/finalize");
    let mut found = server.get(&namespace).await;
    found["spec"]["finalizers"].as_array_mut().unwrap().push(json!(OWN));
    let with = done(&server.ask("PUT", &path, &found).await);
    assert_eq!(with["spec"]["finalizers"], json!(["kubernetes", OWN]));
    let mut found = server.get(&namespace).await;
    found["spec"]["finalizers"] = json!(["kubernetes"]);
    done(&server.ask("PUT", &path, &found).await);
    assert_eq!(server.get(&namespace).await["spec"]["finalizers"], json!(["kubernetes"]));
}
