//! Pods talk: to each other, to services, to the node.

use std::time::Duration;

use martello_node::network::{DnsTable, Protocol, ServicePort, ServiceTable};
use martello_node::runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::Node;

pub(crate) async fn network(node: Node) {
    let server = node.pod("server").await.ip.unwrap();
    let client = node.pod("client").await.ip.unwrap();
    node.start("server", "main", "while true; do echo from $(hostname) | nc -l -p 3000; done").await;
    node.start("client", "main", "sleep 1000").await;
    let ask = |target: &str| {
        format!("for i in 1 2 3 4 5 6 7 8 9 10; do nc -w 2 {target} </dev/null && exit 0; sleep 0.1; done; exit 1")
    };
    let (code, text) = node.sh("client", "main", &ask(&format!("{server} 3000"))).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to pod");

    let cluster_ip = "10.96.5.5".parse().unwrap();
    let port = |endpoints, port| ServicePort {
        cluster_ip,
        protocol: Protocol::Tcp,
        port,
        endpoints,
        client_ip_affinity: false,
    };
    let services = ServiceTable { ports: vec![port(vec![(server, 3000)], 80), port(Vec::new(), 81)] };
    node.runtime.apply_services(services).await.unwrap();
    let names = DnsTable {
        cluster_domain: "cluster.local".to_owned(),
        addresses: [("web.default.svc".to_owned(), vec![cluster_ip])].into(),
        ..DnsTable::default()
    };
    node.runtime.apply_names(names).await.unwrap();
    let (code, text) = node.sh("client", "main", &ask("10.96.5.5 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to service");
    let (code, text) = node.sh("server", "main", &ask("10.96.5.5 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to itself by its service");
    let (code, text) = node.sh("client", "main", "nslookup web.default.svc.cluster.local").await;
    assert!(code == 0 && text.contains("10.96.5.5"), "{text}");
    let (code, text) = node.sh("client", "main", &ask("web 80")).await;
    assert_eq!((code, text.as_str()), (0, "from server\n"), "pod to service by name");
    let began = std::time::Instant::now();
    let (code, _) = node.sh("client", "main", "nc -w 5 10.96.5.5 81 </dev/null").await;
    assert!(code != 0 && began.elapsed() < Duration::from_secs(3), "a service without endpoints refuses");
    let (code, _) = node.sh("client", "main", "nc -w 5 10.96.77.77 80 </dev/null").await;
    assert!(code != 0 && began.elapsed() < Duration::from_secs(6), "an address of no service refuses");

    let mut stream = node.runtime.dial(server, 3000).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "from server\n", "the node to a pod");
    drop(stream);
    let mut text = String::new();
    for _ in 0..20 {
        match node.runtime.dial_loopback("server", 3000).await {
            // The server takes one connection after the other, and drops who waits while it starts again.
            Ok(mut stream) => drop(stream.read_to_string(&mut text).await),
            Err(error) => println!("not yet: {error:?}"),
        }
        if !text.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text, "from server\n", "the node to a pod's loopback");

    if let Err(reason) = node.runtime.uplink() {
        println!("no uplink: {reason}");
        return;
    }
    reaches_the_api_server_alone(&node).await;

    node.runtime.remove_pod("client").await.unwrap();
    assert_ne!(node.pod("next").await.ip.unwrap(), client, "addresses rest before they are used again");
}

/// Of all that the node itself serves, a pod reaches the API server and nothing else.
async fn reaches_the_api_server_alone(node: &Node) {
    let port = node.api.local_addr().unwrap().port();
    node.api.set_nonblocking(true).unwrap();
    let api = tokio::net::TcpListener::from_std(node.api.try_clone().unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = api.accept().await {
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom the API server\n").await.unwrap();
        }
    });
    let (code, text) = node.sh("client", "main", "wget -q -O - http://10.96.0.1:443/").await;
    assert_eq!((code, text.as_str()), (0, "from the API server\n"), "pod to API server");
    let (code, _) = node.sh("client", "main", &format!("nc -w 2 192.0.0.1 {port} </dev/null")).await;
    assert_ne!(code, 0, "the node's loopback is closed but for the API server");
    let (code, _) = node.sh("client", "main", &format!("nc -w 2 10.244.7.1 {port} </dev/null")).await;
    assert_ne!(code, 0, "the gateway serves nothing");
}
