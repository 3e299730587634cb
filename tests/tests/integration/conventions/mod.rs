//! The conventions of the API, and its limits: what a client relies on whatever kind it asks for.

mod deleting;
mod encodings;
mod fairness;
mod health;
mod patching;
mod publishing;
mod reading;
mod sizes;
mod watching;
mod writing;

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use crate::conformance::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A kind that keeps whatever it is given, in a group of its own; answers the collection of its objects.
async fn things(server: &Server, group: &str) -> String {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(server, group, &anything).await
}

/// A kind `Thing` of this schema, with a status; answers the collection of its objects once it is there.
async fn define(server: &Server, group: &str, schema: &Value) -> String {
    let version = json!({"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing"});
    let definition = json!({"metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}});
    server.post(DEFINITIONS, &definition).await;
    let collection = format!("/apis/{group}/v1/namespaces/default/things");
    server.until_answered(&collection, |answer| answer.status == 200).await;
    collection
}

/// An object of it.
fn thing(group: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

/// Code and message of a failure.
fn failure(answer: &Answer) -> (u16, String) {
    let status = answer.json();
    assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(answer.status)), "{}", answer.text());
    (answer.status, status["message"].as_str().unwrap_or_default().to_owned())
}

/// A failure as it is expected.
fn told(code: u16, message: &str) -> (u16, String) {
    (code, message.to_owned())
}

/// The names of the objects of a list.
fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// The version that an object or a list tells.
fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}
