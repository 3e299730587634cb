//! Services and what stands behind them, as the API tells it: types, addresses, endpoints, slices.

use serde_json::{Value, json};

use super::{Server, facts, kubelet};
use crate::answers::{pod, refused};

#[tokio::test(flavor = "multi_thread")]
async fn services_are_told_with_what_stands_behind_them() {
    let (_cluster, server) = Server::start().await;
    kubelet::start(&server, &["node-a"]).await;
    facts!(server;
        the_server_is_a_service,
        a_service_changes_its_type,
        a_service_may_stick_to_its_clients,
        services_are_deleted_together,
        endpoints_follow_pods,
        endpoints_follow_ports,
        one_port_may_speak_two_protocols,
        endpoints_of_ones_own_are_mirrored,
        endpoints_live,
        pods_with_one_port_on_different_addresses_fit_one_node,
    );
}

fn slices(namespace: &str, service: &str) -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io/service-name%3D{service}"
    )
}

async fn the_server_is_a_service(server: Server) {
    let services = server.get("/api/v1/services").await;
    let own = |one: &&Value| one["metadata"]["name"] == "kubernetes" && one["metadata"]["namespace"] == "default";
    let own = services["items"].as_array().unwrap().iter().find(own).unwrap();
    assert_eq!((&own["spec"]["ports"][0]["name"], &own["spec"]["ports"][0]["port"]), (&json!("https"), &json!(443)));
    let endpoints =
        server.until("/api/v1/namespaces/default/endpoints/kubernetes", |found| found["subsets"].is_array()).await;
    let address = &endpoints["subsets"][0]["addresses"][0]["ip"];
    let told = |all: &[Value]| all.iter().any(|slice| &slice["endpoints"][0]["addresses"][0] == address);
    server.until_items(&slices("default", "kubernetes"), told).await;
}

async fn a_service_changes_its_type(server: Server) {
    let services = format!("{}/services", server.namespace("types").await);
    let one = format!("{services}/one");
    server
        .post(
            &services,
            &json!({"metadata": {"name": "one"}, "spec": {"type": "ExternalName", "externalName": "foo.example.com"}}),
        )
        .await;
    assert!(server.get(&one).await["spec"]["clusterIP"].is_null());
    let ports = json!([{"port": 80, "protocol": "TCP", "targetPort": 9376}]);
    for kind in ["ClusterIP", "NodePort"] {
        let inside = server.change(&one, |found| found["spec"] = json!({"type": kind, "ports": ports})).await;
        assert!(
            inside["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
            "{inside}"
        );
        assert_eq!(inside["spec"]["ports"][0]["nodePort"].is_u64(), kind == "NodePort");
        let outside = server
            .change(&one, |found| found["spec"] = json!({"type": "ExternalName", "externalName": "foo.example.com"}))
            .await;
        assert!(outside["spec"]["clusterIP"].is_null() && outside["spec"]["ports"].is_null(), "{outside}");
    }
}

async fn a_service_may_stick_to_its_clients(server: Server) {
    let services = format!("{}/services", server.namespace("sticks").await);
    for kind in ["ClusterIP", "NodePort"] {
        let name = kind.to_lowercase();
        let spec = json!({"type": kind, "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
        let made = server.post(&services, &json!({"metadata": {"name": name}, "spec": spec})).await;
        assert_eq!(made["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
        let one = format!("{services}/{name}");
        let loose =
            server.merge(&one, &json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}})).await;
        assert_eq!(
            (&loose["spec"]["sessionAffinity"], &loose["spec"]["sessionAffinityConfig"]),
            (&json!("None"), &Value::Null)
        );
        let back = server.merge(&one, &json!({"spec": {"sessionAffinity": "ClientIP"}})).await;
        assert_eq!(back["spec"]["sessionAffinity"], "ClientIP");
    }
}

async fn services_are_deleted_together(server: Server) {
    let services = format!("{}/services", server.namespace("together").await);
    for (name, label) in [("one", "a"), ("two", "a"), ("three", "b")] {
        let service = json!({"metadata": {"name": name, "labels": {"set": label}}, "spec": {"ports": [{"port": 80}]}});
        server.post(&services, &service).await;
    }
    server.delete(&format!("{services}?labelSelector=set%3Da")).await;
    let left = server.get(&services).await;
    assert_eq!((left["items"].as_array().unwrap().len(), &left["items"][0]["metadata"]["name"]), (1, &json!("three")));
}

fn labelled(name: &str, port: u16, label: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["labels"] = json!({"app": label});
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "name": format!("p{port}")}]);
    pod
}

/// The addresses of a service's endpoints, each with its port, sorted.
fn backends(endpoints: &Value) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        for address in subset["addresses"].as_array().into_iter().flatten() {
            for port in subset["ports"].as_array().into_iter().flatten() {
                found.push((address["targetRef"]["name"].as_str().unwrap().to_owned(), port["port"].as_u64().unwrap()));
            }
        }
    }
    found.sort();
    found
}

async fn endpoints_follow_pods(server: Server) {
    let namespace = server.namespace("follow").await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    server.post(&format!("{namespace}/services"), &json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let endpoints = format!("{namespace}/endpoints/web");
    server.until(&endpoints, |found| backends(found).is_empty()).await;
    let mut expected = Vec::new();
    for name in ["one", "two"] {
        server.post(&format!("{namespace}/pods"), &labelled(name, 8080, "web")).await;
        expected.push((name.to_owned(), 8080));
        server.until(&endpoints, |found| backends(found) == expected).await;
        let count = expected.len();
        let sliced =
            |all: &[Value]| all.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap()).count() == count;
        server.until_items(&slices("follow", "web"), sliced).await;
    }
    for name in ["two", "one"] {
        server.delete(&format!("{namespace}/pods/{name}")).await;
        expected.pop();
        server.until(&endpoints, |found| backends(found) == expected).await;
    }
    server.delete(&format!("{namespace}/services/web")).await;
    server.gone(&endpoints).await;
    server.until_listed(&slices("follow", "web"), 0).await;
}

async fn endpoints_follow_ports(server: Server) {
    let namespace = server.namespace("ports").await;
    let ports =
        json!([{"name": "a", "port": 80, "targetPort": "p100"}, {"name": "b", "port": 81, "targetPort": "p101"}]);
    let service = json!({"metadata": {"name": "multi"}, "spec": {"selector": {"app": "multi"}, "ports": ports}});
    server.post(&format!("{namespace}/services"), &service).await;
    let endpoints = format!("{namespace}/endpoints/multi");
    for (name, port) in [("one", 100), ("two", 101)] {
        server.post(&format!("{namespace}/pods"), &labelled(name, port, "multi")).await;
    }
    let both = [("one".to_owned(), 100), ("two".to_owned(), 101)];
    server.until(&endpoints, |found| backends(found) == both).await;
    server.delete(&format!("{namespace}/pods/one")).await;
    server.until(&endpoints, |found| backends(found) == both[1..]).await;
}

async fn one_port_may_speak_two_protocols(server: Server) {
    let namespace = server.namespace("protocols").await;
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": 80, "protocol": protocol});
    let both = json!([port("TCP"), port("UDP")]);
    let service = json!({"metadata": {"name": "dns"}, "spec": {"selector": {"app": "dns"}, "ports": both}});
    server.post(&format!("{namespace}/services"), &service).await;
    server.post(&format!("{namespace}/pods"), &labelled("one", 80, "dns")).await;
    let spoken = |wanted: &'static [&'static str]| {
        move |all: &[Value]| {
            let mut told: Vec<&str> = all
                .iter()
                .filter(|slice| slice["endpoints"].as_array().is_some_and(|found| !found.is_empty()))
                .flat_map(|slice| slice["ports"].as_array().unwrap())
                .map(|port| port["protocol"].as_str().unwrap())
                .collect();
            told.sort_unstable();
            told == wanted
        }
    };
    server.until_items(&slices("protocols", "dns"), spoken(&["TCP", "UDP"])).await;
    let path = format!("{namespace}/services/dns");
    server.change(&path, |found| found["spec"]["ports"] = json!([port("UDP")])).await;
    server.until_items(&slices("protocols", "dns"), spoken(&["UDP"])).await;
}

async fn endpoints_of_ones_own_are_mirrored(server: Server) {
    let namespace = server.namespace("mirror").await;
    server
        .post(
            &format!("{namespace}/services"),
            &json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]);
    let endpoints = format!("{namespace}/endpoints");
    server.post(&endpoints, &json!({"metadata": {"name": "own"}, "subsets": subsets("10.1.2.3")})).await;
    let mirrored =
        |ip: &'static str| move |all: &[Value]| all.len() == 1 && all[0]["endpoints"][0]["addresses"] == json!([ip]);
    let found = server.until_items(&slices("mirror", "own"), mirrored("10.1.2.3")).await;
    assert_eq!(
        found[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    server.change(&format!("{endpoints}/own"), |found| found["subsets"] = subsets("10.2.3.4")).await;
    server.until_items(&slices("mirror", "own"), mirrored("10.2.3.4")).await;
    server.delete(&format!("{endpoints}/own")).await;
    server.until_listed(&slices("mirror", "own"), 0).await;
}

async fn endpoints_live(server: Server) {
    let endpoints = format!("{}/endpoints", server.namespace("lives").await);
    let one = format!("{endpoints}/one");
    let mut events = server.watch(&format!("{endpoints}?watch=1&labelSelector=own%3Dyes")).await;
    let subsets =
        |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]);
    server
        .post(
            &endpoints,
            &json!({"metadata": {"name": "one", "labels": {"own": "yes"}}, "subsets": subsets("10.0.0.24")}),
        )
        .await;
    server.change(&one, |found| found["metadata"]["labels"]["updated"] = json!("yes")).await;
    server.merge(&one, &json!({"subsets": subsets("10.0.0.25")})).await;
    server.delete(&format!("{endpoints}?labelSelector=own%3Dyes")).await;
    for kind in ["ADDED", "MODIFIED", "MODIFIED", "DELETED"] {
        assert_eq!(events.next().await.0, kind);
    }
    refused(&server.ask("GET", &one, &Value::Null).await, 404, "NotFound");
}

async fn pods_with_one_port_on_different_addresses_fit_one_node(server: Server) {
    let namespace = server.namespace("host-ports").await;
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    server.merge(&namespace, &level).await;
    let on = |name: &str, ip: &str, protocol: &str| {
        let mut pod = pod(name);
        let port = json!({"containerPort": 8080, "hostPort": 54323, "hostIP": ip, "protocol": protocol});
        pod["spec"]["containers"][0]["ports"] = json!([port]);
        pod
    };
    let pods = format!("{namespace}/pods");
    for (name, ip, protocol) in [("one", "127.0.0.1", "TCP"), ("two", "10.0.0.9", "TCP"), ("three", "10.0.0.9", "UDP")]
    {
        server.post(&pods, &on(name, ip, protocol)).await;
        server.until(&format!("{pods}/{name}"), |pod| pod["spec"]["nodeName"] == "node-a").await;
    }
    server.post(&pods, &on("four", "0.0.0.0", "UDP")).await;
    let waits = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "Unschedulable";
    server.until(&format!("{pods}/four"), waits).await;
}
