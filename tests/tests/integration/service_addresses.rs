//! Addresses and ports of Services: each has one owner, whatever is written at the same time, and a dry run takes none.

use std::collections::BTreeMap;

use futures::future::join_all;
use martello_tests::{
    cluster::Cluster,
    raw::{Connection, Http, whole},
};
use serde_json::{Value, json};

use crate::{
    answers::{done, refused},
    conformance::Server,
};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
/// Who writes at the same time, how often each does, and how many addresses they want.
const WRITERS: usize = 6;
const ROUNDS: usize = 40;
const WANTED: usize = 4;

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn at(address: usize) -> String {
    format!("10.96.200.{}", address + 1)
}

/// Creates and deletes Services of one name, each with an address that others want too.
async fn write(connection: &mut Connection, name: &str, writer: usize) {
    for round in 0..ROUNDS {
        let spec = json!({"clusterIP": at((writer + round) % WANTED), "ports": [{"port": 80}]});
        let body = service(name, spec).to_string();
        let headers = [("content-type", "application/json")];
        let request = connection.request("POST", SERVICES, &headers, body.into()).unwrap();
        let made = whole(connection.send(request).await.unwrap()).await.unwrap();
        assert!([201, 422].contains(&made.status), "{}", made.text());
        // What is made in the last round stays.
        if made.status == 201 && round + 1 < ROUNDS {
            let path = format!("{SERVICES}/{name}");
            let request = connection.request("DELETE", &path, &[], hyper::body::Bytes::new()).unwrap();
            done(&whole(connection.send(request).await.unwrap()).await.unwrap());
        }
    }
}

/// By address who has it: of all Services, and of all IPAddresses.
fn owners(services: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let has = |service: &&Value| service["spec"]["clusterIP"].as_str().is_some_and(|address| address != "None");
    services.iter().filter(has).map(|one| (text(&one["spec"]["clusterIP"]), text(&one["metadata"]["name"]))).collect()
}

fn told(addresses: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    addresses.iter().map(|one| (text(&one["metadata"]["name"]), text(&one["spec"]["parentRef"]["name"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_tells_who_has_it_whatever_is_made_and_deleted_at_once() {
    let mut cluster = Cluster::start().await.unwrap();
    let server = Server { admin: cluster.admin().await.unwrap(), kubeconfig: cluster.kubeconfig_path().unwrap() };
    let writers = (0..WRITERS).map(async |writer| {
        let mut connection = server.admin.connect(Http::One).await.unwrap();
        write(&mut connection, &format!("w{writer}"), writer).await;
    });
    join_all(writers).await;
    let services = server.get("/api/v1/services").await;
    let owners = owners(services["items"].as_array().unwrap());
    assert!(owners.len() > 1, "the server's own, and one of the writers' at least: {owners:?}");
    server.until_items(&format!("{ADDRESSES}?"), |addresses| told(addresses) == owners).await;

    // Who takes one away by mistake gets it back, and what a start finds amiss it mends.
    let (address, owner) = owners.iter().find(|(_, owner)| owner.starts_with('w')).unwrap();
    let before = server.get(&format!("{ADDRESSES}/{address}")).await;
    server.delete(&format!("{ADDRESSES}/{address}")).await;
    server.until(&format!("{ADDRESSES}/{address}"), |told| told["metadata"]["uid"] != before["metadata"]["uid"]).await;
    let labels = &before["metadata"]["labels"];
    assert_eq!(labels["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    let parent = json!({"resource": "services", "namespace": "default", "name": "nobody"});
    let lost = json!({"metadata": {"name": "10.96.201.1", "labels": labels}, "spec": {"parentRef": parent}});
    server.post(ADDRESSES, &lost).await;
    let own = json!({"metadata": {"name": "10.96.201.2"}, "spec": {"parentRef": parent}});
    server.post(ADDRESSES, &own).await;
    cluster.kill().unwrap();
    cluster.boot().await.unwrap();
    server.gone(&format!("{ADDRESSES}/10.96.201.1")).await;
    server.get(&format!("{ADDRESSES}/10.96.201.2")).await;
    assert_eq!(&server.get(&format!("{ADDRESSES}/{address}")).await["spec"]["parentRef"]["name"], owner);

    // What somebody else keeps no Service gets, as long as that is told.
    let wanted = service("wanted", json!({"clusterIP": "10.96.201.2", "ports": [{"port": 80}]}));
    let refusal = refused(&server.ask("POST", SERVICES, &wanted).await, 422, "Invalid");
    assert!(refusal.contains("provided IP is already allocated"), "{refusal}");
    server.delete(&format!("{ADDRESSES}/10.96.201.2")).await;
    server.post(SERVICES, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_takes_no_address_and_no_port_whether_it_succeeds_or_not() {
    let mut cluster = Cluster::start().await.unwrap();
    let server = Server { admin: cluster.admin().await.unwrap(), kubeconfig: cluster.kubeconfig_path().unwrap() };
    let tried = format!("{SERVICES}?dryRun=All");
    let fixed = json!({"type": "NodePort", "clusterIP": "10.96.77.7", "ports": [{"port": 80, "nodePort": 30777}]});
    for _ in 0..2 {
        let shown = done(&server.ask("POST", &tried, &service("tried", fixed.clone())).await);
        assert_eq!(shown["spec"]["clusterIP"], "10.96.77.7");
        assert_eq!(shown["spec"]["ports"][0]["nodePort"], 30777);
        // It fails after all was looked at: the name of the port is none.
        let mut bad = fixed.clone();
        bad["ports"][0]["name"] = json!("Not A Name");
        refused(&server.ask("POST", &tried, &service("tried", bad.clone())).await, 422, "Invalid");
        // And so does a write that is meant.
        refused(&server.ask("POST", SERVICES, &service("tried", bad)).await, 422, "Invalid");
    }
    // A dry run of a name that is taken.
    server.post(SERVICES, &service("there", json!({"ports": [{"port": 80}]}))).await;
    refused(&server.ask("POST", &tried, &service("there", fixed.clone())).await, 409, "AlreadyExists");
    // Updates and patches that would take, or give back.
    let there = format!("{SERVICES}/there");
    let patch = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30777}]}}).to_string();
    let merge = "application/merge-patch+json";
    let shown = server.admin.ask_as("PATCH", &format!("{there}?dryRun=All"), merge, patch).await.unwrap();
    assert_eq!(done(&shown)["spec"]["ports"][0]["nodePort"], 30777);
    assert_eq!(server.get(&there).await["spec"]["type"], "ClusterIP");

    let made = server.post(SERVICES, &service("real", fixed.clone())).await;
    assert_eq!(made["spec"]["clusterIP"], "10.96.77.7");
    assert_eq!(made["spec"]["ports"][0]["nodePort"], 30777);
    // What a dry run would give up or delete stays taken.
    let real = format!("{SERVICES}/real");
    let patch = json!({"spec": {"type": "ExternalName", "externalName": "x.example.com", "clusterIP": null,
        "clusterIPs": null, "ports": null}});
    let shown = server.admin.ask_as("PATCH", &format!("{real}?dryRun=All"), merge, patch.to_string()).await.unwrap();
    done(&shown);
    done(&server.admin.ask("DELETE", &format!("{real}?dryRun=All"), "").await.unwrap());
    let told = refused(&server.ask("POST", SERVICES, &service("other", fixed.clone())).await, 422, "Invalid");
    assert!(told.contains("provided IP is already allocated"), "{told}");
    // And what is deleted is free.
    server.delete(&real).await;
    server.post(SERVICES, &service("other", fixed)).await;
}
