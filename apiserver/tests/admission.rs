//! What admission judges by itself: nodes, levels of pods, ranges of amounts, accounts, classes and quotas.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what sets a test up fails as the test does"
)]

use http::Method;
use martello_api::identity::User;
use serde_json::{Value, json};

#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;

#[path = "admission/classes.rs"]
mod classes;
#[path = "admission/levels.rs"]
mod levels;
#[path = "admission/nodes.rs"]
mod nodes;
#[path = "admission/policies.rs"]
mod policies;
#[path = "admission/quotas.rs"]
mod quotas;
#[path = "admission/ranges.rs"]
mod ranges;

use rig::{Raw, Rig};

const NAMESPACE: &str = "/api/v1/namespaces/default";
const PODS: &str = "/api/v1/namespaces/default/pods";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod =
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "example.com/i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// Asks as administrator, and answers what was made of it.
async fn done(rig: &Rig, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = rig.admin(method, path, Some(&body)).await;
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

/// Sends a patch as administrator.
async fn patch(rig: &Rig, path: &str, media: &str, body: Value) -> Raw {
    rig.raw(Method::PATCH, path, &[("content-type", media)], &body.to_string()).await
}

/// Asks for what is refused, and answers why.
async fn refused(rig: &Rig, method: Method, path: &str, body: Value) -> String {
    let (status, answer) = rig.admin(method, path, Some(&body)).await;
    assert_eq!(status, 403, "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

/// Asks as a node; answers code and message.
async fn as_node(rig: &Rig, method: Method, path: &str, body: &Value) -> (u16, String) {
    let media = if method == Method::PATCH { MERGE } else { "application/json" };
    let (status, answer) = rig.call(User::node("n1"), method, path, media, body.to_string().into_bytes()).await;
    (status.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
}
