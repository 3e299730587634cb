//! Streams into a real pod: commands in every protocol, their ends and sizes, attaching, following a log, and ports.

use std::{path::PathBuf, process::Stdio, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use martello_tests::{
    cluster::{Cluster, Options},
    kubectl::{self, Kubectl},
    load::until_node_is_ready,
    pods,
    raw::{Endpoint, Http},
    websocket::{Refused, WebSocket},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{answers::done, node_agent::until};

const POD: &str = "/api/v1/namespaces/default/pods/streams";
const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const END: u8 = 255;
/// Of `all that is said`.
const DIGEST: &str = "1cd7a5f35f9a77829dad8ffccaa8b9c5a04cfd46b6f06736d7491d6505faca1c";
/// How long a stream may take to say what it should.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says that it began, waits until it is told to go on, and ends.
const LOGGER: &str = "echo first; until [ -e /data/go ]; do sleep 0.1; done; echo second; sleep 1000";

/// What came on the channels of a command until it ended.
#[derive(Debug, Default)]
struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    status: Value,
}

/// A command's words as a query.
fn command(words: &[&str]) -> String {
    let encode = |word: &str| -> String {
        word.bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") })
            .collect()
    };
    let words: Vec<String> = words.iter().map(|word| format!("command={}", encode(word))).collect();
    words.join("&")
}

async fn open(admin: &Endpoint, path: &str, protocols: &[&str]) -> WebSocket {
    let opened = WebSocket::open(admin, &format!("{POD}/{path}"), protocols).await.unwrap();
    opened.unwrap_or_else(|refused| panic!("{path}: {refused:?}"))
}

/// Reads until the server closes.
async fn listen(socket: &mut WebSocket) -> Said {
    let mut said = Said::default();
    let reading = async {
        while let Some(message) = socket.next().await.unwrap() {
            match message.split_first() {
                Some((&STDOUT, data)) => said.out.extend(data),
                Some((&STDERR, data)) => said.err.extend(data),
                Some((&ERROR, data)) if !data.is_empty() => said.status = serde_json::from_slice(data).unwrap(),
                Some((&ERROR, _)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the command ends");
    said
}

async fn commands_end_as_they_end(admin: &Endpoint) {
    let path =
        format!("exec?container=web&stdout=1&stderr=1&{}", command(&["sh", "-c", "echo out; echo err >&2; exit 42"]));
    for protocols in [&[V5][..], &[V4], &["v9.channel.k8s.io", V4], &[V5, V4]] {
        let mut socket = open(admin, &path, protocols).await;
        assert_eq!(socket.protocol.as_deref(), protocols.iter().find(|name| **name != "v9.channel.k8s.io").copied());
        let said = listen(&mut socket).await;
        assert_eq!((said.out.as_slice(), said.err.as_slice()), (&b"out\n"[..], &b"err\n"[..]), "{protocols:?}");
        let told = (&said.status["status"], &said.status["reason"], &said.status["details"]["causes"]);
        let causes = json!([{"reason": "ExitCode", "message": "42"}]);
        assert_eq!(told, (&json!("Failure"), &json!("NonZeroExitCode"), &causes), "{protocols:?}");
        let words = "command terminated with non-zero exit code: command terminated with exit code 42";
        assert_eq!(said.status["message"], words);
    }
}

async fn one_direction_ends_before_the_other(admin: &Endpoint) {
    let path = format!("exec?container=web&stdin=1&stdout=1&{}", command(&["sha256sum"]));
    let mut socket = open(admin, &path, &[V5]).await;
    for part in [&b"all that "[..], b"is said"] {
        socket.send(&[&[STDIN], part].concat()).await.unwrap();
    }
    socket.send(&[END, STDIN]).await.unwrap();
    let said = listen(&mut socket).await;
    assert_eq!(String::from_utf8_lossy(&said.out), format!("{DIGEST}  -\n"));
    assert_eq!(said.status["status"], "Success");
}

async fn a_terminal_gets_its_size(admin: &Endpoint) {
    let script = "until [ \"$(busybox stty size)\" = '33 101' ]; do sleep 0.1; done; busybox stty size; exit 3";
    let path = format!("exec?container=web&stdin=1&stdout=1&tty=1&{}", command(&["sh", "-c", script]));
    for protocol in [V5, V4] {
        let mut socket = open(admin, &path, &[protocol]).await;
        socket.send(&[&[RESIZE], br#"{"Width":101,"Height":33}"#.as_slice()].concat()).await.unwrap();
        let said = listen(&mut socket).await;
        assert_eq!(String::from_utf8_lossy(&said.out), "33 101\r\n", "{protocol}");
        assert_eq!(said.status["details"]["causes"][0]["message"], "3", "{protocol}");
    }
}

async fn a_container_is_attached_to(admin: &Endpoint) {
    let mut socket = open(admin, "attach?container=cat&stdin=1&stdout=1", &[V5]).await;
    socket.send(&[&[STDIN], b"hello\n".as_slice()].concat()).await.unwrap();
    let mut out = Vec::new();
    while !out.ends_with(b"hello\n") {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it answers").unwrap().unwrap();
        out.extend(message.strip_prefix(&[STDOUT]).unwrap_or_default());
    }
}

async fn what_nobody_speaks_is_refused(admin: &Endpoint) {
    let nothing = |status: u16, body: &str| Refused { status, body: body.to_owned() };
    let path = format!("{POD}/exec?container=web&stdout=1&{}", command(&["true"]));
    let refused = WebSocket::open(admin, &path, &["v9.channel.k8s.io"]).await.unwrap().unwrap_err();
    assert_eq!(refused, nothing(403, ""));
    let path = format!("{POD}/portforward?ports=3000");
    let refused = WebSocket::open(admin, &path, &[V5]).await.unwrap().unwrap_err();
    assert_eq!(refused, nothing(403, ""));
    // A request that asks for no other protocol at all.
    let plain =
        admin.ask("POST", &format!("{POD}/exec?container=web&stdout=1&{}", command(&["true"])), "").await.unwrap();
    assert_eq!(plain.status, 400, "{}", plain.text());
    assert_eq!(plain.json()["message"], "Upgrade request required", "{}", plain.text());
}

async fn who_is_not_there_is_not_streamed_to(admin: &Endpoint) {
    let gone = "container not found (\"gone\")";
    let path = format!("exec?container=gone&stdout=1&{}", command(&["true"]));
    let refused = WebSocket::open(admin, &format!("{POD}/{path}"), &[V4]).await.unwrap().unwrap_err();
    assert_eq!(refused, Refused { status: 500, body: gone.to_owned() });
    // Who speaks the newest protocol is told over it.
    let said = listen(&mut open(admin, &path, &[V5]).await).await;
    let why = format!("unable to upgrade connection: {gone}");
    let message = format!("Internal error occurred: {why}");
    let wanted = json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": why}]}, "code": 500});
    assert_eq!(said.status, wanted);
}

async fn a_log_is_followed(admin: &Endpoint) {
    let mut connection = admin.connect(Http::One).await.unwrap();
    let request =
        connection.request("GET", &format!("{POD}/log?container=log&follow=true"), &[], Bytes::new()).unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut body, mut seen) = (answer.into_body(), Vec::new());
    let mut until_seen = async |wanted: &[u8]| {
        while !seen.ends_with(wanted) {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the log goes on");
            seen.extend_from_slice(&frame.expect("the log goes on").unwrap().into_data().unwrap());
        }
        assert_eq!(seen, wanted);
    };
    until_seen(b"first\n").await;
    let go = format!("exec?container=log&stdout=1&{}", command(&["touch", "/data/go"]));
    let said = listen(&mut open(admin, &go, &[V5]).await).await;
    assert_eq!(said.status["status"], "Success");
    until_seen(b"first\nsecond\n").await;
}

/// Asks the pod's web server for its health on a port that leads there.
async fn is_served(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    assert!(String::from_utf8_lossy(&answer).contains(" 200 "), "{}", String::from_utf8_lossy(&answer));
}

async fn ports_are_forwarded(admin: &Endpoint) {
    // Two channels for each port, which begin with its number: data, and what goes wrong.
    let mut socket = open(admin, "portforward?ports=3000", &[V4]).await;
    assert_eq!(socket.protocol.as_deref(), Some(V4));
    for channel in 0..2_u8 {
        let first = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it begins").unwrap().unwrap();
        assert_eq!(first, [&[channel], 3000_u16.to_le_bytes().as_slice()].concat());
    }
    socket.send(&[&[0], b"GET /healthz HTTP/1.0\r\n\r\n".as_slice()].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(" 200 ") {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it answers").unwrap().unwrap();
        answer.extend(message.strip_prefix(&[0]).unwrap_or_default());
    }
    let tunnel = open(admin, "portforward", &[TUNNEL]).await;
    assert_eq!(tunnel.protocol.as_deref(), Some(TUNNEL));
}

/// With the oldest and the newest `kubectl` of this machine: those before 1.31 speak SPDY, those after it WebSockets.
async fn real_clients_stream(cluster: &mut Cluster) {
    let kubeconfig = cluster.kubeconfig_path().unwrap();
    let all = kubectl::all();
    let is_versioned = |program: &&PathBuf| program.extension().is_some();
    let mut programs: Vec<&PathBuf> = all.iter().filter(is_versioned).collect();
    if programs.is_empty() {
        programs = all.iter().collect();
    }
    for program in programs.iter().take(1).chain(programs.iter().skip(1).next_back()) {
        let kubectl = Kubectl::new(program, &kubeconfig);
        let run = async |arguments: &'static [&'static str], input: &'static str| {
            let kubectl = kubectl.clone();
            tokio::task::spawn_blocking(move || kubectl.try_with(arguments, input)).await.unwrap().unwrap()
        };
        let summed = run(&["exec", "-i", "streams", "-c", "web", "--", "sha256sum"], "all that is said").await;
        assert_eq!(summed.stdout, format!("{DIGEST}  -\n"), "{}: {summed:?}", program.display());
        let ended = run(&["exec", "streams", "-c", "web", "--", "sh", "-c", "exit 42"], "").await;
        assert!(!ended.success && ended.stderr.contains("command terminated with exit code 42"), "{ended:?}");
        let mut command = tokio::process::Command::from(kubectl.command(&["port-forward", "pod/streams", ":3000"]));
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it forwards").unwrap().unwrap();
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        is_served(port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"))).await;
        child.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_reach_a_pod_in_every_protocol() {
    if let Some(why) = pods::hindrance() {
        eprintln!("streams_reach_a_pod_in_every_protocol: skipped: {why}");
        return;
    }
    let mut cluster = Cluster::start_with(Options { node: true, ..Options::default() }).await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    until_node_is_ready(&admin).await.unwrap();
    pods::import_example(&cluster, "myapp-1.2.0").unwrap();
    let container = |name: &str, more: Value| {
        let mut container = json!({"name": name, "image": "myapp:1.2.0"});
        for (key, value) in more.as_object().unwrap() {
            container[key] = value.clone();
        }
        container
    };
    let pod = json!({"metadata": {"name": "streams"}, "spec": {
        "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
        "containers": [
            container("web", json!({"readinessProbe": {"httpGet": {"path": "/healthz", "port": 3000}, "periodSeconds": 1}})),
            container("cat", json!({"command": ["cat"], "stdin": true})),
            container("gone", json!({"command": ["true"]})),
            container("log", json!({"command": ["sh", "-c", LOGGER], "volumeMounts": [{"name": "data", "mountPath": "/data"}]})),
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }});
    done(&admin.ask("POST", "/api/v1/namespaces/default/pods", pod.to_string()).await.unwrap());
    until("the pod is ready", async || {
        let pod = admin.ask("GET", POD, "").await.unwrap().json();
        let all = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let is_there = |one: &Value| one["ready"] == true || one["state"]["terminated"].is_object();
        (all.len() == 4 && all.iter().all(is_there)).then_some(())
    })
    .await;
    commands_end_as_they_end(&admin).await;
    one_direction_ends_before_the_other(&admin).await;
    a_terminal_gets_its_size(&admin).await;
    a_container_is_attached_to(&admin).await;
    what_nobody_speaks_is_refused(&admin).await;
    who_is_not_there_is_not_streamed_to(&admin).await;
    a_log_is_followed(&admin).await;
    ports_are_forwarded(&admin).await;
    real_clients_stream(&mut cluster).await;
}
