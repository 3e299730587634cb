//! What the cluster fills in for who says nothing: classes of storage, and how long pods stay on nodes that are lost.

use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::pod;

const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const OLD_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_filled_in() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_claim_gets_the_newest_default_class,
        a_pod_stays_for_a_while_on_a_node_that_is_lost,
    );
}

fn class(name: &str, annotations: Value) -> Value {
    json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": "example.com/none"})
}

/// A claim; a class of null is said like any other.
fn claim(name: &str, class: Option<&str>) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Makes a class that is a second younger than the one before, as far as its time tells.
async fn younger(server: &Server, class: &Value, than: &Value) -> Value {
    let own = format!("{CLASSES}/{}", class["metadata"]["name"].as_str().unwrap());
    loop {
        let made = server.post(CLASSES, class).await;
        if made["metadata"]["creationTimestamp"] != than["metadata"]["creationTimestamp"] {
            return made;
        }
        server.delete(&own).await;
        server.gone(&own).await;
    }
}

async fn a_claim_gets_the_newest_default_class(server: Server) {
    let claims = format!("{}/persistentvolumeclaims", server.namespace("claims").await);
    let given = async |claim: &Value| {
        let made = server.post(&format!("{claims}?dryRun=All"), claim).await;
        made["spec"]["storageClassName"].clone()
    };
    // Without a default class nothing is filled in, and the claim waits until there is one.
    server.post(CLASSES, &class("plain", json!({DEFAULT: "false"}))).await;
    assert_eq!(given(&claim("one", None)).await, Value::Null);
    server.post(&claims, &claim("waits", None)).await;
    server.post(&claims, &claim("never", Some(""))).await;
    let first = server.post(CLASSES, &class("z-first", json!({OLD_DEFAULT: "true"}))).await;
    assert_eq!(given(&claim("one", None)).await, "z-first");
    let waited = server.until(&format!("{claims}/waits"), |found| found["spec"]["storageClassName"].is_string()).await;
    assert_eq!(waited["spec"]["storageClassName"], "z-first");
    // Who says something gets that.
    assert_eq!(given(&claim("one", Some(""))).await, "");
    assert_eq!(given(&claim("one", Some("plain"))).await, "plain");
    let mut old = claim("one", None);
    old["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "plain"});
    assert_eq!(given(&old).await, Value::Null);
    // Of two the newest counts, whatever their names are; of two of the same time the first by name.
    let second = younger(&server, &class("m-second", json!({DEFAULT: "true"})), &first).await;
    assert_eq!(given(&claim("one", None)).await, "m-second");
    let third = younger(&server, &class("x-third", json!({DEFAULT: "true"})), &second).await;
    assert_eq!(given(&claim("one", None)).await, "x-third");
    let same = server.post(CLASSES, &class("n-same", json!({DEFAULT: "true"}))).await;
    let is_same = same["metadata"]["creationTimestamp"] == third["metadata"]["creationTimestamp"];
    assert_eq!(given(&claim("one", None)).await, "n-same", "of the same second: {is_same}");
    // Who is no default any more does not count.
    for name in ["n-same", "x-third"] {
        server.merge(&format!("{CLASSES}/{name}"), &json!({"metadata": {"annotations": {DEFAULT: null}}})).await;
    }
    assert_eq!(given(&claim("one", None)).await, "m-second");
    assert_eq!(server.get(&format!("{claims}/never")).await["spec"]["storageClassName"], "");
}

async fn a_pod_stays_for_a_while_on_a_node_that_is_lost(server: Server) {
    const LOST: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    let pods = format!("{}/pods", server.namespace("tolerations").await);
    let filled = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let given = async |own: Value| {
        let mut made = pod("tried");
        made["spec"]["tolerations"] = own;
        server.post(&format!("{pods}?dryRun=All"), &made).await["spec"]["tolerations"].clone()
    };
    assert_eq!(given(Value::Null).await, json!([filled(LOST[0]), filled(LOST[1])]));
    // A toleration of one's own stays, and what it does not cover is added.
    let short = json!({"key": LOST[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    assert_eq!(given(json!([short])).await, json!([short, filled(LOST[1])]));
    let any_effect = json!({"key": LOST[1], "operator": "Exists"});
    assert_eq!(given(json!([any_effect])).await, json!([any_effect, filled(LOST[0])]));
    let everything = json!({"operator": "Exists"});
    assert_eq!(given(json!([everything])).await, json!([everything]));
    let other_effect = json!({"key": LOST[0], "operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(given(json!([other_effect])).await, json!([other_effect, filled(LOST[0]), filled(LOST[1])]));
    // Who takes them away gets them back.
    server.post(&pods, &pod("kept")).await;
    let own = format!("{pods}/kept");
    let changed = server.change(&own, |found| found["spec"]["tolerations"] = json!([])).await;
    assert_eq!(changed["spec"]["tolerations"], json!([filled(LOST[0]), filled(LOST[1])]));
}
