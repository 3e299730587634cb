//! Priority and fairness: who asks for too much is told to come back, and everybody else is served.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::{body::Bytes, body::Incoming};
use martello_tests::raw::{Answer, Connection, Endpoint, Http};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::{
    answers::{ask_as_user, config_map, done},
    conformance::{Server, facts},
};

const FLOWS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long anything may take before a test fails; a debug build on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_too_much_harms_nobody_else() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_level_without_seats_turns_everybody_away,
        a_noisy_client_takes_the_seats_of_its_own_level_only,
        a_flood_of_watches_leaves_others_served,
    );
}

/// A level with that many shares, and a schema that leads a user there; the user may do everything. Answers the UIDs of
/// schema and level.
async fn led(server: &Server, user: &str, shares: u32) -> (Value, Value) {
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"}});
    let level = json!({"metadata": {"name": user}, "spec": {"type": "Limited", "limited": limited}});
    let level = server.post(&format!("{FLOWS}/prioritylevelconfigurations"), &level).await;
    let resources =
        json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    let subjects = json!([{"kind": "User", "user": {"name": user}}]);
    let rules = json!([{"subjects": subjects, "resourceRules": resources,
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]);
    let spec = json!({"priorityLevelConfiguration": {"name": user}, "matchingPrecedence": 500, "rules": rules});
    let schema = server.post(&format!("{FLOWS}/flowschemas"), &json!({"metadata": {"name": user}, "spec": spec})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user});
    let binding = json!({"metadata": {"name": user}, "roleRef": role, "subjects": [subject]});
    server.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
    (schema["metadata"]["uid"].clone(), level["metadata"]["uid"].clone())
}

async fn ask_as(server: &Server, user: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    ask_as_user(&server.admin, user, &[], method, path, body).await
}

/// Asserts that an answer is upstream's to one request too many.
#[track_caller]
fn turned_away(answer: &Answer, (schema, level): &(Value, Value)) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.text(), "Too many requests, please try again later.\n");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(json!(answer.headers["x-kubernetes-pf-flowschema-uid"].to_str().unwrap()), *schema);
    assert_eq!(json!(answer.headers["x-kubernetes-pf-prioritylevel-uid"].to_str().unwrap()), *level);
}

async fn a_level_without_seats_turns_everybody_away(server: Server) {
    let uids = led(&server, "silent", 0).await;
    for (method, path) in [("GET", MAPS), ("POST", MAPS), ("GET", "/version")] {
        turned_away(&ask_as(&server, "silent", method, path, Some(&config_map("none"))).await, &uids);
    }
    done(&ask_as_user(&server.admin, "somebody", &["system:masters"], "GET", MAPS, None).await);
    let metrics = server.admin.ask("GET", "/metrics", "").await.unwrap().text();
    let rejected = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"silent\",priority_level=\"silent\",\
                    reason=\"concurrency-limit\"} 3\n";
    assert!(metrics.contains(rejected), "{rejected} is missing");
}

/// How many seats a level has of its own.
async fn seats(server: &Server, level: &str) -> usize {
    let metrics = server.admin.ask("GET", "/metrics", "").await.unwrap().text();
    let head = format!("apiserver_flowcontrol_nominal_limit_seats{{priority_level=\"{level}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&head)).unwrap_or_default();
    line.parse().unwrap_or_default()
}

/// Begins a request whose body does not come: it takes a seat in a moment.
async fn seated(admin: &Endpoint, user: &str) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut stream = admin.open(&[b"http/1.1"]).await.unwrap();
    let head =
        format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\nimpersonate-user: {user}\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("{head}content-length: 1000\r\n\r\n{{\"api").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn a_noisy_client_takes_the_seats_of_its_own_level_only(server: Server) {
    let uids = led(&server, "noisy", 1).await;
    // Schemas of others change how many seats there are; those of this fact's neighbours are made at the same time.
    let mut taken = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        taken.push(seated(&server.admin, "noisy").await);
        let answer = ask_as(&server, "noisy", "GET", MAPS, None).await;
        if answer.status == 429 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} requests run at once", taken.len());
    };
    turned_away(&refused, &uids);
    let own = seats(&server, "noisy").await;
    assert!(own >= 1 && taken.len() >= own, "{own} seats, and {} were taken", taken.len());
    // Nodes tell that they are alive, leaders that they lead, and users and administrators are served.
    let leases = |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    server.post("/api/v1/nodes", &node).await;
    let mut beat = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    for round in 0..3 {
        let (nodes, account) = (&["system:nodes"][..], "system:serviceaccount:kube-system:leader");
        let path = leases("kube-node-lease");
        let (method, path) = if round == 0 { ("POST", path) } else { ("PUT", format!("{path}/n1")) };
        beat["spec"]["leaseDurationSeconds"] = json!(round + 1);
        beat = done(&ask_as_user(&server.admin, "system:node:n1", nodes, method, &path, Some(&beat)).await);
        let elected = ask_as(&server, account, "GET", &leases("kube-system"), None).await;
        assert_ne!(elected.status, 429, "{}", elected.text());
        assert_ne!(ask_as(&server, "jane", "GET", MAPS, None).await.status, 429);
        done(&server.admin.ask("GET", MAPS, "").await.unwrap());
        turned_away(&ask_as(&server, "noisy", "GET", MAPS, None).await, &uids);
    }
    // The server's own controllers work: one gives a namespace its account.
    server.namespace("while-noisy").await;
    // Seats that are given back are there for the next.
    drop(taken);
    let served = async {
        while ask_as(&server, "noisy", "GET", MAPS, None).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("the noisy client is served again");
}

async fn watch(connection: &mut Connection, path: &str) -> Incoming {
    let headers = [("impersonate-user", "watcher")];
    let request = connection.request("GET", path, &headers, Bytes::new()).unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

async fn a_flood_of_watches_leaves_others_served(server: Server) {
    /// As many as a connection has requests at once.
    const STREAMS: usize = 250;
    const CONNECTIONS: usize = 8;
    led(&server, "watcher", 5).await;
    let maps = format!("{}/configmaps", server.namespace("flood").await);
    let from = super::version(&server.post(&maps, &config_map("first")).await).to_owned();
    let path = format!("{maps}?watch=1&resourceVersion={from}");
    let (mut connections, mut watches) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let mut connection = server.admin.connect(Http::Two).await.unwrap();
        for _ in 0..STREAMS {
            watches.push(watch(&mut connection, &path).await);
        }
        connections.push(connection);
    }
    assert_eq!(watches.len(), STREAMS * CONNECTIONS);
    // Watches take no seats: who holds that many may still ask, and so may everybody else.
    assert_eq!(ask_as(&server, "watcher", "GET", &maps, None).await.status, 200);
    for number in 0..5 {
        let made = server.post(&maps, &config_map(&format!("map-{number}"))).await;
        let mut events = server.watch(&format!("{maps}?watch=1&resourceVersion={from}")).await;
        let name = made["metadata"]["name"].clone();
        events.until(|_, object| object["metadata"]["name"] == name).await;
    }
    assert_ne!(
        ask_as_user(&server.admin, "system:node:n9", &["system:nodes"], "GET", "/api/v1/nodes/n9", None).await.status,
        429
    );
    // And each of them is told.
    for mut body in watches {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("\"name\":\"map-4\"") {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("an event comes");
            seen.extend_from_slice(frame.expect("the watch goes on").unwrap().data_ref().unwrap());
        }
    }
}
