//! A conversion webhook that is gone keeps objects of its own kind from being read, and no others from being collected.

use std::time::Duration;

use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint},
};
use serde_json::{Value, json};

use crate::answers::done;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const OBJECTS: &str = "/apis/example.com/v1/namespaces/default/relics";
/// The version that clients prefer, to which nothing can be converted.
const PREFERRED: &str = "/apis/example.com/v2/relics";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// More than a first list is waited for, and more than the pause after some failed ones.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);

fn definition() -> Value {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let client = json!({"url": "https://127.0.0.1:1/"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "relics.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "relics", "singular": "relic", "kind": "Relic"},
            "versions": [version("v1", true), version("v2", false)],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}},
        },
    })
}

/// Asks the same until it is answered with this code.
async fn until(admin: &Endpoint, (method, path): (&str, &str), body: &str, code: u16) -> Answer {
    let asked = async {
        let mut interval = tokio::time::interval(LOOK);
        loop {
            let answer = admin.ask(method, path, body.to_owned()).await.unwrap();
            if answer.status == code {
                return answer;
            }
            interval.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{method} {path} was not answered {code}"))
}

async fn map(admin: &Endpoint, name: &str, owners: Value) -> Value {
    let map = json!({"metadata": {"name": name, "ownerReferences": owners}});
    done(&admin.ask("POST", MAPS, map.to_string()).await.unwrap())
}

#[tokio::test]
async fn a_conversion_webhook_that_is_gone_stops_the_collection_of_nothing_else() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    done(&admin.ask("POST", DEFINITIONS, definition().to_string()).await.unwrap());
    let relic = json!({"apiVersion": "example.com/v1", "kind": "Relic", "metadata": {"name": "one"}}).to_string();
    until(&admin, ("POST", OBJECTS), &relic, 201).await;
    // Whoever starts from now on can't list them.
    cluster.kill().unwrap();
    cluster.boot().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    until(&admin, ("GET", PREFERRED), "", 500).await;

    let owner = map(&admin, "owner", json!([])).await;
    let uid = &owner["metadata"]["uid"];
    map(&admin, "owned", json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}])).await;
    map(&admin, "waits", json!([])).await;
    map(&admin, "last", json!([])).await;
    for (name, policy) in [("waits", "Orphan"), ("last", "Foreground"), ("owner", "Background")] {
        done(&admin.ask("DELETE", &format!("{MAPS}/{name}?propagationPolicy={policy}"), "").await.unwrap());
    }
    for gone in ["owned", "last"] {
        until(&admin, ("GET", &format!("{MAPS}/{gone}")), "", 404).await;
    }

    // One that lets go of what it owns waits: some of that may be among what nobody could list.
    let waits = done(&admin.ask("GET", &format!("{MAPS}/waits"), "").await.unwrap());
    assert_eq!(waits["metadata"]["finalizers"], json!(["orphan"]));
    let mended = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}).to_string();
    let path = format!("{DEFINITIONS}/relics.example.com");
    done(&admin.ask_as("PATCH", &path, "application/merge-patch+json", mended).await.unwrap());
    until(&admin, ("GET", &format!("{MAPS}/waits")), "", 404).await;
}
