//! What passes through the proxies of pods, Services and nodes, and of extension servers: streams both ways, refusals as they
//! were said, and nothing that proves who the client is.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use martello_tests::{
    cluster::Cluster,
    foreign::ForeignServer,
    raw::{Answer, Endpoint},
};
use rustls::version::TLS13;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    answers::{done, pod},
    node_agent::until,
};

/// What nobody but the server may see.
const CREDENTIAL: &str = "a-token-of-the-client";
/// More than any buffer on the way holds.
const BIG_FRAME: usize = 3 * 1024 * 1024;
/// What a backend says when its client has said all.
const FAREWELL: &[u8] = b"that was all";
const NAMESPACE: &str = "/api/v1/namespaces/default";

/// A backend that notes the heads of requests; what it does is in their paths.
struct Backend {
    address: IpAddr,
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// Listens on an address that other machines reach, too: no proxy leads to loopback.
    async fn start() -> Self {
        let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        probe.connect("198.51.100.1:9").expect("a network besides loopback, which this test needs");
        let address = probe.local_addr().unwrap().ip();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&notes)));
            }
        });
        Self { address, port, heads }
    }

    fn last_head(&self) -> String {
        self.heads.lock().unwrap().last().cloned().unwrap()
    }
}

async fn answer(mut stream: TcpStream, notes: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let head = head(&mut stream).await;
    notes.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.starts_with("/refuse") {
        let refusal = "HTTP/1.1 418 I'm a teapot\r\nX-Why: because\r\nContent-Length: 9\r\n\r\nno tea :(";
        return stream.write_all(refusal.as_bytes()).await;
    }
    if path.starts_with("/page") || path.starts_with("/ignore") {
        let page = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok";
        return stream.write_all(page.as_bytes()).await;
    }
    let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade: ")).unwrap_or("none");
    let switched =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nfirst");
    stream.write_all(switched.as_bytes()).await?;
    let (mut incoming, mut outgoing) = stream.split();
    tokio::io::copy(&mut incoming, &mut outgoing).await?;
    outgoing.write_all(FAREWELL).await?;
    outgoing.shutdown().await
}

/// Reads to the empty line, and nothing behind it.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head that ends"));
    }
    String::from_utf8(head).unwrap()
}

/// Opens a connection, and asks on it for another protocol; answers the connection and the head of what came back.
async fn upgrade(
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    protocol: &str,
) -> (tokio_rustls::client::TlsStream<TcpStream>, String) {
    let mut stream = endpoint.open(&[b"http/1.1"]).await.unwrap();
    let asked = format!(
        "{method} {path} HTTP/1.1\r\nHost: martello.example\r\nAuthorization: Bearer {CREDENTIAL}\r\n\
         Impersonate-User: jane\r\nImpersonate-Group: system:masters\r\nX-Remote-User: root\r\n\
         Connection: keep-alive, X-Hop, Upgrade\r\nUpgrade: {protocol}\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Own: kept\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    (stream, head)
}

async fn make(admin: &Endpoint, path: &str, body: &Value) -> Value {
    done(&admin.ask("POST", path, body.to_string()).await.unwrap())
}

/// Makes a pod, a Service and a node that are the backend; answers where each is proxied.
async fn publish(admin: &Endpoint, backend: &Backend) -> [String; 3] {
    let (address, port) = (backend.address, backend.port);
    make(admin, &format!("{NAMESPACE}/pods"), &pod("web")).await;
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}}).to_string();
    let merge = "application/merge-patch+json";
    done(&admin.ask_as("PATCH", &format!("{NAMESPACE}/pods/web/status"), merge, status).await.unwrap());
    make(
        admin,
        &format!("{NAMESPACE}/services"),
        &json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .await;
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": port}],
        "endpoints": [{"addresses": [address], "targetRef": {"kind": "Pod", "name": "web", "namespace": "default"}}],
    });
    make(admin, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await;
    make(admin, "/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}})
    .to_string();
    done(&admin.ask_as("PATCH", "/api/v1/nodes/n1/status", merge, status).await.unwrap());
    [
        format!("{NAMESPACE}/pods/web:{port}/proxy"),
        format!("{NAMESPACE}/services/web:80/proxy"),
        format!("/api/v1/nodes/n1:{port}/proxy"),
    ]
}

/// Asserts what of a request reached a backend, and what did not.
#[track_caller]
fn nothing_of_the_client_shows(head: &str) {
    let lower = head.to_lowercase();
    for hidden in [CREDENTIAL, "authorization", "impersonate", "x-remote", "x-hop", "keep-alive", "jane"] {
        assert!(!lower.contains(hidden), "{hidden} in {head}");
    }
    assert!(lower.contains("x-own: kept") && lower.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_through_every_proxy_both_ways() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let proxies = publish(&admin, &backend).await;
    let frame: Vec<u8> = (0..BIG_FRAME).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for proxy in &proxies {
        for (method, protocol) in [("GET", "websocket"), ("POST", "SPDY/3.1")] {
            let path = format!("{proxy}/echo/a%20b/?x=1%2F2&x=3");
            let (stream, switched) = upgrade(&admin, method, &path, protocol).await;
            assert!(switched.starts_with("HTTP/1.1 101 "), "{path}: {switched}");
            assert!(
                switched.to_lowercase().contains(&format!("upgrade: {}\r\n", protocol.to_lowercase())),
                "{switched}"
            );
            let asked = backend.last_head();
            assert!(asked.starts_with(&format!("{method} /echo/a%20b/?x=1%2F2&x=3 HTTP/1.1\r\n")), "{asked}");
            let lower = asked.to_lowercase();
            assert!(
                lower.contains("\r\nconnection: upgrade\r\n") && lower.contains("\r\nsec-websocket-key: "),
                "{asked}"
            );
            nothing_of_the_client_shows(&asked);
            let (mut incoming, mut outgoing) = tokio::io::split(stream);
            let sent = frame.clone();
            let sending = tokio::spawn(async move {
                outgoing.write_all(&sent).await.unwrap();
                outgoing.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            incoming.read_to_end(&mut got).await.unwrap();
            sending.await.unwrap();
            let wanted = [b"first", frame.as_slice(), FAREWELL].concat();
            assert!(got == wanted, "{path}: {} bytes came back of {}", got.len(), wanted.len());
        }
    }
}

#[tokio::test]
async fn a_backend_that_does_not_switch_says_so_in_its_own_words() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    for proxy in publish(&admin, &backend).await {
        let (mut stream, refused) = upgrade(&admin, "GET", &format!("{proxy}/refuse"), "websocket").await;
        assert!(refused.starts_with("HTTP/1.1 418 ") && refused.to_lowercase().contains("x-why: because"), "{refused}");
        let mut body = [0; 9];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"no tea :(");
        nothing_of_the_client_shows(&backend.last_head());
        let (_, ignored) = upgrade(&admin, "GET", &format!("{proxy}/ignore"), "websocket").await;
        assert!(ignored.starts_with("HTTP/1.1 500 "), "{ignored}");
        // HTTP/2 is not spoken in the client's name: what is asked for that way is asked for plainly.
        let (_, plain) = upgrade(&admin, "GET", &format!("{proxy}/page"), "h2c").await;
        assert!(plain.starts_with("HTTP/1.1 200 ") && !plain.to_lowercase().contains("access-control"), "{plain}");
        assert!(!backend.last_head().to_lowercase().contains("upgrade"), "{}", backend.last_head());
        nothing_of_the_client_shows(&backend.last_head());
    }
}

#[tokio::test]
async fn every_method_passes_through_every_proxy() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    for proxy in publish(&admin, &backend).await {
        for method in ["GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = admin.ask(method, &format!("{proxy}/page/{method}"), "").await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "ok".into()), "{method} {proxy}");
            let asked = backend.last_head();
            assert!(asked.starts_with(&format!("{method} /page/{method} HTTP/1.1\r\n")), "{asked}");
        }
        let refused = admin.ask("TRACE", &format!("{proxy}/page"), "").await.unwrap();
        assert_eq!(refused.status, 405, "{proxy}");
    }
    // An object itself has no options to tell.
    let refused = admin.ask("OPTIONS", &format!("{NAMESPACE}/pods/web"), "").await.unwrap();
    assert_eq!(refused.status, 405);
}

/// What the extension server of these tests says.
fn extension(request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let asked = request.uri().path().rsplit('/').next().unwrap_or_default();
    let response = Response::builder().header("access-control-allow-origin", "*").header("x-own", "kept");
    let response = match asked {
        "v1" => {
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "ext.example.com/v1",
                "resources": [{"name": "things", "kind": "Thing", "singularName": "thing", "namespaced": false, "verbs": ["get"]}]});
            return response.header("content-type", "application/json").body(Full::from(list.to_string())).unwrap();
        }
        "moved" => response.status(302).header("location", "https://elsewhere.example/"),
        "unmodified" => response.status(304),
        "refuse" => response.status(403),
        _ => response,
    };
    let heads: Vec<String> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    response.body(Full::from(heads.concat())).unwrap()
}

#[tokio::test]
async fn an_extension_server_sends_nobody_elsewhere_and_opens_no_other_origin() {
    let answer = |request: Request<Bytes>| std::future::ready(extension(&request));
    let server = ForeignServer::start_at("127.0.0.1:0", "ext.default.svc", &[&TLS13], answer).await.unwrap();
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let service = json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 443, "name": "https"}]}});
    make(&admin, &format!("{NAMESPACE}/services"), &service).await;
    let slice = json!({
        "metadata": {"name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": server.port}], "endpoints": [{"addresses": ["127.0.0.1"]}],
    });
    // Upstream forbids slices that lead to loopback; a Service by name leads there, too.
    let refused = admin.ask("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice.to_string());
    assert_eq!(refused.await.unwrap().status, 422);
    let named =
        json!({"spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": server.port}]}});
    let merge = "application/merge-patch+json";
    done(&admin.ask_as("PATCH", &format!("{NAMESPACE}/services/ext"), merge, named.to_string()).await.unwrap());
    let group = json!({
        "metadata": {"name": "v1.ext.example.com"},
        "spec": {"group": "ext.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "service": {"namespace": "default", "name": "ext", "port": server.port},
            "caBundle": STANDARD.encode(&server.authority_pem)},
    });
    make(&admin, "/apis/apiregistration.k8s.io/v1/apiservices", &group).await;
    let things = "/apis/ext.example.com/v1/things";
    let answer: Answer = until("the extension server answers", async || {
        let answer = admin.ask("GET", &format!("{things}/one?a=b"), "").await.unwrap();
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.headers["x-own"], "kept");
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{:?}", answer.headers);
    let heads = answer.text();
    assert!(heads.contains("x-forwarded-for: 127.0.0.1\r\n") && heads.contains("x-remote-user: "), "{heads}");
    assert!(heads.contains(&format!("x-forwarded-uri: {things}/one\r\n")), "{heads}");

    let moved = admin.ask("GET", &format!("{things}/moved"), "").await.unwrap();
    let words = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!((moved.status, moved.text().as_str()), (502, words));
    assert!(!moved.headers.contains_key("location"), "{:?}", moved.headers);
    assert_eq!(admin.ask("GET", &format!("{things}/unmodified"), "").await.unwrap().status, 304);

    let (_, refused) = upgrade(&admin, "GET", &format!("{things}/refuse"), "websocket").await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    let (mut stream, ignored) = upgrade(&admin, "GET", &format!("{things}/one"), "websocket").await;
    assert!(ignored.starts_with("HTTP/1.1 503 "), "{ignored}");
    let wanted = b"invalid upgrade response: status code 200\n";
    let mut said = vec![0; wanted.len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, wanted);
}
