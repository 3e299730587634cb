//! Nobody is asked about what could not be done anyway: who changes a request comes first, then it is validated, and only
//! then it is judged; of what is stored, of what is created below an object, and of questions.

use std::sync::Arc;

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use super::{Server, all};
use crate::{
    answers::{done, pod, refused},
    webhooks::Hook,
};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const ACCESS: &str = "/apis/authorization.k8s.io/v1";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Looks at facts that share a webhook server, too.
macro_rules! facts {
    ($server:expr, $hook:expr; $($fact:ident),+ $(,)?) => {
        all(vec![$((stringify!($fact), tokio::spawn($fact($server.clone(), Arc::clone(&$hook))))),+]).await
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_judged_was_changed_and_validated_before() {
    let (_cluster, server) = Server::start().await;
    let hook = Arc::new(Hook::start().await);
    facts!(server, hook;
        a_question_that_can_not_be_answered_is_not_judged,
        what_is_created_below_an_object_is_not_judged_where_it_is_invalid,
        what_is_stored_is_not_judged_where_it_is_invalid,
        a_webhook_may_mend_what_would_be_refused,
    );
}

/// A webhook for all that the administrator creates of these resources, in one namespace or in none.
async fn configure(server: &Server, kind: &str, hook: &Hook, (name, path): (&str, &str), resources: &[&str]) {
    let rule = json!({"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources});
    let webhook = json!({
        "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": [rule],
        "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", hook.port), "caBundle": hook.authority},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "matchConditions": [{"name": "by-admin", "expression": "request.userInfo.username == 'admin'"}],
    });
    let configuration = json!({"metadata": {"name": name}, "webhooks": [webhook]});
    server.post(&format!("{BASE}/{}s", kind.to_lowercase()), &configuration).await;
}

/// A webhook that refuses.
async fn judge(server: &Server, hook: &Hook, name: &str, resources: &[&str]) {
    configure(server, "ValidatingWebhookConfiguration", hook, (name, "/refuse"), resources).await;
}

/// Asks until the webhook refuses.
async fn until_judged(server: &Server, path: &str, body: &Value) {
    let sought = async {
        loop {
            let answer: Answer = server.ask("POST", &format!("{path}?dryRun=All"), body).await;
            if answer.text().contains("denied the request: never") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), sought).await.expect("it is in force in time");
}

async fn a_question_that_can_not_be_answered_is_not_judged(server: Server, hook: Arc<Hook>) {
    let kinds = ["tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    judge(&server, &hook, "questions", &kinds).await;
    let path = json!({"path": "/version", "verb": "get"});
    for (path, valid, invalid, (code, reason)) in [
        (TOKENS.to_owned(), json!({"token": "x"}), json!({}), (400, "BadRequest")),
        (
            format!("{ACCESS}/subjectaccessreviews"),
            json!({"user": "u", "nonResourceAttributes": path}),
            json!({"nonResourceAttributes": path}),
            (422, "Invalid"),
        ),
        (
            format!("{ACCESS}/selfsubjectaccessreviews"),
            json!({"nonResourceAttributes": path}),
            json!({}),
            (422, "Invalid"),
        ),
        (format!("{ACCESS}/selfsubjectrulesreviews"), json!({"namespace": "default"}), json!({}), (400, "BadRequest")),
    ] {
        until_judged(&server, &path, &json!({"spec": valid})).await;
        refused(&server.ask("POST", &path, &json!({"spec": invalid})).await, code, reason);
    }
}

async fn what_is_created_below_an_object_is_not_judged_where_it_is_invalid(server: Server, hook: Arc<Hook>) {
    let namespace = server.namespace("below").await;
    server.post(&format!("{namespace}/pods"), &pod("one")).await;
    judge(&server, &hook, "below", &["pods/binding", "bindings", "pods/eviction", "serviceaccounts/token"]).await;
    let named = |name: &str| json!({"metadata": {"name": name}});
    let bound = |name: &str, node: &str| json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    let lives = |seconds: u32| json!({"spec": {"expirationSeconds": seconds}});
    let ignoring = "ignoreStoreReadErrorWithClusterBreakingPotential";
    for (path, valid, invalid) in [
        (
            "pods/one/binding",
            bound("one", "n1"),
            vec![(bound("two", "n1"), 400, "BadRequest"), (bound("one", ""), 500, "")],
        ),
        ("bindings", bound("one", "n1"), vec![(bound("one", ""), 500, "")]),
        (
            "pods/one/eviction",
            named("one"),
            vec![
                (named("two"), 400, "BadRequest"),
                (json!({"metadata": {"name": "one"}, "deleteOptions": {ignoring: true}}), 422, "Invalid"),
            ],
        ),
        (
            "serviceaccounts/default/token",
            lives(600),
            vec![(lives(5), 422, "Invalid"), (named("other"), 422, "Invalid")],
        ),
    ] {
        let path = format!("{namespace}/{path}");
        until_judged(&server, &path, &valid).await;
        for (body, code, reason) in invalid {
            let answer = server.ask("POST", &path, &body).await;
            let told = answer.json();
            let found = (answer.status, told["reason"].as_str().unwrap_or_default());
            assert_eq!(found, (code, reason), "{path} {body}: {told}");
        }
    }
}

async fn what_is_stored_is_not_judged_where_it_is_invalid(server: Server, hook: Arc<Hook>) {
    let namespace = server.namespace("stored").await;
    judge(&server, &hook, "stored", &["services"]).await;
    let services = format!("{namespace}/services");
    let with = |ports: Value| json!({"metadata": {"name": "one"}, "spec": {"ports": ports}});
    until_judged(&server, &services, &with(json!([{"port": 80}]))).await;
    refused(&server.ask("POST", &services, &with(json!([{"port": 70000}]))).await, 422, "Invalid");
}

async fn a_webhook_may_mend_what_would_be_refused(server: Server, hook: Arc<Hook>) {
    let namespace = server.namespace("mended").await;
    let resources = ["serviceaccounts/token"];
    configure(&server, "MutatingWebhookConfiguration", &hook, ("mended", "/longer"), &resources).await;
    let path = format!("{namespace}/serviceaccounts/default/token");
    let short = json!({"spec": {"expirationSeconds": 5}});
    let sought = async {
        loop {
            let answer = server.ask("POST", &path, &short).await;
            if answer.status == 201 {
                return done(&answer);
            }
            tokio::task::yield_now().await;
        }
    };
    let made = tokio::time::timeout(std::time::Duration::from_secs(30), sought).await.expect("it is in force in time");
    assert_eq!(made["spec"]["expirationSeconds"], 700);
}
