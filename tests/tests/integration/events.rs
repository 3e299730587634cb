//! Events end some time after they were last written, and what is told again is counted in one event.

use std::time::{Duration, Instant};

use martello_tests::cluster::{Cluster, Options};
use serde_json::{Value, json};

use crate::{answers::done, conformance::Server};

const CORE: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const TTL: Duration = Duration::from_secs(6);
/// How often an event is written again.
const RENEWAL: Duration = Duration::from_millis(200);

async fn start(arguments: &[&str]) -> (Cluster, Server) {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let mut cluster = Cluster::start_with(Options { arguments, ..Options::default() }).await.unwrap();
    let server = Server { admin: cluster.admin().await.unwrap(), kubeconfig: cluster.kubeconfig_path().unwrap() };
    (cluster, server)
}

/// An event as the core group has it, by whose dates it would last long or be gone already.
fn event(name: &str, when: &str) -> Value {
    let about = json!({"kind": "Pod", "namespace": "default", "name": "one"});
    json!({"metadata": {"name": name}, "involvedObject": about, "reason": "Tested", "message": "M", "type": "Normal",
        "firstTimestamp": when, "lastTimestamp": when})
}

/// The same as `events.k8s.io` has it.
fn new_event(name: &str, when: &str) -> Value {
    let about = json!({"kind": "Pod", "namespace": "default", "name": "one"});
    json!({"metadata": {"name": name}, "regarding": about, "reason": "Tested", "note": "M", "type": "Normal",
        "action": "Testing", "eventTime": when, "reportingController": "example.com/c", "reportingInstance": "i"})
}

fn is_end_of(name: &str) -> impl Fn(&str, &Value) -> bool {
    move |kind, object| kind == "DELETED" && object["metadata"]["name"] == name
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_whatever_their_dates_say_and_a_write_renews_them() {
    let (mut cluster, server) = start(&["--event-ttl=6s"]).await;
    let (mut seen, mut seen_new) =
        (server.watch(&format!("{CORE}?watch=1")).await, server.watch(&format!("{NEW}?watch=1")).await);
    let began = Instant::now();
    for (path, body) in [
        (CORE, event("future", "2999-01-01T00:00:00Z")),
        (NEW, new_event("past", "1970-01-01T00:00:00.000000Z")),
        (CORE, event("renewed", "2026-01-01T00:00:00Z")),
    ] {
        let made = server.post(path, &body).await;
        let name = made["metadata"]["name"].as_str().unwrap();
        // Finalizers hold back who deletes, and nobody does.
        server.merge(&format!("{path}/{name}"), &json!({"metadata": {"finalizers": ["example.com/f"]}})).await;
    }
    let renew = async {
        let mut interval = tokio::time::interval(RENEWAL);
        for count in 1.. {
            interval.tick().await;
            server.merge(&format!("{CORE}/renewed"), &json!({"count": count})).await;
        }
    };
    let ends = async {
        for name in ["future", "past"] {
            let end = seen.until(is_end_of(name)).await;
            assert_eq!((&end["apiVersion"], &end["reason"]), (&json!("v1"), &json!("Tested")));
            assert!(began.elapsed() >= TTL, "{name} ended after {:?}", began.elapsed());
            let end = seen_new.until(is_end_of(name)).await;
            assert_eq!((&end["apiVersion"], &end["note"]), (&json!("events.k8s.io/v1"), &json!("M")));
        }
    };
    tokio::select! { () = renew => {} , () = ends => {} }
    let renewed = server.get(&format!("{CORE}/renewed")).await;
    assert!(renewed["count"].as_i64().unwrap() >= 3, "{renewed}");
    assert_eq!(server.ask("GET", &format!("{NEW}/future"), &Value::Null).await.status, 404);
    seen.until(is_end_of("renewed")).await;

    // What was written before the server was killed ends after it, and not later than that.
    let written = Instant::now();
    server.post(CORE, &event("survivor", "2999-01-01T00:00:00Z")).await;
    cluster.kill().unwrap();
    cluster.boot().await.unwrap();
    let age = written.elapsed();
    let fresh = server.post(CORE, &event("fresh", "1970-01-01T00:00:00Z")).await;
    server.gone(&format!("{CORE}/survivor")).await;
    assert!(written.elapsed() >= TTL);
    let fresh_now = server.admin.ask("GET", &format!("{CORE}/fresh"), "").await.unwrap();
    // On a machine that is so slow the fresh one may have ended too.
    if written.elapsed() < age + TTL {
        assert_eq!(done(&fresh_now)["metadata"]["uid"], fresh["metadata"]["uid"]);
    }
    server.gone(&format!("{CORE}/fresh")).await;
}

#[tokio::test]
async fn a_life_that_can_t_be_counted_is_refused() {
    let options = Options { arguments: vec!["--event-ttl=10ms".to_owned()], ..Options::default() };
    let refused = Cluster::start_with(options).await.unwrap_err().to_string();
    assert!(refused.contains("events last 1 s to 2500000 h, or for ever with 0"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_again_is_counted_in_one_event() {
    let (_cluster, server) = start(&[]).await;
    let namespace = server.namespace("told").await;
    // A controller: pods whose account is missing are tried again and again.
    let template = json!({"metadata": {"labels": {"app": "none"}}, "spec": {
        "serviceAccountName": "missing", "containers": [{"name": "one", "image": "myapp:1.2.0"}]}});
    let set = json!({"metadata": {"name": "none"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "none"}}, "template": template}});
    let about = format!("{namespace}/events?fieldSelector=involvedObject.name%3Dnone");
    let mut told = server.watch(&format!("{about}&watch=1")).await;
    server.post("/apis/apps/v1/namespaces/told/replicasets", &set).await;
    let counted = |event: &Value| event["count"].as_i64().unwrap_or(0);
    let last = told.until(|_, event| event["reason"] == "FailedCreate" && counted(event) >= 4).await;
    let listed = server.get(&about).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["items"][0]["metadata"]["uid"], last["metadata"]["uid"]);

    // The scheduler, in the form of the newer group: a pod that fits nowhere is told of again when there are more nodes.
    let closed = async |name: &str| {
        let node = json!({"metadata": {"name": name}, "spec": {"unschedulable": true}});
        server.post("/api/v1/nodes", &node).await;
    };
    closed("one").await;
    let about = "/apis/events.k8s.io/v1/namespaces/told/events?fieldSelector=regarding.name%3Dwaiting";
    let mut told = server.watch(&format!("{about}&watch=1")).await;
    server.post(&format!("{namespace}/pods"), &crate::answers::pod("waiting")).await;
    let counted = |event: &Value| event["series"]["count"].as_i64().unwrap_or(1);
    for (count, more) in [(1, "two"), (2, "three"), (3, "four")] {
        told.until(|_, event| event["reason"] == "FailedScheduling" && counted(event) >= count).await;
        closed(more).await;
    }
    let listed = server.get(about).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    // The core group's view has the same series.
    let core = server.get(&format!("{namespace}/events?fieldSelector=involvedObject.name%3Dwaiting")).await;
    assert!(core["items"][0]["series"]["count"].as_i64().unwrap() >= 3, "{core}");
}
