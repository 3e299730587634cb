//! What an answer must look like.

use martello_tests::raw::{Answer, Endpoint};
use serde_json::{Value, json};

/// Asserts that an answer is a Kubernetes `Status` of failure, and returns its message.
#[track_caller]
pub(crate) fn refused(answer: &Answer, code: u16, reason: &str) -> String {
    let status = answer.json();
    assert_eq!(answer.status, code, "{}", answer.text());
    assert_eq!(status["kind"], "Status", "{}", answer.text());
    assert_eq!(status["apiVersion"], "v1", "{}", answer.text());
    assert_eq!(status["status"], "Failure", "{}", answer.text());
    assert_eq!(status["code"], code, "{}", answer.text());
    assert_eq!(status["reason"], reason, "{}", answer.text());
    let message = status["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "a Status says what is wrong");
    message.to_owned()
}

/// Asserts that an answer is a success, and returns its object.
#[track_caller]
pub(crate) fn done(answer: &Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
    answer.json()
}

/// The metadata of a name, in a body.
pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}})
}

/// A pod of one container.
pub(crate) fn pod(name: &str) -> Value {
    let container = json!({"name": "one", "image": "myapp:1.2.0"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}})
}

/// Asks as somebody else, as `kubectl --as` does.
pub(crate) async fn ask_as_user(
    admin: &Endpoint,
    user: &str,
    groups: &[&str],
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let mut headers = vec![("impersonate-user", user), ("content-type", "application/json")];
    headers.extend(groups.iter().map(|group| ("impersonate-group", *group)));
    let body = body.map(Value::to_string).unwrap_or_default();
    admin.ask_with(method, path, &headers, body).await.unwrap()
}
