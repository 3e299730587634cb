//! How large a request may be, and what is in it.

use martello_api::schema::encode_protobuf;
use serde_json::{Value, json};

use super::{failure, thing, things, told};
use crate::{
    answers::done,
    conformance::{Server, facts},
};

/// Largest object that is stored.
const MOST: usize = 1_572_864;
const TOO_LARGE: &str = "etcdserver: request is too large";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MERGE: &str = "application/merge-patch+json";

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_their_limits() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        an_object_beyond_its_size_is_refused_by_every_write,
        owners_of_fields_are_forgotten_before_an_object_is_refused,
        an_object_is_measured_without_its_escapes,
        what_is_too_large_may_be_deleted_and_made_smaller,
        a_body_of_very_many_values_is_refused,
    );
}

async fn an_object_beyond_its_size_is_refused_by_every_write(server: Server) {
    let group = "size.example.com";
    let all = things(&server, group).await;
    let sized = |bytes: usize| thing(group, "one", json!({"text": "x".repeat(bytes)}));
    let one = format!("{all}/one");
    let refusal = server.ask("POST", &all, &sized(MOST)).await;
    assert_eq!(failure(&refusal), told(500, TOO_LARGE));
    assert_eq!(refusal.json().get("reason"), None, "{}", refusal.text());
    assert_eq!(server.admin.ask("GET", &one, "").await.unwrap().status, 404);
    // What is not stored has no size.
    done(&server.ask("POST", &format!("{all}?dryRun=All"), &sized(MOST)).await);
    let mut made = done(&server.ask("POST", &all, &sized(MOST - 2000)).await);
    assert!(made["metadata"]["managedFields"].is_array());
    let long = "x".repeat(4000);
    for (path, patch) in
        [(one.clone(), json!({"spec": {"more": long}})), (format!("{one}/status"), json!({"status": {"more": long}}))]
    {
        let refusal = server.admin.ask_as("PATCH", &path, MERGE, patch.to_string()).await.unwrap();
        assert_eq!(failure(&refusal), told(500, TOO_LARGE), "{path}");
    }
    let add = json!([{"op": "add", "path": "/spec/more", "value": long}]).to_string();
    let refusal = server.admin.ask_as("PATCH", &one, "application/json-patch+json", add).await.unwrap();
    assert_eq!(failure(&refusal), told(500, TOO_LARGE));
    let apply = json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "spec": {"more": long}}).to_string();
    let path = format!("{one}?fieldManager=test");
    let refusal = server.admin.ask_as("PATCH", &path, "application/apply-patch+yaml", apply).await.unwrap();
    assert_eq!(failure(&refusal), told(500, TOO_LARGE));
    made["spec"]["more"] = json!(long);
    assert_eq!(failure(&server.ask("PUT", &one, &made).await), told(500, TOO_LARGE));
    assert_eq!(server.get(&one).await["spec"].as_object().unwrap().len(), 1, "nothing of it was stored");
}

async fn owners_of_fields_are_forgotten_before_an_object_is_refused(server: Server) {
    let group = "owners.example.com";
    let all = things(&server, group).await;
    // Each name is there once in the object, and once in whose it is.
    let fields = |value: u32| -> Value { (0..15_000).map(|at| (format!("f-{at:050}"), json!(value))).collect() };
    let made = done(&server.ask("POST", &all, &thing(group, "one", fields(0))).await);
    assert_eq!(made["metadata"].get("managedFields"), None);
    let mut found = server.get(&format!("{all}/one")).await;
    assert_eq!(found["metadata"].get("managedFields"), None);
    found["spec"] = fields(1);
    let changed = done(&server.ask("PUT", &format!("{all}/one"), &found).await);
    assert_eq!((changed["metadata"].get("managedFields"), &changed["spec"]), (None, &found["spec"]));
    // An apply is about whose fields are whose.
    let body = thing(group, "two", fields(0)).to_string();
    let path = format!("{all}/two?fieldManager=test");
    let refusal = server.admin.ask_as("PATCH", &path, "application/apply-patch+yaml", body).await.unwrap();
    assert_eq!(failure(&refusal), told(500, TOO_LARGE));
}

async fn an_object_is_measured_without_its_escapes(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("escapes").await);
    // A mebibyte is what a ConfigMap may hold; each of these takes two bytes in JSON, or six.
    let map = |name: &str, letter: &str| {
        let text = letter.repeat(1024 * 1024 - 1);
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": text}})
    };
    let lines = map("lines", "\n");
    assert_eq!(done(&server.ask("POST", &maps, &lines).await)["data"], lines["data"]);
    let controls = map("controls", "\u{1}");
    let body = encode_protobuf(&controls).unwrap();
    assert_eq!(done(&server.admin.ask_as("POST", &maps, PROTOBUF, body).await.unwrap())["data"], controls["data"]);
    let lines = server.get(&format!("{maps}/lines")).await;
    assert!(lines["data"]["k"].as_str().unwrap().bytes().all(|byte| byte == b'\n'));
}

async fn what_is_too_large_may_be_deleted_and_made_smaller(server: Server) {
    let group = "smaller.example.com";
    let all = things(&server, group).await;
    let one = format!("{all}/one");
    let sized = |bytes: usize| {
        let mut object = thing(group, "one", json!({"text": "x".repeat(bytes)}));
        object["metadata"]["finalizers"] = json!(["example.com/held"]);
        object["metadata"]["annotations"] = json!({"some": "thing"});
        object
    };
    // Of a small one one sees what is there besides the text.
    server.post(&all, &sized(0)).await;
    let small = server.admin.ask("GET", &one, "").await.unwrap();
    let besides = small.body.len() - super::version(&small.json()).len();
    server.merge(&one, &json!({"metadata": {"finalizers": null}})).await;
    server.delete(&one).await;
    server.post(&all, &sized(MOST - besides - 8)).await;
    let patch = |patch: Value| {
        let (server, one) = (server.clone(), one.clone());
        async move { server.admin.ask_as("PATCH", &one, MERGE, patch.to_string()).await.unwrap() }
    };
    let marked = done(&server.admin.ask("DELETE", &one, "").await.unwrap());
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "a delete is never refused");
    let larger = patch(json!({"metadata": {"annotations": {"more": "x".repeat(2000)}}})).await;
    assert_eq!(failure(&larger), told(500, TOO_LARGE));
    // It is still too large, and less so.
    let smaller = done(&patch(json!({"metadata": {"annotations": {"some": "thin"}}})).await);
    assert!(smaller["metadata"]["managedFields"].is_array(), "nothing else is lost");
    done(&patch(json!({"metadata": {"finalizers": null}})).await);
    assert_eq!(server.admin.ask("GET", &one, "").await.unwrap().status, 404);
}

async fn a_body_of_very_many_values_is_refused(server: Server) {
    let group = "many.example.com";
    let all = things(&server, group).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let many = vec!["{}"; 400_001].join(",");
    for (path, kind) in [(&*all, format!("{group}/v1\",\"kind\":\"Thing")), (maps, "v1\",\"kind\":\"ConfigMap".into())]
    {
        let json = format!("{{\"apiVersion\":\"{kind}\",\"metadata\":{{\"name\":\"many\"}},\"many\":[{many}]}}");
        let (code, message) = failure(&server.admin.ask("POST", path, json).await.unwrap());
        assert_eq!(code, 400, "{message}");
        assert!(message.contains("more than 400000 values, which is more than an object may have"), "{message}");
        // JSON is YAML, and what is a node there is a value or a key.
        let yaml = format!("apiVersion: {group}/v1\nkind: Thing\nmetadata: {{name: many}}\nmany: [{many},{many}]\n");
        let answer = server.admin.ask_as("POST", path, "application/yaml", yaml).await.unwrap();
        let (code, message) = failure(&answer);
        assert!(code == 400 && message.contains("more than 800000 nodes"), "{code} {message}");
    }
    done(&server.admin.ask("GET", maps, "").await.unwrap());
    let patch = format!("{{\"spec\":[{many}]}}");
    server.post(&all, &thing(group, "one", json!({}))).await;
    let answer = server.admin.ask_as("PATCH", &format!("{all}/one"), MERGE, patch).await.unwrap();
    let (code, message) = failure(&answer);
    assert!(code == 400 && message.contains("more than 400000 values"), "{code} {message}");
    // An empty entry of a map takes two bytes.
    let mut map = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12".to_vec();
    let mut length = 2 * 400_001;
    while length >= 0x80 {
        map.push(u8::try_from(length % 0x80).unwrap() | 0x80);
        length /= 0x80;
    }
    map.push(u8::try_from(length).unwrap());
    map.extend(b"\x12\x00".repeat(400_001));
    let (code, message) = failure(&server.admin.ask_as("POST", maps, PROTOBUF, map).await.unwrap());
    assert!(code == 400 && message.ends_with("proto: too many values"), "{code} {message}");
}
