//! What must not work: each is answered with a clear `Status`, and none with a panic.

use martello_tests::{
    cluster::Cluster,
    raw::{Endpoint, Http, whole},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::answers::{config_map, done, pod, refused};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const STRICT: &str = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";

async fn post(admin: &Endpoint, path: &str, body: &Value) -> martello_tests::raw::Answer {
    admin.ask("POST", path, body.to_string()).await.unwrap()
}

#[tokio::test]
async fn bodies_that_are_no_object_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let whole = config_map("one").to_string();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        refused(&admin.ask("POST", MAPS, whole[..end].to_owned()).await.unwrap(), 400, "BadRequest");
    }
    // Nothing is an object without a name, as it is for upstream.
    refused(&admin.ask("POST", MAPS, "null").await.unwrap(), 422, "Invalid");
    for body in ["[]", "7", "\"text\"", "{\"kind\":\"Pod\"}", "\u{0}\u{1}", "{\"apiVersion\":\"v1\",\"kind\":7}"] {
        refused(&admin.ask("POST", MAPS, body).await.unwrap(), 400, "BadRequest");
    }
    refused(&admin.ask("POST", MAPS, &b"\xff\xfe{}"[..]).await.unwrap(), 400, "BadRequest");
    let answer = admin.ask_as("POST", MAPS, "application/x-unknown", whole.clone()).await.unwrap();
    refused(&answer, 415, "UnsupportedMediaType");
    let answer =
        admin.ask_as("POST", MAPS, "application/vnd.kubernetes.protobuf", &b"k8s\0\xff\xff\xff\xff"[..]).await.unwrap();
    refused(&answer, 400, "BadRequest");
    let answer = admin.ask_as("POST", MAPS, "application/yaml", "a: [b\n  c: *d\n").await.unwrap();
    refused(&answer, 400, "BadRequest");
    let answer = admin.ask_with("GET", MAPS, &[("accept", "image/png")], "").await.unwrap();
    refused(&answer, 406, "NotAcceptable");
    refused(&post(&admin, MAPS, &pod("one")).await, 400, "BadRequest");
    refused(&admin.ask("TRACE", MAPS, "").await.unwrap(), 405, "MethodNotAllowed");
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_body_harms_nobody() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for _ in 0..20 {
        let mut stream = admin.open(&[b"http/1.1"]).await.unwrap();
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{{\"api"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An answer or none, but an end.
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    for noise in
        [&b"\x16\x03\x01garbage"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense"]
    {
        let mut stream = admin.open(&[b"http/1.1"]).await.unwrap();
        stream.write_all(noise).await.unwrap();
        drop(stream.shutdown().await);
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    done(&admin.ask("GET", MAPS, "").await.unwrap());
}

#[tokio::test]
async fn wrong_types_and_unknown_fields_are_named() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut wrong = config_map("one");
    wrong["data"] = json!({"key": 7});
    let message = refused(&post(&admin, MAPS, &wrong).await, 400, "BadRequest");
    assert!(message.contains("data"), "{message}");
    wrong["data"] = json!("text");
    refused(&post(&admin, MAPS, &wrong).await, 400, "BadRequest");
    wrong["metadata"] = json!([]);
    refused(&post(&admin, MAPS, &wrong).await, 400, "BadRequest");
    let mut wrong = pod("one");
    wrong["spec"]["containers"] = json!({"name": "one"});
    refused(&post(&admin, PODS, &wrong).await, 400, "BadRequest");

    let mut unknown = config_map("unknown");
    unknown["dta"] = json!({});
    unknown["metadata"]["lables"] = json!({});
    let message = refused(&post(&admin, STRICT, &unknown).await, 400, "BadRequest");
    assert!(
        message.contains("unknown field \"dta\"") && message.contains("unknown field \"metadata.lables\""),
        "{message}"
    );
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}"#;
    let message = refused(&admin.ask("POST", STRICT, twice).await.unwrap(), 400, "BadRequest");
    assert!(message.contains("duplicate field \"data.a\""), "{message}");
    let warned = post(&admin, MAPS, &unknown).await;
    assert!(done(&warned).get("dta").is_none());
    let warnings: Vec<_> =
        warned.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    assert!(warnings.iter().any(|text| text.contains("unknown field")), "{warnings:?}");
    let ignored = config_map("ignored").to_string().replacen('{', "{\"dta\":1,", 1);
    let answer = admin.ask("POST", &format!("{MAPS}?fieldValidation=Ignore"), ignored).await.unwrap();
    assert!(done(&answer)["data"].is_object() && !answer.headers.contains_key("warning"));
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for name in
        ["..", ".", "a/b", "../../etc/passwd", "A", "a_b", "-a", "a b", "a\u{0}b", "ä", "%2e%2e", &"a".repeat(254)]
    {
        refused(&post(&admin, MAPS, &config_map(name)).await, 422, "Invalid");
    }
    refused(&post(&admin, MAPS, &config_map("")).await, 422, "Invalid");
    for path in [
        "/api/v1/namespaces/../secrets",
        "/api/v1/namespaces/%2e%2e/configmaps",
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/default/configmaps/%2e%2e%2fsecrets",
        "/api/v1/namespaces/default/configmaps/%00",
        "/api/v1/namespaces/default/configmaps/%zz",
        "/api/v1/namespaces/default/configmaps/a/b/c/d",
    ] {
        let answer = admin.ask("GET", path, "").await.unwrap();
        assert!((300..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    let mut elsewhere = config_map("one");
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    refused(&post(&admin, MAPS, &elsewhere).await, 400, "BadRequest");
    refused(
        &admin.ask("PUT", &format!("{MAPS}/other"), config_map("one").to_string()).await.unwrap(),
        400,
        "BadRequest",
    );
    let mut label = config_map("label");
    label["metadata"]["labels"] = json!({"..": "/"});
    refused(&post(&admin, MAPS, &label).await, 422, "Invalid");
    refused(&post(&admin, "/api/v1/namespaces/nowhere/configmaps", &config_map("one")).await, 404, "NotFound");
}

#[tokio::test]
async fn what_is_too_big_or_too_deep_is_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let sized = |bytes: usize| {
        let mut big = config_map("big");
        big["data"]["key"] = json!("x".repeat(bytes));
        big.to_string()
    };
    refused(&admin.ask("POST", MAPS, sized(3 * 1024 * 1024)).await.unwrap(), 413, "RequestEntityTooLarge");
    let answer = admin.ask("POST", MAPS, sized(1024 * 1024 + 1)).await.unwrap();
    assert!(answer.status == 422 || answer.status == 413, "{} {}", answer.status, answer.text());
    done(&admin.ask("POST", MAPS, sized(1_000_000)).await.unwrap());
    for depth in [200, 10_000, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = if open == "[" { "" } else { "1" };
            let deep = format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"deep\"}},\"data\":{}{inner}{}}}",
                open.repeat(depth),
                close.repeat(depth)
            );
            refused(&admin.ask("POST", MAPS, deep).await.unwrap(), 400, "BadRequest");
        }
    }
    let flow = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: deep}}\ndata: {}{}\n",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    refused(&admin.ask_as("POST", MAPS, "application/yaml", flow).await.unwrap(), 400, "BadRequest");
    // Every level names the one below it nine times: nine to the ninth in all.
    let mut bomb = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    refused(&admin.ask_as("POST", MAPS, "application/yaml", bomb).await.unwrap(), 400, "BadRequest");
    let deep = format!("{{\"data\":{}{}}}", "{\"a\":".repeat(9_000), "1".to_owned() + &"}".repeat(9_000));
    let answer = admin.ask_as("PATCH", &format!("{MAPS}/big"), "application/merge-patch+json", deep).await.unwrap();
    refused(&answer, 400, "BadRequest");
    let many: Vec<Value> = (0..20_000).map(|_| json!({"op": "test", "path": "/data/key", "value": "x"})).collect();
    let answer = admin
        .ask_as("PATCH", &format!("{MAPS}/big"), "application/json-patch+json", Value::Array(many).to_string())
        .await
        .unwrap();
    refused(&answer, 413, "RequestEntityTooLarge");
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for query in [
        "labelSelector=%3D%3D",
        "labelSelector=a+in+(",
        "fieldSelector=metadata.nothing%3Dx",
        "limit=1&continue=x",
        "limit=many",
        "continue=%00%01",
        "continue=bm9uc2Vuc2U",
        "resourceVersion=abc",
        "timeoutSeconds=never",
    ] {
        refused(&admin.ask("GET", &format!("{MAPS}?{query}"), "").await.unwrap(), 400, "BadRequest");
    }
    refused(&admin.ask("GET", &format!("{MAPS}?resourceVersionMatch=Exact"), "").await.unwrap(), 422, "Invalid");
    refused(
        &admin.ask("POST", &format!("{MAPS}?fieldValidation=Maybe"), config_map("x").to_string()).await.unwrap(),
        422,
        "Invalid",
    );
    refused(
        &admin.ask("POST", &format!("{MAPS}?dryRun=Some"), config_map("x").to_string()).await.unwrap(),
        422,
        "Invalid",
    );
    let long = format!("{MAPS}?labelSelector={}", "a%2C".repeat(6_000));
    let answer = admin.ask("GET", &long, "").await.unwrap();
    assert!((400..500).contains(&answer.status), "{}", answer.status);
}

#[tokio::test]
async fn a_revision_of_the_future_or_of_long_ago_is_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut connection = admin.connect(Http::Two).await.unwrap();
    // More bytes of changes than a watch reaches back over.
    for index in 0..WINDOW_BYTES / CHANGE_BYTES + 2 {
        let text = char::from(b'a' + u8::try_from(index % 26).unwrap()).to_string().repeat(CHANGE_BYTES);
        let body = config_map("turning").to_string().replace("\"value\"", &format!("\"{text}\""));
        let (method, path) = if index == 0 { ("POST", MAPS.to_owned()) } else { ("PUT", format!("{MAPS}/turning")) };
        let request = connection.request(method, &path, &[("content-type", "application/json")], body.into()).unwrap();
        done(&whole(connection.send(request).await.unwrap()).await.unwrap());
    }
    let answer = admin.ask("GET", &format!("{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=2"), "").await.unwrap();
    let status = match answer.status {
        200 => answer.json()["object"].clone(),
        _ => answer.json(),
    };
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")), "{}", answer.text());
    let future = admin.ask("GET", &format!("{MAPS}?resourceVersion=99999999999"), "").await.unwrap();
    refused(&future, 504, "Timeout");
}

/// How far back a watch reaches, in bytes of objects of one resource.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one change.
const CHANGE_BYTES: usize = 900_000;

#[tokio::test]
async fn a_privileged_pod_is_refused_and_told_how_to_change() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut privileged = pod("privileged");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let message = refused(&post(&admin, PODS, &privileged).await, 403, "Forbidden");
    assert!(message.contains("privileged"), "{message}");
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = json!(true);
    refused(&post(&admin, PODS, &host).await, 403, "Forbidden");
    let mut path = pod("path");
    path["spec"]["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    refused(&post(&admin, PODS, &path).await, 403, "Forbidden");
    done(&post(&admin, PODS, &pod("plain")).await);
}
