//! Small requests that would cost much: what a user of few rights sends must not stop the server, nor what it does for others.

use martello_tests::{cluster::Cluster, raw::Endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::answers::{ask_as_user, config_map, done, refused};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const RINGS: &str = "/apis/hostile.example/v1/namespaces/default/rings";

/// Lets mallory do in the namespace `default` what its administrators may.
async fn let_in(admin: &Endpoint) {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "mallory"},
        "subjects": [{"kind": "User", "name": "mallory", "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": "admin", "apiGroup": group},
    });
    done(&admin.ask("POST", &format!("{RBAC}/rolebindings"), binding.to_string()).await.unwrap());
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({}), |below, _| json!({"f:a": below}))
}

/// What is deeper than readers go was stored, and could not be deleted; a few copies of copies ran the server out of stack.
#[tokio::test]
async fn an_object_too_deep_to_be_read_again_is_refused_however_it_is_made() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let_in(&admin).await;
    let mallory = async |method: &str, path: &str, body: &Value| {
        ask_as_user(&admin, "mallory", &[], method, path, Some(body)).await
    };
    let owned = |name: &str, levels: usize| {
        let mut object = config_map(name);
        object["metadata"]["managedFields"] = json!([{
            "manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": nested(levels),
        }]);
        object
    };
    done(&mallory("POST", MAPS, &owned("shallow", 100)).await);
    for levels in [130, 240] {
        let message = refused(&mallory("POST", MAPS, &owned("deep", levels)).await, 413, "RequestEntityTooLarge");
        assert!(message.contains("levels deep"), "{message}");
    }
    let copies = (1..=17)
        .map(|at| json!({"op": "copy", "from": "/metadata/x", "path": format!("/metadata/x{}", "/a".repeat(1 << at))}));
    let add = json!({"op": "add", "path": "/metadata/x", "value": {"a": {}}});
    let patch = Value::from_iter(std::iter::once(add).chain(copies));
    let headers = [("impersonate-user", "mallory"), ("content-type", "application/json-patch+json")];
    let path = format!("{MAPS}/shallow");
    let patched = admin.ask_with("PATCH", &path, &headers, patch.to_string()).await.unwrap();
    refused(&patched, 422, "Invalid");
    let list = done(&admin.ask("GET", MAPS, "").await.unwrap()).to_string();
    assert!(serde_json::from_str::<Value>(&list).is_ok(), "others read it");
    done(&mallory("DELETE", &path, &json!({})).await);
}

#[tokio::test]
async fn what_is_told_of_faults_stays_small_whatever_is_wrong() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut pod = crate::answers::pod("none");
    pod["spec"]["containers"] = vec![json!({}); 6000].into();
    let answer = admin.ask("POST", PODS, pod.to_string()).await.unwrap();
    let message = refused(&answer, 422, "Invalid");
    assert!(message.ends_with(" more]"), "{}", message.chars().rev().take(80).collect::<String>());
    let values: Vec<String> = (0..500).map(|at| format!("value-{at}")).collect();
    let spec = json!({"type": "object", "properties": {"colours": {"type": "array", "items": {"type": "string", "enum": values}}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "rings.hostile.example"},
        "spec": {
            "group": "hostile.example", "scope": "Namespaced", "names": {"plural": "rings", "kind": "Ring"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}],
        },
    });
    done(&admin.ask("POST", DEFINITIONS, definition.to_string()).await.unwrap());
    while admin.ask("GET", RINGS, "").await.unwrap().status != 200 {}
    let ring = json!({
        "apiVersion": "hostile.example/v1", "kind": "Ring", "metadata": {"name": "one"},
        "spec": {"colours": vec!["none"; 100_000]},
    });
    let answer = admin.ask("POST", RINGS, ring.to_string()).await.unwrap();
    refused(&answer, 422, "Invalid");
    assert!(answer.body.len() < 16 * 1024 * 1024, "{}", answer.body.len());
}

/// Whoever stands between may believe another of two hosts; and this server is no way to anywhere else.
#[tokio::test]
async fn a_request_names_one_host_and_leads_to_this_server_only() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for (head, expected) in [
        ("GET /version HTTP/1.1\r\nhost: a", "HTTP/1.1 200 "),
        ("GET /version HTTP/1.1\r\nhost: a\r\nhost: b", "HTTP/1.1 400 "),
        ("GET /version HTTP/1.1\r\nx: y", "HTTP/1.1 400 "),
        ("GET /version HTTP/1.1\r\nhost: a/b", "HTTP/1.1 400 "),
        ("GET http://elsewhere.example/version HTTP/1.1\r\nhost: a", "HTTP/1.1 200 "),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: a", "HTTP/1.1 404 "),
        ("POST /version HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5", "HTTP/1.1 400 "),
        ("GET /version HTTP/1.1\r\nhost: a\r\nx: y\r\n impersonate-user: mallory", "HTTP/1.1 400 "),
        ("GET /version HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked", "HTTP/1.1 400 "),
    ] {
        let mut stream = admin.open(&[b"http/1.1"]).await.unwrap();
        stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server may hang up without saying so to TLS.
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(expected), "{head}: {answer}");
        if expected.contains("400") {
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: nothing comes after it");
        }
    }
}
