//! Who changes an object after whom, and who is called once more because of it.

use std::sync::Arc;

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use super::{Server, all};
use crate::{answers::pod, webhooks::Hook};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const CHANGERS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// Looks at facts that share a webhook server, too.
macro_rules! facts {
    ($server:expr, $hook:expr; $($fact:ident),+ $(,)?) => {
        all(vec![$((stringify!($fact), tokio::spawn($fact($server.clone(), Arc::clone(&$hook))))),+]).await
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn who_saw_an_object_before_it_changed_may_see_it_again() {
    let (_cluster, server) = Server::start().await;
    let hook = Arc::new(Hook::start().await);
    facts!(server, hook;
        a_webhook_is_called_again_after_another_changed_the_object,
        a_webhook_is_not_called_again_where_nothing_changed_after_it,
        what_is_changed_by_a_second_call_is_seen_once_more_by_those_after_it,
        what_the_cluster_fills_in_is_seen_by_a_second_call,
        a_webhook_that_was_not_meant_at_first_is_not_called_later,
        webhooks_of_a_configuration_keep_their_order,
        a_policy_is_called_again_after_a_webhook,
        policies_are_called_again_after_each_other,
    );
}

/// A webhook for what is created in one namespace.
fn webhook(hook: &Hook, namespace: &str, path: &str, again: &str, resource: &str) -> Value {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]});
    json!({
        "name": format!("w{}.example.com", path.replace('/', "-")), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", hook.port), "caBundle": hook.authority},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "reinvocationPolicy": again, "rules": [rule],
    })
}

async fn configure(server: &Server, name: &str, webhooks: &[Value]) {
    server.post(CHANGERS, &json!({"metadata": {"name": name}, "webhooks": webhooks})).await;
}

/// Configurations of one webhook each, made against the order of their names; answers where ConfigMaps are.
async fn chain(server: &Server, hook: &Hook, namespace: &str, webhooks: &[(&str, &str)]) -> String {
    let maps = format!("{}/configmaps", server.namespace(namespace).await);
    for (at, (path, again)) in webhooks.iter().enumerate().rev() {
        let own = webhook(hook, namespace, path, again, "configmaps");
        configure(server, &format!("{namespace}-{at}"), &[own]).await;
    }
    maps
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": "mine"}}, "data": {"start": "yes"}})
}

/// Creates an object, once a dry run shows that all that is configured is in force.
async fn create(server: &Server, path: &str, body: &Value, shows: impl Fn(&Value) -> bool) -> Value {
    let mut trial = body.clone();
    trial["metadata"]["name"] = json!("trial");
    let sought = async {
        loop {
            let answer: Answer = server.ask("POST", &format!("{path}?dryRun=All"), &trial).await;
            if answer.status == 201 && shows(&answer.json()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), sought).await.expect("it is in force in time");
    server.post(path, body).await
}

/// Whether each of the letters is in what the webhooks left.
fn traced(object: &Value, letters: &str) -> bool {
    let trace = object["data"]["trace"].as_str().unwrap_or_default();
    letters.chars().all(|letter| trace.contains(letter))
}

async fn a_webhook_is_called_again_after_another_changed_the_object(server: Server, hook: Arc<Hook>) {
    let webhooks = [("/append/a", "IfNeeded"), ("/append/b", "Never")];
    let maps = chain(&server, &hook, "again", &webhooks).await;
    let made = create(&server, &maps, &map("again"), |made| traced(made, "ab")).await;
    assert_eq!(made["data"]["trace"], "aba");
    assert_eq!(hook.paths_asked_about("again"), ["/append/a", "/append/b", "/append/a"]);
    // The second call sees what the others made of the first one's answer, as a review of its own.
    let asked = hook.asked_about("again");
    assert_eq!(asked[2].1["request"]["object"]["data"]["trace"], "ab");
    assert_ne!(asked[0].1["request"]["uid"], asked[2].1["request"]["uid"]);
}

async fn a_webhook_is_not_called_again_where_nothing_changed_after_it(server: Server, hook: Arc<Hook>) {
    let webhooks = [("/once/a", "IfNeeded"), ("/once/start", "IfNeeded")];
    let maps = chain(&server, &hook, "unchanged", &webhooks).await;
    let made = create(&server, &maps, &map("unchanged"), |made| made["data"]["a"] == "yes").await;
    assert_eq!(made["data"], json!({"start": "yes", "a": "yes"}));
    assert_eq!(hook.paths_asked_about("unchanged"), ["/once/a", "/once/start"]);
}

async fn what_is_changed_by_a_second_call_is_seen_once_more_by_those_after_it(server: Server, hook: Arc<Hook>) {
    let webhooks = [("/append/a", "IfNeeded"), ("/append/b", "IfNeeded")];
    let maps = chain(&server, &hook, "both", &webhooks).await;
    let made = create(&server, &maps, &map("both"), |made| traced(made, "ab")).await;
    assert_eq!(made["data"]["trace"], "abab", "each is called twice at most");
}

async fn what_the_cluster_fills_in_is_seen_by_a_second_call(server: Server, hook: Arc<Hook>) {
    let pods = format!("{}/pods", server.namespace("filled").await);
    configure(&server, "filled", &[webhook(&hook, "filled", "/init-once", "IfNeeded", "pods")]).await;
    let made = create(&server, &pods, &pod("filled"), |made| made["spec"]["initContainers"].is_array()).await;
    let mounts = &made["spec"]["initContainers"][0]["volumeMounts"];
    assert_eq!(mounts[0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount", "{mounts}");
    let asked = hook.asked_about("filled");
    assert_eq!(asked.len(), 2, "the token was mounted after the first call");
    assert_eq!(&asked[1].1["request"]["object"]["spec"]["initContainers"][0]["volumeMounts"], mounts);
}

async fn a_webhook_that_was_not_meant_at_first_is_not_called_later(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("later").await);
    let mut early = webhook(&hook, "later", "/append/e", "IfNeeded", "configmaps");
    early["objectSelector"] = json!({"matchLabels": {"ready": "yes"}});
    configure(&server, "later-0", &[early]).await;
    configure(&server, "later-1", &[webhook(&hook, "later", "/mark/ready", "Never", "configmaps")]).await;
    let mut labelled = map("labelled");
    labelled["metadata"]["labels"]["ready"] = json!("yes");
    create(&server, &maps, &labelled, |made| traced(made, "e")).await;
    let made = create(&server, &maps, &map("later"), |made| made["metadata"]["labels"]["ready"] == "yes").await;
    assert_eq!(made["data"], json!({"start": "yes"}));
    assert_eq!(hook.paths_asked_about("later"), ["/mark/ready"]);
}

async fn webhooks_of_a_configuration_keep_their_order(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("kept").await);
    let letters = ["/append/c", "/append/a", "/append/b"];
    let webhooks: Vec<Value> = letters.iter().map(|path| webhook(&hook, "kept", path, "Never", "configmaps")).collect();
    configure(&server, "kept", &webhooks).await;
    let made = create(&server, &maps, &map("kept"), |made| traced(made, "abc")).await;
    assert_eq!(made["data"]["trace"], "cab", "within a configuration they are not sorted");
}

/// A policy that changes ConfigMaps of one namespace in a way, bound.
async fn policy(server: &Server, (name, namespace): (&str, &str), again: &str, mutation: Value) {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let spec = json!({
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": selector},
        "failurePolicy": "Fail", "reinvocationPolicy": again, "mutations": [mutation],
    });
    server.post(POLICIES, &json!({"metadata": {"name": name}, "spec": spec})).await;
    server.post(BINDINGS, &json!({"metadata": {"name": name}, "spec": {"policyName": name}})).await;
}

fn applied(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patched(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// Adds a letter to what is there.
fn appended(letter: &str) -> Value {
    let before = "(has(object.data.trace) ? object.data.trace : '')";
    applied(&format!("Object{{data: {{'trace': {before} + '{letter}'}}}}"))
}

async fn a_policy_is_called_again_after_a_webhook(server: Server, hook: Arc<Hook>) {
    let maps = chain(&server, &hook, "before", &[("/append/w", "Never")]).await;
    policy(&server, ("before-again", "before"), "IfNeeded", appended("p")).await;
    policy(&server, ("before-once", "before"), "Never", appended("q")).await;
    let made = create(&server, &maps, &map("before"), |made| traced(made, "pqw")).await;
    assert_eq!(made["data"]["trace"], "pqwp", "policies come before webhooks");
    assert_eq!(hook.paths_asked_about("before"), ["/append/w"]);
}

async fn policies_are_called_again_after_each_other(server: Server, _hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("among").await);
    policy(&server, ("among-1", "among"), "Never", appended("b")).await;
    policy(&server, ("among-0", "among"), "IfNeeded", appended("a")).await;
    let last = "[JSONPatch{op: 'test', path: '/data/trace', value: 'ab'}, JSONPatch{op: 'add', path: '/data/third', value: 'yes'}]";
    policy(&server, ("among-2", "among"), "Never", patched(last)).await;
    let shows = |made: &Value| traced(made, "ab") && made["data"]["third"] == "yes";
    let made = create(&server, &maps, &map("among"), shows).await;
    assert_eq!((&made["data"]["trace"], &made["data"]["third"]), (&json!("aba"), &json!("yes")));
}
