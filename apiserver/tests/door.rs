//! The server through its one door, in this process: what clients see of identity, rules and objects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use martello_api::identity::User;
use martello_apiserver::store::{Resource, Scope, Store as _};
use serde_json::{Value, json};

#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;

use rig::Rig;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test]
async fn an_object_lives_as_the_verbs_say() {
    let rig = Rig::new().await;
    let (status, made) = rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("a"))).await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, read) = rig.admin(Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
    assert_eq!(read, made);
    let (status, error) = rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("a"))).await;
    assert_eq!((status, error["reason"].as_str()), (StatusCode::CONFLICT, Some("AlreadyExists")));
    let (_, same) = rig.admin(Method::PUT, &format!("{CONFIG_MAPS}/a"), Some(&config_map("a"))).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (status, _) = rig.admin(Method::DELETE, &format!("{CONFIG_MAPS}/a"), None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = rig.admin(Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_known_reaches_only_health_and_version() {
    let rig = Rig::new().await;
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        let (status, _) = rig.call(User::anonymous(), Method::GET, path, "", Vec::new()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    for path in ["/metrics", "/api", "/openapi/v2", CONFIG_MAPS, "/"] {
        let (status, _) = rig.call(User::anonymous(), Method::GET, path, "", Vec::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_role_is_in_force_when_its_write_is_answered() {
    let rig = Rig::new().await;
    let jane = || User::authenticated("jane", ["devs"]);
    let (status, _) = rig.call(jane(), Method::GET, CONFIG_MAPS, "", Vec::new()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let (status, _) = rig.admin(Method::POST, bindings, Some(&binding)).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = rig.call(jane(), Method::GET, CONFIG_MAPS, "", Vec::new()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, error) = rig.call(jane(), Method::GET, "/api/v1/namespaces/default/secrets", "", Vec::new()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(error["message"].as_str().unwrap().contains("cannot list resource \"secrets\""), "{error}");
    // Who may not grant, can't: an editor of bindings would make himself administrator.
    let mut grab = binding.clone();
    grab["metadata"]["name"] = "grab".into();
    grab["roleRef"]["name"] = "cluster-admin".into();
    let body = grab.to_string().into_bytes();
    let (status, _) = rig.call(jane(), Method::POST, bindings, "application/json", body).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    rig.admin(Method::DELETE, &format!("{bindings}/b"), None).await;
    let (status, _) = rig.call(jane(), Method::GET, CONFIG_MAPS, "", Vec::new()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_secret_is_sealed_in_the_store_and_open_in_the_answer() {
    let rig = Rig::new().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {"note": "cGFzc3dvcmQ="}},
        "data": {"password": "cGFzc3dvcmQ="},
    });
    rig.admin(Method::POST, "/api/v1/namespaces/default/secrets", Some(&secret)).await;
    let scope = Scope::all(&Resource::new("", "secrets"));
    let stored = rig.store.list(&scope, martello_apiserver::store::ListAt::Latest, Default::default()).await.unwrap();
    let entry = stored.items.first().unwrap();
    assert!(entry.is_sealed());
    assert!(!entry.bytes().windows(12).any(|window| window == b"cGFzc3dvcmQ="));
    for path in ["/api/v1/namespaces/default/secrets/s", "/api/v1/namespaces/default/secrets"] {
        let (_, answer) = rig.admin(Method::GET, path, None).await;
        assert!(answer.to_string().contains("cGFzc3dvcmQ="), "{path}");
    }
}

#[tokio::test]
async fn bad_input_is_answered_by_a_status() {
    let rig = Rig::new().await;
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let admin = || User::authenticated("root", ["system:masters"]);
    for body in ["", "{", "[]", "null", "\u{0}", "{\"metadata\": 5}", "{\"metadata\": {\"name\": [1]}}", deep.as_str()]
    {
        for (method, path) in [(Method::POST, CONFIG_MAPS.to_owned()), (Method::PUT, format!("{CONFIG_MAPS}/a"))] {
            for media in ["application/json", "application/yaml", "text/x", "application/apply-patch+yaml"] {
                let (status, answer) = rig.call(admin(), method.clone(), &path, media, body.into()).await;
                assert!(status.is_client_error(), "{method} {media} {:.20}: {status} {answer}", body);
                assert_eq!(answer["kind"], "Status");
            }
        }
    }
    for path in ["/api/v1/namespaces/../../x", "/api/v1/%2e%2e", "/api/v1/namespaces/a/pods/b/c/d/e"] {
        let (status, _) = rig.admin(Method::GET, path, None).await;
        assert!(status.is_client_error(), "{path}");
    }
    let (status, _) =
        rig.call(admin(), Method::POST, CONFIG_MAPS, "application/json", vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_watch_shows_the_state_and_then_what_happens() {
    use futures::StreamExt as _;
    let rig = Rig::new().await;
    rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("a"))).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let client = rig.server.client(User::authenticated("root", ["system:masters"]));
    let mut frames = client.send(request).await.unwrap().into_body().into_data_stream();
    let mut seen = Vec::new();
    rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("b"))).await;
    rig.admin(Method::DELETE, &format!("{CONFIG_MAPS}/b"), None).await;
    while seen.len() < 4 {
        let frame = tokio::time::timeout(Duration::from_secs(5), frames.next()).await.unwrap().unwrap().unwrap();
        for line in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).unwrap();
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
            seen.push((event["type"].as_str().unwrap().to_owned(), name));
        }
    }
    let expected = [("ADDED", "a"), ("BOOKMARK", "-"), ("ADDED", "b"), ("DELETED", "b")];
    let expected: Vec<_> = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())).to_vec();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_bookmark_is_a_table_where_tables_are_asked_for() {
    use futures::StreamExt as _;
    let rig = Rig::new().await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&includeObject=None"
    );
    let request = http::Request::get(path).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let client = rig.server.client(User::authenticated("root", ["system:masters"]));
    let answer = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut frames = answer.into_body().into_data_stream();
    let frame = tokio::time::timeout(Duration::from_secs(5), frames.next()).await.unwrap().unwrap().unwrap();
    let event: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    let table = &event["object"];
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][1]["name"], "Data");
    assert_eq!(table["rows"][0]["cells"], json!(["", 0, "<unknown>"]));
    // Who asks for no objects sees the mark all the same.
    let object = &table["rows"][0]["object"];
    assert_eq!(object["kind"], "PartialObjectMetadata");
    assert_eq!(object["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
}

#[tokio::test]
async fn racing_patches_all_win() {
    let rig = Arc::new(Rig::new().await);
    rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("a"))).await;
    let patches = (0..10).map(|at| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            let body = json!({"data": {format!("k{at}"): "v"}}).to_string().into_bytes();
            let user = User::authenticated("root", ["system:masters"]);
            rig.call(user, Method::PATCH, &format!("{CONFIG_MAPS}/a"), "application/merge-patch+json", body).await.0
        })
    });
    for status in futures::future::join_all(patches).await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    let (_, read) = rig.admin(Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
    assert_eq!(read["data"].as_object().unwrap().len(), 11);
}

/// Has a policy refuse what a rule matches, with a message that an expression makes.
async fn refuse_all(rig: &Rig, rule: Value, message: &str) {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "tell"}, "spec": {"matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "messageExpression": message}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "tell"}, "spec": {"policyName": "tell", "validationActions": ["Deny"]}});
    for (kind, object) in [("ies", policy), ("ybindings", binding)] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic{kind}");
        let (status, made) = rig.admin(Method::POST, &path, Some(&object)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
}

#[tokio::test]
async fn a_policy_sees_the_options_of_a_delete_wherever_they_were_given() {
    let rig = Rig::new().await;
    rig.admin(Method::POST, CONFIG_MAPS, Some(&config_map("a"))).await;
    let shown = "[string(request.dryRun), string(request.options.kind), string(has(request.options.dryRun)), \
        has(request.options.propagationPolicy) ? string(request.options.propagationPolicy) : '-'].join(' ')";
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]});
    refuse_all(&rig, rule, shown).await;
    let path = format!("{CONFIG_MAPS}/a");
    let in_body =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"], "propagationPolicy": "Orphan"});
    // The policy is in force a moment after it was written.
    let in_force = async {
        while rig.admin(Method::DELETE, &path, Some(&in_body)).await.0 == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), in_force).await.unwrap();
    let plain = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    for (query, body, told) in [
        ("", Some(&in_body), "true DeleteOptions true Orphan"),
        ("?dryRun=All", None, "true DeleteOptions true -"),
        ("", None, "false DeleteOptions false -"),
        ("", Some(&plain), "false DeleteOptions false -"),
    ] {
        let (_, refused) = rig.admin(Method::DELETE, &format!("{path}{query}"), body).await;
        assert!(refused["message"].as_str().unwrap().ends_with(told), "{query}: {refused}");
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn make_pod(rig: &Rig, address: &str) -> (StatusCode, Value) {
    let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 8080}]});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}});
    rig.admin(Method::POST, PODS, Some(&pod)).await;
    let (_, mut pod) = rig.admin(Method::GET, &format!("{PODS}/p"), None).await;
    pod["status"]["podIP"] = address.into();
    pod["status"]["podIPs"] = json!([{"ip": address}]);
    rig.admin(Method::PUT, &format!("{PODS}/p/status"), Some(&pod)).await
}

#[tokio::test]
async fn what_is_created_below_a_pod_is_judged_as_what_it_is() {
    let rig = Rig::new().await;
    let container = json!({"name": "c", "image": "i"});
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}});
    let (status, made) = rig.admin(Method::POST, PODS, Some(&pod)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
        "resources": ["pods/*", "serviceaccounts/token"]});
    let told = "request.operation + ' ' + request.subResource + ' ' + request.kind.kind + ' ' + object.kind";
    refuse_all(&rig, rule, told).await;
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token".to_owned();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}});
    // The policy is in force a moment after it was written.
    let in_force = async {
        while rig.admin(Method::POST, &token, Some(&request)).await.0 == StatusCode::CREATED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), in_force).await.unwrap();
    for (path, body, told) in [
        (token, request, "CREATE token TokenRequest TokenRequest"),
        (format!("{PODS}/p/binding"), binding, "CREATE binding Binding Binding"),
        (format!("{PODS}/p/eviction"), eviction, "CREATE eviction Eviction Eviction"),
    ] {
        let (_, refused) = rig.admin(Method::POST, &path, Some(&body)).await;
        assert!(refused["message"].as_str().unwrap().ends_with(told), "{path}: {refused}");
    }
    let (_, pod) = rig.admin(Method::GET, &format!("{PODS}/p"), None).await;
    assert_eq!((&pod["spec"]["nodeName"], &pod["metadata"]["deletionTimestamp"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn nobody_reaches_the_servers_own_machine_through_a_proxy() {
    let rig = Rig::new().await;
    for address in ["localhost", "::ffff:127.0.0.1"] {
        let (status, refused) = make_pod(&rig, address).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let told = format!("status.podIPs[0]: Invalid value: {address:?}");
        assert!(refused["message"].as_str().unwrap().contains(&told), "{refused}");
    }
    for address in ["127.0.0.1", "169.254.169.254"] {
        let (status, pod) = make_pod(&rig, address).await;
        assert_eq!(status, StatusCode::OK, "{pod}");
        let (status, refused) = rig.admin(Method::GET, &format!("{PODS}/p/proxy/x"), None).await;
        assert_eq!(
            (status, refused["message"].as_str()),
            (StatusCode::BAD_REQUEST, Some("address not allowed")),
            "{address}"
        );
    }
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    rig.admin(Method::POST, "/api/v1/namespaces/default/services", Some(&service)).await;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
        "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}},
        "endpoints": [{"addresses": ["localhost.example.com"]}], "ports": [{"name": "", "port": 80}]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (status, made) = rig.admin(Method::POST, slices, Some(&slice)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, refused) = rig.admin(Method::GET, "/api/v1/namespaces/default/services/s/proxy/x", None).await;
    let told = refused["message"].as_str();
    assert_eq!((status, told), (StatusCode::SERVICE_UNAVAILABLE, Some("no endpoints available for service \"s\"")));
}

#[tokio::test]
async fn what_is_behind_a_proxy_is_recorded_before_it_is_asked() {
    let rig = Rig::new().await;
    make_pod(&rig, "127.0.0.1").await;
    rig.admin(Method::GET, &format!("{PODS}/p"), None).await;
    rig.admin(Method::GET, &format!("{PODS}/p/proxy/do"), None).await;
    let entries = martello_audit::tail(&rig.directory.path().join("audit"), 100, None).unwrap();
    let stages = |uri: &str| -> Vec<String> {
        let events = entries.iter().filter_map(|entry| entry.event.as_ref().ok());
        let own = events.filter(|event| event["verb"] == "get" && event["requestURI"] == uri);
        own.map(|event| event["stage"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(stages(&format!("{PODS}/p/proxy/do")).first().map(String::as_str), Some("RequestReceived"));
    assert!(!stages(&format!("{PODS}/p")).contains(&"RequestReceived".to_owned()));
}

#[tokio::test]
async fn a_connection_through_a_nodes_agent_takes_the_right_to_create() {
    let rig = Rig::new().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let kind =
        |kind: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "m"}});
    let (mut role, mut binding) = (kind("ClusterRole"), kind("ClusterRoleBinding"));
    role["rules"] = json!([{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}]);
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "m"});
    binding["subjects"] = json!([{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]);
    rig.admin(Method::POST, &format!("{rbac}/clusterroles"), Some(&role)).await;
    rig.admin(Method::POST, &format!("{rbac}/clusterrolebindings"), Some(&binding)).await;
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = http::Request::get("/api/v1/nodes/n/proxy/exec/default/p/c?command=id&output=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = rig.server.client(User::authenticated("jane", ["devs"]));
        let answer = client.send(request.body(Body::empty()).unwrap()).await.unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&bytes).unwrap()["message"].as_str().unwrap().to_owned()
    };
    assert!(ask(&[]).await.contains("nodes \"n\" not found"));
    let denied = ask(&[("connection", "Upgrade"), ("upgrade", "websocket")]).await;
    assert!(denied.contains("cannot create resource \"nodes/proxy\""), "{denied}");
}
