//! Patches in all forms: what their directives do, and how they fail.

use serde_json::{Value, json};

use super::{failure, told};
use crate::{
    answers::{config_map, done},
    conformance::{Server, facts},
};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test(flavor = "multi_thread")]
async fn patches_do_what_they_say() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        directives_of_a_strategic_patch_are_followed,
        lists_of_plain_values_are_merged_strategically,
        a_strategic_patch_that_makes_no_sense_is_refused,
        operations_of_a_json_patch_are_done_in_order_or_not_at_all,
        null_takes_out_what_it_is_merged_into,
        a_patch_is_of_a_form_that_its_kind_has,
    );
}

/// A deployment of two containers, which makes no pods; answers its path.
async fn deployed(server: &Server, name: &str) -> String {
    let one = json!({"name": "one", "image": "i:1", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]});
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let pod = json!({"containers": [one, {"name": "two", "image": "i:2"}], "volumes": volumes});
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": pod});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template});
    server.post(DEPLOYMENTS, &json!({"metadata": {"name": name, "labels": {"a": "1", "b": "2"}}, "spec": spec})).await;
    format!("{DEPLOYMENTS}/{name}")
}

/// What a strategic patch of the pods' template would make of a deployment's.
async fn template(server: &Server, path: &str, patch: Value) -> Value {
    let patch = json!({"spec": {"template": {"spec": patch}}});
    strategic(server, path, patch).await["spec"]["template"]["spec"].take()
}

async fn strategic(server: &Server, path: &str, patch: Value) -> Value {
    let path = format!("{path}?dryRun=All");
    done(&server.admin.ask_as("PATCH", &path, STRATEGIC, patch.to_string()).await.unwrap())
}

/// Names and images of containers.
fn images(pod: &Value) -> Vec<(&str, &str)> {
    let containers = pod["containers"].as_array().unwrap().iter();
    containers.map(|one| (one["name"].as_str().unwrap(), one["image"].as_str().unwrap())).collect()
}

async fn directives_of_a_strategic_patch_are_followed(server: Server) {
    let path = deployed(&server, "directives").await;
    let pod = template(&server, &path, json!({"containers": [{"name": "two", "image": "i:9"}]})).await;
    assert_eq!(images(&pod), [("one", "i:1"), ("two", "i:9")]);
    let pod = template(&server, &path, json!({"containers": [{"name": "two", "$patch": "delete"}]})).await;
    assert_eq!(images(&pod), [("one", "i:1")]);
    let replaced = json!({"containers": [{"$patch": "replace"}, {"name": "three", "image": "i:3"}]});
    assert_eq!(images(&template(&server, &path, replaced).await), [("three", "i:3")]);
    let ordered = json!({"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}],
        "containers": [{"name": "two", "image": "i:9"}]});
    assert_eq!(images(&template(&server, &path, ordered).await), [("two", "i:9"), ("one", "i:1")]);
    let less = json!({"containers": [{"name": "one", "env": [{"name": "A", "$patch": "delete"}]}]});
    let pod = template(&server, &path, less).await;
    assert_eq!(pod["containers"][0]["env"], json!([{"name": "B", "value": "2"}]));
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], 80);
    // Of what excludes each other, the rest is dropped where it is said so, and refused where it is not.
    let keys = json!(["name", "configMap"]);
    let kept = json!({"volumes": [{"name": "v", "$retainKeys": keys, "configMap": {"name": "x"}}]});
    let pod = template(&server, &path, kept).await;
    assert_eq!(pod["volumes"], json!([{"name": "v", "configMap": {"name": "x", "defaultMode": 420}}]));
    let strategy = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(strategic(&server, &path, strategy).await["spec"]["strategy"], json!({"type": "Recreate"}));
    let strategy = json!({"spec": {"strategy": {"type": "Recreate"}}}).to_string();
    let refusal = server.admin.ask_as("PATCH", &path, STRATEGIC, strategy).await.unwrap();
    let why = "Deployment.apps \"directives\" is invalid: spec.strategy.rollingUpdate: Forbidden: may not be specified when \
               strategy `type` is 'Recreate'";
    assert_eq!(failure(&refusal), told(422, why));
    let replaced = json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}});
    assert_eq!(strategic(&server, &path, replaced).await["metadata"]["labels"], json!({"c": "3"}));
    let merged = json!({"metadata": {"labels": {"a": null, "c": "3"}}});
    assert_eq!(strategic(&server, &path, merged).await["metadata"]["labels"], json!({"b": "2", "c": "3"}));
}

async fn lists_of_plain_values_are_merged_strategically(server: Server) {
    let path = deployed(&server, "plain-values").await;
    let held = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    server.merge(&path, &held).await;
    let finalizers = |patch: Value| {
        let (server, path) = (server.clone(), path.clone());
        async move { strategic(&server, &path, json!({"metadata": patch})).await["metadata"]["finalizers"].take() }
    };
    let added = finalizers(json!({"finalizers": ["example.com/c"]})).await;
    assert_eq!(added, json!(["example.com/c", "example.com/a", "example.com/b"]));
    let deleted = finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["example.com/a"]})).await;
    assert_eq!(deleted, json!(["example.com/b"]));
    let both = json!({"$deleteFromPrimitiveList/finalizers": ["example.com/b"], "finalizers": ["example.com/c"]});
    assert_eq!(finalizers(both).await, json!(["example.com/c", "example.com/a"]));
    let order = json!(["example.com/c", "example.com/b", "example.com/a"]);
    let ordered = finalizers(json!({"$setElementOrder/finalizers": order, "finalizers": ["example.com/c"]})).await;
    assert_eq!(ordered, order);
    server.merge(&path, &json!({"metadata": {"finalizers": null}})).await;
}

async fn a_strategic_patch_that_makes_no_sense_is_refused(server: Server) {
    let path = deployed(&server, "no-sense").await;
    let pod = |patch: Value| json!({"spec": {"template": {"spec": patch}}});
    let order =
        json!({"$setElementOrder/containers": [{"name": "two"}], "containers": [{"name": "one", "image": "i:9"}]});
    for (patch, code, why) in [
        (
            pod(json!({"containers": [{"image": "i:7"}]})),
            500,
            "map: map[image:i:7] does not contain declared merge key: name",
        ),
        (
            pod(json!({"containers": [{"name": "one", "$patch": "some"}]})),
            500,
            "unknown patch type: some in map: map[$patch:some name:one]",
        ),
        (
            pod(order),
            500,
            "The order in patch list:\n[map[image:i:9 name:one]]\n doesn't match $setElementOrder list:\n[map[name:two]]\n",
        ),
        (
            pod(json!({"volumes": [{"name": "v", "configMap": {"name": "x"}}]})),
            422,
            "Deployment.apps \"no-sense\" is invalid: spec.template.spec.volumes[0].configMap: Forbidden: may not specify \
             more than 1 volume type",
        ),
        (
            pod(json!({"containers": [{"$patch": "replace"}]})),
            422,
            "Deployment.apps \"no-sense\" is invalid: spec.template.spec.containers: Required value",
        ),
    ] {
        let refusal = server.admin.ask_as("PATCH", &path, STRATEGIC, patch.to_string()).await.unwrap();
        assert_eq!(failure(&refusal), told(code, why), "{patch}");
    }
    let template = server.get(&path).await["spec"]["template"]["spec"].take();
    assert_eq!(images(&template), [("one", "i:1"), ("two", "i:2")]);
}

async fn operations_of_a_json_patch_are_done_in_order_or_not_at_all(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("operations").await);
    let path = format!("{maps}/one");
    server.post(&maps, &json!({"metadata": {"name": "one"}, "data": {"a": "1", "b": "2"}})).await;
    let patch = |operations: Value| {
        let (admin, path) = (server.admin.clone(), path.clone());
        async move { admin.ask_as("PATCH", &path, JSON_PATCH, operations.to_string()).await.unwrap() }
    };
    let before = server.get(&path).await;
    let add = json!({"op": "add", "path": "/data/c", "value": "3"});
    for failing in [
        json!({"op": "test", "path": "/data/a", "value": "2"}),
        json!({"op": "test", "path": "/data/none", "value": "2"}),
        json!({"op": "move", "from": "/data/none", "path": "/data/d"}),
        json!({"op": "copy", "from": "/none/a", "path": "/data/d"}),
        json!({"op": "remove", "path": "/data/none"}),
        json!({"op": "replace", "path": "/none/a", "value": "2"}),
        json!({"op": "some", "path": "/data/a"}),
    ] {
        let refusal = patch(json!([add, failing])).await;
        let why = "the server rejected our request due to an error in our request";
        assert_eq!((failure(&refusal), &refusal.json()["reason"]), (told(422, why), &json!("Invalid")), "{failing}");
    }
    let refusal = patch(json!({"op": "add"})).await;
    assert_eq!(failure(&refusal).0, 400);
    assert_eq!(server.get(&path).await, before, "what came before was not done either");
    let all = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "move", "from": "/data/a", "path": "/data/c"},
        {"op": "copy", "from": "/data/b", "path": "/data/d"},
        {"op": "replace", "path": "/data/b", "value": "new"},
        {"op": "add", "path": "/metadata/labels", "value": {"x~y/z": "1"}},
        {"op": "replace", "path": "/metadata/labels/x~0y~1z", "value": "2"},
        {"op": "remove", "path": "/metadata/labels"},
    ]);
    let done = done(&patch(all).await);
    assert_eq!(done["data"], json!({"b": "new", "c": "1", "d": "2"}));
    assert_eq!(done["metadata"].get("labels"), None);
}

async fn null_takes_out_what_it_is_merged_into(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("nulls").await);
    let path = format!("{maps}/one");
    let mut one = config_map("one");
    one["metadata"]["labels"] = json!({"a": "1"});
    server.post(&maps, &one).await;
    let merged = server.merge(&path, &json!({"data": {"key": null, "none": null, "new": "1"}})).await;
    assert_eq!(merged["data"], json!({"new": "1"}));
    let merged = server.merge(&path, &json!({"metadata": {"labels": null}, "data": null})).await;
    assert_eq!((merged["metadata"].get("labels"), merged.get("data")), (None, None));
    for (patch, code) in [(json!([]), 400), (json!(1), 400), (json!({"data": {"a": 1}}), 422)] {
        let refusal = server.admin.ask_as("PATCH", &path, MERGE, patch.to_string()).await.unwrap();
        assert_eq!(failure(&refusal).0, code, "{patch}: {}", refusal.text());
    }
}

async fn a_patch_is_of_a_form_that_its_kind_has(server: Server) {
    let group = "patched.example.com";
    let things = super::things(&server, group).await;
    server.post(&things, &super::thing(group, "one", json!({}))).await;
    let one = format!("{things}/one");
    let refusal = server.admin.ask_as("PATCH", &one, STRATEGIC, "{}").await.unwrap();
    let why = "the body of the request was in an unknown format - accepted media types include: \
               application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    assert_eq!(failure(&refusal), told(415, why));
    let maps = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    let refusal = server.admin.ask("PATCH", maps, "{}").await.unwrap();
    assert_eq!((failure(&refusal).0, &refusal.json()["reason"]), (415, &json!("UnsupportedMediaType")));
}
