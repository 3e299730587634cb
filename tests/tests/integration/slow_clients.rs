//! What slow clients, and those who want too much at once, do to others: nothing.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{WatchEvent, WatchParams},
};
use martello_tests::{
    cluster::Cluster,
    raw::{Connection, Endpoint, Http, whole},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::answers::{ask_as_user, config_map, done, pod, refused};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// How long anything may take before a test fails; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sends the beginning of a request and keeps the connection.
async fn begin(endpoint: &Endpoint, said: &str) -> impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + use<> {
    let mut stream = endpoint.open(&[b"http/1.1"]).await.unwrap();
    stream.write_all(said.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// A watch of the ConfigMaps that nobody reads yet.
async fn watch(connection: &mut Connection) -> http::Response<hyper::body::Incoming> {
    let request = connection.request("GET", &format!("{MAPS}?watch=1"), &[], Bytes::new()).unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// Reads a watch until an object of this name has come.
async fn until_seen(answer: http::Response<hyper::body::Incoming>, name: &str) -> String {
    let (mut body, mut seen) = (answer.into_body(), String::new());
    let wanted = format!("\"name\":{name:?}");
    while !seen.contains(&wanted) {
        let frame = body.frame().await.expect("the watch ended before").unwrap();
        seen.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data)));
    }
    seen
}

#[tokio::test]
async fn clients_that_dawdle_hold_nobody_up() {
    /// Of each kind: more than there are seats in any level of priority.
    const SLOW: usize = 40;
    const BIG_BYTES: usize = 400_000;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let stranger = cluster.anonymous().await.unwrap();
    for number in 0..10 {
        let mut big = config_map(&format!("big-{number}"));
        big["data"]["key"] = json!("x".repeat(BIG_BYTES));
        done(&admin.ask("POST", MAPS, big.to_string()).await.unwrap());
    }
    let (mut heads, mut others) = (Vec::new(), Vec::new());
    for _ in 0..SLOW {
        heads.push(begin(&stranger, "GET /readyz HTTP/1.1\r\nhost: x\r\nx-slow: ").await);
        let head = "content-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"api";
        others.push(begin(&admin, &format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\n{head}")).await);
        others.push(begin(&admin, &format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\n\r\n")).await);
        others.push(begin(&admin, &format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n")).await);
    }
    let mut connection = admin.connect(Http::Two).await.unwrap();
    let unread = watch(&mut connection).await;
    // Everybody else is served while all of those wait: users and strangers, on old connections and on new ones.
    for number in 0..20 {
        let name = format!("small-{number}");
        done(&admin.ask("POST", MAPS, config_map(&name).to_string()).await.unwrap());
        let request = connection.request("GET", &format!("{MAPS}/{name}"), &[], Bytes::new()).unwrap();
        assert_eq!(whole(connection.send(request).await.unwrap()).await.unwrap().status, 200);
        assert_eq!(stranger.ask("GET", "/livez", "").await.unwrap().status, 200);
    }
    assert_eq!(done(&admin.ask("GET", MAPS, "").await.unwrap())["items"].as_array().unwrap().len(), 31);
    // Who reads late has missed nothing.
    let seen = tokio::time::timeout(PATIENCE, until_seen(unread, "small-19")).await.unwrap();
    assert_eq!(seen.matches("\"type\":\"ADDED\"").count(), 31);
    // A head that does not end is not waited for.
    let ended = heads.iter_mut().map(|stream| async move {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.is_ok()
    });
    tokio::time::timeout(PATIENCE, futures::future::join_all(ended)).await.expect("slow heads are sent off");
    drop(others);
}

#[tokio::test]
async fn a_connection_has_so_many_requests_at_once_and_others_have_theirs() {
    /// As the server's limit.
    const STREAMS: usize = 250;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut greedy = admin.connect(Http::Two).await.unwrap();
    let mut watches = Vec::new();
    for _ in 0..STREAMS {
        watches.push(watch(&mut greedy).await);
    }
    let waiting = tokio::spawn(async move {
        let request = greedy.request("GET", MAPS, &[], Bytes::new()).unwrap();
        whole(greedy.send(request).await.unwrap()).await.unwrap().status
    });
    for name in ["a", "b"] {
        done(&admin.ask("POST", MAPS, config_map(name).to_string()).await.unwrap());
    }
    assert!(!waiting.is_finished(), "one more than the limit was let in");
    // Every watcher is told, and when one leaves the one who waits is served.
    let last = watches.pop().unwrap();
    let told = futures::stream::iter(watches).map(|answer| until_seen(answer, "b")).buffer_unordered(STREAMS);
    let told: Vec<String> = tokio::time::timeout(PATIENCE, told.collect()).await.unwrap();
    assert_eq!(told.len(), STREAMS - 1);
    drop(last);
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn heads_and_paths_that_are_too_long_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let path = format!("{MAPS}?labelSelector={}", "x".repeat(16 * 1024));
    let answer = admin.ask("GET", &path, "").await.unwrap();
    let status = answer.json();
    assert_eq!((answer.status, &status["kind"], &status["code"]), (414, &json!("Status"), &json!(414)));
    let long = "x".repeat(70 * 1024);
    let mut stream = begin(&admin, &format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n")).await;
    let mut answer = String::new();
    // The server may hang up before all was sent.
    drop(stream.read_to_string(&mut answer).await);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut connection = admin.connect(Http::Two).await.unwrap();
    let request = connection.request("GET", MAPS, &[("x-long", &long)], Bytes::new()).unwrap();
    assert_eq!(connection.send(request).await.unwrap().status(), 431);
    let request = connection.request("GET", MAPS, &[], Bytes::new()).unwrap();
    assert_eq!(connection.send(request).await.unwrap().status(), 200, "the connection goes on");
    // A length that is only claimed is not waited for.
    let huge = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n"
    );
    let mut stream = begin(&admin, &huge).await;
    let sending = async {
        // The server hangs up at its limit.
        while stream.write_all(&[b' '; 64 * 1024]).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("the server reads for ever");
    let message = refused(&admin.ask("POST", MAPS, vec![b' '; 3_145_729]).await.unwrap(), 413, "RequestEntityTooLarge");
    assert_eq!(message, "Request entity too large: limit is 3145728");
}

/// A pod on a node, with a Secret that the node may read for the pod's sake only.
fn placed(name: &str) -> Value {
    let mut placed = pod(name);
    placed["spec"]["nodeName"] = json!("n1");
    placed["spec"]["volumes"] = json!([{"name": "secret", "secret": {"secretName": name}}]);
    placed
}

#[tokio::test]
async fn what_was_stored_is_known_to_the_authorizer_although_who_asked_hung_up() {
    const HANG_UPS: usize = 20;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    done(&admin.ask("POST", "/api/v1/nodes", node.to_string()).await.unwrap());
    let names: Vec<String> = (0..HANG_UPS).map(|number| format!("p-{number}")).chain(["last".to_owned()]).collect();
    for name in &names {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        done(&admin.ask("POST", SECRETS, secret.to_string()).await.unwrap());
    }
    drop(cluster.client().await.unwrap());
    let mut config = cluster.config().await.unwrap();
    config.auth_info.impersonate = Some("system:node:n1".to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
    let pods: Api<Pod> = Api::default_namespaced(kube::Client::try_from(config).unwrap());
    let mut events = pods.watch(&WatchParams::default().fields("spec.nodeName=n1"), "0").await.unwrap().boxed();
    let mut kept = Vec::new();
    for (number, name) in names.iter().take(HANG_UPS).enumerate() {
        let body = placed(name).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        let stream = begin(&admin, &format!("POST {PODS} HTTP/1.1\r\nhost: x\r\n{head}{body}")).await;
        // Every other one waits for the pod, and not for the answer.
        if number % 2 == 0 {
            kept.push((name.clone(), stream));
        }
    }
    let waited_for = kept.len();
    let mut last_is_made = false;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("last") {
        let event = tokio::time::timeout(PATIENCE, events.try_next()).await.expect("no event").unwrap().unwrap();
        let WatchEvent::Added(pod) = event else { continue };
        let name = pod.name_any();
        kept.retain(|(own, _)| *own != name);
        // What the node is told of, it may read what it needs for.
        let path = format!("{SECRETS}/{name}");
        done(&ask_as_user(&admin, "system:node:n1", &["system:nodes"], "GET", &path, None).await);
        seen.push(name);
        if kept.is_empty() && !last_is_made {
            last_is_made = true;
            done(&admin.ask("POST", PODS, placed("last").to_string()).await.unwrap());
        }
    }
    assert!(seen.len() > waited_for, "{seen:?}");
}
