//! The conventions of the API, as clients meet them: what is refused, in which words, and with which code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use http::Method;
use serde_json::{Value, json};

#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;

#[path = "conventions/reads.rs"]
mod reads;

use rig::Rig;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

async fn with_map() -> Rig {
    let rig = Rig::new().await;
    rig.admin(Method::POST, MAPS, Some(&config_map("a"))).await;
    rig
}

/// Sends a body of a media type; answers code and message.
async fn send(rig: &Rig, method: Method, path: &str, media: &str, body: &str) -> (u16, String) {
    let answer = rig.raw(method, path, &[("content-type", media)], body).await;
    (answer.status, answer.message())
}

/// Asks for nothing but an answer.
async fn ask(rig: &Rig, method: Method, path: &str) -> (u16, String) {
    let answer = rig.raw(method, path, &[], "").await;
    (answer.status, answer.message())
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused_in_upstreams_words() {
    let rig = with_map().await;
    let post = |body: Value| {
        let body = body.to_string();
        let rig = &rig;
        async move { send(rig, Method::POST, MAPS, "application/json", &body).await }
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}});
    let words = "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion";
    assert_eq!(post(secret).await, (400, words.to_owned()));
    let (code, words) = post(json!({"apiVersion": "a/b/c", "kind": "ConfigMap"})).await;
    assert_eq!(code, 400);
    assert!(words.contains("unexpected GroupVersion string: a/b/c"), "{words}");
    let (code, words) = send(&rig, Method::POST, MAPS, "application/json", "[]").await;
    assert_eq!(code, 400);
    assert!(words.ends_with("(5b5d)"), "{words}");
}

#[tokio::test]
async fn objects_are_made_in_a_collection_and_changed_by_name() {
    let rig = with_map().await;
    let body = config_map("a").to_string();
    for (method, path) in [
        (Method::POST, format!("{MAPS}/a")),
        (Method::PUT, MAPS.to_owned()),
        (Method::PATCH, MAPS.to_owned()),
        (Method::POST, "/api/v1/configmaps".to_owned()),
    ] {
        let media = if method == Method::PATCH { MERGE } else { "application/json" };
        assert_eq!(send(&rig, method.clone(), &path, media, &body).await.0, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn an_update_names_the_object_of_its_path() {
    let rig = with_map().await;
    let put = |path: &'static str, metadata: Value| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string();
        let (rig, path) = (&rig, format!("{MAPS}/{path}"));
        async move { send(rig, Method::PUT, &path, "application/json", &body).await }
    };
    let nameless = "the name of the object (a based on URL) was undeterminable: name must be provided";
    assert_eq!(put("a", json!({})).await, (400, nameless.to_owned()));
    let other = "the name of the object (b) does not match the name on the URL (a)";
    assert_eq!(put("a", json!({"name": "b"})).await, (400, other.to_owned()));
    let elsewhere = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(put("a", json!({"name": "b", "namespace": "x"})).await, (400, elsewhere.to_owned()));
    // Only what a put may make is looked for by its uid.
    assert_eq!(put("none", json!({"name": "none", "uid": "u"})).await.0, 404);
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "none", "uid": "u"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/none";
    let (code, words) = send(&rig, Method::PUT, path, "application/json", &lease.to_string()).await;
    assert_eq!(code, 409);
    assert!(words.contains("Key: /registry/leases/default/none, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: u, UID in object meta: "), "{words}");
    assert_eq!(put("none", json!({"name": "none"})).await.0, 404);
    let config = config_map("new").to_string().replace("\"name\"", "\"uid\":\"u\",\"name\"");
    let path = format!("{MAPS}/new?fieldManager=m");
    let (code, words) = send(&rig, Method::PATCH, &path, APPLY, &config).await;
    let absent = "Operation cannot be fulfilled on configmaps \"new\": uid mismatch: the provided object specified uid u, and no existing object was found";
    assert_eq!((code, words.as_str()), (409, absent));
}

#[tokio::test]
async fn a_generated_name_is_judged_with_its_base() {
    let rig = Rig::new().await;
    let body = json!({"metadata": {"generateName": "Bad_"}}).to_string();
    let answer = rig.raw(Method::POST, MAPS, &[("content-type", "application/json")], &body).await.json();
    let fields: Vec<&str> =
        answer["details"]["causes"].as_array().unwrap().iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["metadata.generateName", "metadata.name"]);
    let body = json!({"metadata": {"generateName": "good-"}}).to_string();
    assert_eq!(send(&rig, Method::POST, MAPS, "application/json", &body).await.0, 201);
}

#[tokio::test]
async fn a_patch_that_makes_another_kind_is_refused() {
    let rig = with_map().await;
    let path = format!("{MAPS}/a");
    let (code, words) = send(&rig, Method::PATCH, &path, MERGE, r#"{"kind":"Secret"}"#).await;
    assert_eq!(code, 422);
    assert!(words.ends_with("converting (v1.Secret) to (core.ConfigMap): unknown conversion"), "{words}");
    assert_eq!(send(&rig, Method::PATCH, &path, STRATEGIC, r#"{"kind":"Secret"}"#).await.0, 200);
    let strict = format!("{path}?fieldValidation=Strict");
    let (code, words) = send(&rig, Method::PATCH, &strict, STRATEGIC, r#"{"frob":1}"#).await;
    let shown =
        " \"\" is invalid: patch: Invalid value: \"map[frob:1]\": strict decoding error: unknown field \"frob\"";
    assert_eq!((code, words.as_str()), (422, shown));
    let nameless = "the name of the object (a based on URL) was undeterminable: name must be provided";
    let gone = send(&rig, Method::PATCH, &path, JSON_PATCH, r#"[{"op":"remove","path":"/metadata"}]"#).await;
    assert_eq!(gone, (400, nameless.to_owned()));
    let (code, words) = send(&rig, Method::PATCH, &format!("{path}?fieldManager=m"), APPLY, "[a]").await;
    assert_eq!(code, 400);
    assert!(
        words.starts_with(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array"
        ),
        "{words}"
    );
}

#[tokio::test]
async fn a_scale_is_applied_and_conflicts_as_its_object() {
    let rig = Rig::new().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    let base = "/apis/apps/v1/namespaces/default/deployments";
    let (status, made) = rig.admin(Method::POST, &format!("{base}?fieldManager=one"), Some(&deployment)).await;
    assert_eq!(status, 201, "{made}");
    let config =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 3}});
    let apply = |query: &str| {
        let (path, config, rig) = (format!("{base}/d/scale?{query}"), config.to_string(), &rig);
        async move { rig.raw(Method::PATCH, &path, &[("content-type", APPLY)], &config).await }
    };
    let conflict = apply("fieldManager=two").await;
    let words = "Apply failed with 1 conflict: conflict with \"one\" using autoscaling/v1: .spec.replicas";
    assert_eq!((conflict.status, conflict.message().as_str()), (409, words));
    let scale = apply("fieldManager=two&force=true").await.json();
    assert_eq!((scale["kind"].as_str(), scale["spec"]["replicas"].as_i64()), (Some("Scale"), Some(3)));
    let (_, read) = rig.admin(Method::GET, &format!("{base}/d"), None).await;
    let owner =
        read["metadata"]["managedFields"].as_array().unwrap().iter().find(|one| one["manager"] == "two").unwrap();
    assert_eq!((owner["subresource"].as_str(), owner["operation"].as_str()), (Some("scale"), Some("Apply")));
    assert_eq!(owner["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn fields_that_another_version_calls_otherwise_have_their_owners_there() {
    let rig = Rig::new().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let first = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}});
    let metric = |share: i64| {
        json!({"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
    };
    let second = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": [metric(60)]}});
    let apply = |version: &'static str, query: &'static str, config: &Value| {
        let path = format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h?{query}");
        let (config, rig) = (config.to_string(), &rig);
        async move { rig.raw(Method::PATCH, &path, &[("content-type", APPLY)], &config).await }
    };
    assert_eq!(apply("v1", "fieldManager=one", &first).await.status, 201);
    let conflict = apply("v2", "fieldManager=two", &second).await;
    let words = "Apply failed with 1 conflict: conflict with \"one\": .spec.targetCPUUtilizationPercentage";
    assert_eq!((conflict.status, conflict.message().as_str()), (409, words));
    let forced = apply("v2", "fieldManager=two&force=true", &second).await.json();
    let owners = forced["metadata"]["managedFields"].as_array().unwrap();
    let owned =
        |manager: &str| owners.iter().find(|one| one["manager"] == manager).unwrap()["fieldsV1"]["f:spec"].clone();
    assert_eq!(owned("one"), json!({"f:maxReplicas": {}, "f:scaleTargetRef": {}}));
    // What is one thing in the first version is three fields in the second.
    let parts = json!({"f:apiVersion": {}, "f:kind": {}, "f:name": {}});
    assert_eq!(owned("two"), json!({"f:maxReplicas": {}, "f:scaleTargetRef": parts, "f:metrics": {}}));
}

#[tokio::test]
async fn preconditions_of_a_delete_are_told_with_the_kind() {
    let rig = with_map().await;
    let path = format!("{MAPS}/a");
    let answer = rig
        .raw(
            Method::DELETE,
            &path,
            &[("content-type", "application/json")],
            r#"{"preconditions":{"resourceVersion":"1"}}"#,
        )
        .await;
    assert_eq!(answer.status, 409);
    assert!(answer.message().starts_with("Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ("));
    assert_eq!(answer.json()["details"]["kind"], "ConfigMap");
    assert_eq!(send(&rig, Method::DELETE, &path, "application/json", "{").await.0, 400);
    assert_eq!(send(&rig, Method::DELETE, &path, "text/plain", "x").await.0, 415);
    let other = r#"{"kind":"DeleteOptions","apiVersion":"apps/v1","dryRun":["All"]}"#;
    assert_eq!(send(&rig, Method::DELETE, &path, "application/json", other).await.0, 200);
    let (_, held) =
        rig.admin(Method::POST, MAPS, Some(&json!({"metadata": {"name": "h", "finalizers": ["x.io/y"]}}))).await;
    assert_eq!(held["metadata"]["name"], "h");
    assert_eq!(
        send(&rig, Method::DELETE, &format!("{MAPS}/h"), "application/json", r#"{"orphanDependents":false}"#).await.0,
        202
    );
}

#[tokio::test]
async fn what_is_deleted_together_is_told_as_a_table() {
    let rig = with_map().await;
    let answer = rig.raw(Method::DELETE, MAPS, &[("accept", TABLE)], "").await.json();
    assert_eq!((answer["kind"].as_str(), answer["rows"].as_array().map(Vec::len)), (Some("Table"), Some(1)));
}

#[tokio::test]
async fn a_dry_run_has_no_version_to_tell() {
    let rig = Rig::new().await;
    let headers = [("accept", TABLE), ("content-type", "application/json")];
    let answer =
        rig.raw(Method::POST, &format!("{MAPS}?dryRun=All"), &headers, &config_map("x").to_string()).await.json();
    assert_eq!(answer["metadata"], json!({}));
}

#[tokio::test]
async fn a_deprecated_kind_is_told_on_every_call() {
    let rig = Rig::new().await;
    let path = "/api/v1/namespaces/default/endpoints";
    for (method, path, body) in [
        (Method::GET, path.to_owned(), ""),
        (Method::GET, format!("{path}/none"), ""),
        (Method::POST, path.to_owned(), "{}"),
        (Method::DELETE, format!("{path}/none"), ""),
    ] {
        let answer = rig.raw(method.clone(), &path, &[("content-type", "application/json")], body).await;
        assert!(answer.header("warning").contains("v1 Endpoints is deprecated"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_as_what_it_is() {
    let rig = with_map().await;
    let mut again = config_map("a");
    let taken = "configmaps \"a\" already exists";
    let post = |body: Value| {
        let rig = &rig;
        async move { send(rig, Method::POST, MAPS, "application/json", &body.to_string()).await }
    };
    assert_eq!(post(again.clone()).await, (409, taken.to_owned()));
    again["metadata"]["generateName"] = json!("a-");
    let (code, status) = rig.admin(Method::POST, MAPS, Some(&again)).await;
    let words = format!("{taken}, the server was not able to generate a unique name for the object");
    assert_eq!((code.as_u16(), &status["message"]), (409, &json!(words)));
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps", "retryAfterSeconds": 1}));
    let held = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/held"]}]).to_string();
    let path = format!("{MAPS}/a");
    assert_eq!(send(&rig, Method::PATCH, &path, "application/json-patch+json", &held).await.0, 200);
    assert_eq!(ask(&rig, Method::DELETE, &path).await.0, 200);
    for query in ["", "?dryRun=All"] {
        let (path, body) = (format!("{MAPS}{query}"), config_map("a").to_string());
        let answer = send(&rig, Method::POST, &path, "application/json", &body).await;
        assert_eq!(answer, (409, format!("object is being deleted: {taken}")), "{query}");
    }
}

#[tokio::test]
async fn a_new_object_has_no_version_yet() {
    let rig = with_map().await;
    let post = |name: &'static str, version: &'static str, query: &'static str| {
        let rig = &rig;
        let mut map = config_map(name);
        map["metadata"]["resourceVersion"] = json!(version);
        async move { rig.admin(Method::POST, &format!("{MAPS}{query}"), Some(&map)).await }
    };
    // Before it is looked whether the name is taken, and after the object was found valid.
    for name in ["a", "new"] {
        let (code, status) = post(name, "5", "").await;
        assert_eq!(code, 500, "{name}");
        assert_eq!(status["message"], "resourceVersion should not be set on objects to be created");
    }
    assert_eq!(post("Not A Name", "5", "").await.0, 422);
    // What is no version at all is none, and nothing is stored in a dry run.
    assert_eq!(post("zero", "0", "").await.0, 201);
    assert_eq!(post("garbage", "x", "").await.0, 201);
    assert_eq!(post("dry", "5", "?dryRun=All").await.0, 201);
}

#[tokio::test]
async fn some_statuses_are_written_without_metadata() {
    let rig = Rig::new().await;
    const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let level = json!({"name": "catch-all"});
    let schema = json!({"metadata": {"name": "a"}, "spec": {"priorityLevelConfiguration": level}});
    assert_eq!(rig.admin(Method::POST, FLOW, Some(&schema)).await.0, 201);
    let service = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(rig.admin(Method::POST, services, Some(&service)).await.0, 201);
    let patch = json!({"metadata": {"labels": {"x": "y"}, "finalizers": ["example.com/f"]}}).to_string();
    for (path, finalizers, labels) in
        [(FLOW, Value::Null, Value::Null), (services, json!(["example.com/f"]), json!({"x": "y"}))]
    {
        let path = format!("{path}/a/status");
        let patched = rig.raw(Method::PATCH, &path, &[("content-type", MERGE)], &patch).await.json();
        let found = &patched["metadata"];
        assert_eq!((&found["finalizers"], &found["labels"]), (&finalizers, &labels), "{path}");
        // Nobody owns what was not written.
        let fields = found["managedFields"].to_string();
        assert_eq!(fields.contains("f:x"), !labels.is_null(), "{fields}");
    }
}

#[tokio::test]
async fn a_status_that_tells_no_generation_leaves_the_one_that_was_seen() {
    let rig = Rig::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (_, mut made) = rig.admin(Method::POST, pods, Some(&pod)).await;
    let path = format!("{pods}/a/status");
    let condition = |generation: Value| json!([{"type": "Ready", "status": "True", "observedGeneration": generation}]);
    made["status"] = json!({"phase": "Running", "observedGeneration": 1, "conditions": condition(json!(1))});
    let (code, mut seen) = rig.admin(Method::PUT, &path, Some(&made)).await;
    assert_eq!(code.as_u16(), 200, "{seen}");
    seen["status"] = json!({"phase": "Running", "conditions": condition(Value::Null)});
    let (_, kept) = rig.admin(Method::PUT, &path, Some(&seen)).await;
    assert_eq!(kept["status"]["observedGeneration"], 1);
    assert_eq!(kept["status"]["conditions"][0]["observedGeneration"], 1);
}

#[tokio::test]
async fn what_is_sent_to_a_subresource_is_of_the_namespace_and_the_object_of_its_path() {
    let rig = Rig::new().await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(rig.admin(Method::POST, pods, Some(&pod)).await.0, 201);
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "other"}, "target": {"name": "n"}});
    for subresource in ["eviction", "binding"] {
        let (code, status) = rig.admin(Method::POST, &format!("{pods}/a/{subresource}"), Some(&elsewhere)).await;
        assert_eq!(code, 400, "{subresource}: {status}");
        let words = "the namespace of the provided object does not match the namespace sent on the request";
        assert_eq!(status["message"], words);
    }
    assert_eq!(ask(&rig, Method::GET, &format!("{pods}/a")).await.0, 200);

    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": spec});
    assert_eq!(rig.admin(Method::POST, deployments, Some(&deployment)).await.0, 201);
    let path = format!("{deployments}/d/scale");
    let (code, words) = send(&rig, Method::PATCH, &path, MERGE, r#"{"metadata":{"uid":"x"}}"#).await;
    let start =
        "Operation cannot be fulfilled on deployments/scale.apps \"d\": Precondition failed: UID in precondition: x,";
    assert!(code == 409 && words.starts_with(start), "{code} {words}");
}

#[tokio::test]
async fn what_a_namespace_says_of_a_claim_is_told_with_its_other_faults() {
    let rig = Rig::new().await;
    let request = json!({"name": "A", "exactly": {"deviceClassName": "c", "adminAccess": true}});
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "a"},
        "spec": {"devices": {"requests": [request]}}});
    let path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let (status, answer) = rig.admin(Method::POST, path, Some(&claim)).await;
    let causes = answer["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    let expected = vec!["spec.devices.requests[0].adminAccess", "spec.devices.requests[0].name"];
    assert_eq!((status.as_u16(), fields), (422, expected), "{answer}");
}
