//! What users put between a request and the store: webhooks that judge, change and convert, and policies in expressions.

use std::sync::Arc;

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use super::{Server, all};
use crate::{
    answers::{done, pod, refused},
    webhooks::Hook,
};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const JUDGES: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const CHANGERS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Looks at facts that share a webhook server, too.
macro_rules! facts {
    ($server:expr, $hook:expr; $($fact:ident),+ $(,)?) => {
        all(vec![$((stringify!($fact), tokio::spawn($fact($server.clone(), Arc::clone(&$hook))))),+]).await
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_put_before_the_store_decides() {
    let (_cluster, server) = Server::start().await;
    let hook = Arc::new(Hook::start().await);
    facts!(server, hook;
        a_webhook_may_deny_to_attach,
        a_webhook_may_deny_definitions,
        a_webhook_may_deny_custom_objects,
        what_a_webhook_adds_is_pruned,
        webhooks_change_one_after_the_other,
        what_a_webhook_adds_gets_defaults,
        webhooks_do_not_judge_webhooks,
        a_webhook_is_in_force_as_it_is_changed,
        webhooks_are_deleted_together,
        a_condition_that_does_not_compile_is_refused,
        objects_are_converted_by_a_webhook,
        fields_that_only_a_webhook_knows_may_be_selected_by,
        a_policy_judges_by_expressions,
        a_policy_changes_by_expressions,
    );
}

/// A configuration of a webhook for objects of one namespace, of these resources.
fn configuration(hook: &Hook, name: &str, path: &str, operations: &[&str], resource: (&str, &str, &str)) -> Value {
    let (group, version, resources) = resource;
    let rule = json!({
        "operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resources],
    });
    json!({
        "metadata": {"name": name, "labels": {"set": name}},
        "webhooks": [{
            "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": [rule],
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", hook.port), "caBundle": hook.authority},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        }],
    })
}

/// Sends a request that keeps nothing again and again, until its answer shows that a configuration is in force.
async fn until_in_force(server: &Server, path: &str, body: &Value, shows: impl Fn(&Answer) -> bool) -> Answer {
    let path = format!("{path}?dryRun=All");
    let sought = async {
        loop {
            let answer = server.ask("POST", &path, body).await;
            if shows(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), sought).await.expect("it is in force in time")
}

fn denies(answer: &Answer) -> bool {
    answer.status == 403 && answer.text().contains("denied the request: never")
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"start": "yes"}})
}

async fn a_webhook_may_deny_to_attach(server: Server, hook: Arc<Hook>) {
    let pods = format!("{}/pods", server.namespace("attach").await);
    server.post(&pods, &pod("one")).await;
    server.post(JUDGES, &configuration(&hook, "attach", "/refuse", &["CONNECT"], ("", "v1", "pods/attach"))).await;
    let attach = format!("{pods}/one/attach?stdin=true&container=one");
    server.until_answered(&attach, |answer| answer.text().contains("denied the request: never")).await;
}

async fn a_webhook_may_deny_definitions(server: Server, hook: Arc<Hook>) {
    let resource = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let mut judge = configuration(&hook, "definitions", "/refuse", &["CREATE"], resource);
    judge["webhooks"][0]["namespaceSelector"] = Value::Null;
    judge["webhooks"][0]["objectSelector"] = json!({"matchLabels": {"denied": "yes"}});
    server.post(JUDGES, &judge).await;
    let mut denied = definition("denied.example.com", json!({}));
    denied["metadata"]["labels"] = json!({"denied": "yes"});
    until_in_force(&server, DEFINITIONS, &denied, denies).await;
    server.post(DEFINITIONS, &definition("allowed.example.com", json!({}))).await;
}

/// A definition of the kind Foo in a group, of objects with these fields.
fn definition(group: &str, properties: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    json!({
        "metadata": {"name": format!("foos.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "foos", "singular": "foo", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// Defines a kind, and answers the path of its objects in a namespace of the name.
async fn define(server: &Server, name: &str, properties: Value) -> (String, Value) {
    let group = format!("{name}.example.com");
    server.namespace(name).await;
    server.post(DEFINITIONS, &definition(&group, properties)).await;
    let established = |found: &Value| {
        let conditions = found["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Established" && one["status"] == "True"))
    };
    server.until(&format!("{DEFINITIONS}/foos.{group}"), established).await;
    let object = json!({"apiVersion": format!("{group}/v1"), "kind": "Foo", "metadata": {"name": "one"}});
    (format!("/apis/{group}/v1/namespaces/{name}/foos"), object)
}

async fn a_webhook_may_deny_custom_objects(server: Server, hook: Arc<Hook>) {
    let (foos, object) =
        define(&server, "custom", json!({"data": {"type": "object", "additionalProperties": {"type": "string"}}}))
            .await;
    server.post(&foos, &object).await;
    let resource = ("custom.example.com", "v1", "foos");
    server.post(JUDGES, &configuration(&hook, "custom", "/refuse", &["CREATE", "UPDATE", "DELETE"], resource)).await;
    let mut second = object.clone();
    second["metadata"]["name"] = json!("second");
    until_in_force(&server, &foos, &second, denies).await;
    let one = format!("{foos}/one");
    let patch = json!({"data": {"a": "b"}}).to_string();
    let patched = server.admin.ask_as("PATCH", &one, "application/merge-patch+json", patch).await.unwrap();
    assert!(denies(&patched), "{}", patched.text());
    let deleted = server.ask("DELETE", &one, &Value::Null).await;
    assert!(denies(&deleted), "{}", deleted.text());
}

async fn what_a_webhook_adds_is_pruned(server: Server, hook: Arc<Hook>) {
    let text = json!({"type": "string"});
    let data = json!({"type": "object", "properties": {"start": text, "first": text}});
    let (foos, mut object) = define(&server, "pruned", json!({"data": data})).await;
    object["data"] = json!({"start": "yes"});
    let resource = ("pruned.example.com", "v1", "foos");
    let mut changers = configuration(&hook, "pruned", "/first", &["CREATE"], resource);
    let mut second = configuration(&hook, "pruned", "/second", &["CREATE"], resource)["webhooks"][0].take();
    second["name"] = json!("pruned-too.example.com");
    changers["webhooks"].as_array_mut().unwrap().push(second);
    server.post(CHANGERS, &changers).await;
    let changed = until_in_force(&server, &foos, &object, |answer| answer.json()["data"]["first"] == "yes").await;
    assert_eq!(done(&changed)["data"], json!({"start": "yes", "first": "yes"}), "the schema knows no second");
}

async fn webhooks_change_one_after_the_other(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("ordered").await);
    for (name, path) in [("ordered", "/first"), ("ordered-too", "/second")] {
        let mut changer = configuration(&hook, "ordered", path, &["CREATE"], ("", "v1", "configmaps"));
        changer["metadata"]["name"] = json!(name);
        server.post(CHANGERS, &changer).await;
    }
    let changed = until_in_force(&server, &maps, &map("x"), |answer| answer.json()["data"]["second"] == "yes").await;
    assert_eq!(done(&changed)["data"], json!({"start": "yes", "first": "yes", "second": "yes"}));
}

async fn what_a_webhook_adds_gets_defaults(server: Server, hook: Arc<Hook>) {
    let pods = format!("{}/pods", server.namespace("defaults").await);
    server.post(CHANGERS, &configuration(&hook, "defaults", "/init", &["CREATE"], ("", "v1", "pods"))).await;
    let added = |answer: &Answer| answer.json()["spec"]["initContainers"].is_array();
    let changed = done(&until_in_force(&server, &pods, &pod("one"), added).await);
    let container = &changed["spec"]["initContainers"][0];
    assert_eq!((&container["name"], &container["terminationMessagePolicy"]), (&json!("added"), &json!("File")));
}

async fn webhooks_do_not_judge_webhooks(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("immune").await);
    let resource = ("admissionregistration.k8s.io", "*", "*");
    for (collection, path) in [(JUDGES, "/refuse"), (CHANGERS, "/label")] {
        let mut configuration = configuration(&hook, "immune", path, &["*"], resource);
        configuration["webhooks"][0]["namespaceSelector"] = Value::Null;
        let of_maps =
            json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
        configuration["webhooks"][0]["rules"].as_array_mut().unwrap().push(of_maps);
        configuration["webhooks"][0]["matchConditions"] =
            json!([{"name": "own", "expression": "request.namespace in ['', 'immune']"}]);
        server.post(collection, &configuration).await;
    }
    let mut labelled = map("x");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    until_in_force(&server, &maps, &labelled, denies).await;
    for collection in [JUDGES, CHANGERS] {
        let victim = json!({"metadata": {"name": "victim", "labels": {"a": "b"}}, "webhooks": []});
        let made = server.post(collection, &victim).await;
        assert_eq!(made["metadata"]["labels"], json!({"a": "b"}), "it was changed by a webhook");
        server.delete(&format!("{collection}/victim")).await;
    }
    // So that nothing stands in the way of the others.
    for collection in [JUDGES, CHANGERS] {
        server.delete(&format!("{collection}/immune")).await;
    }
}

async fn a_webhook_is_in_force_as_it_is_changed(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("changed").await);
    for (collection, path, shows) in [
        (JUDGES, "/refuse", Box::new(denies) as Box<dyn Fn(&Answer) -> bool + Send + Sync>),
        (CHANGERS, "/first", Box::new(|answer: &Answer| answer.json()["data"]["first"] == "yes")),
    ] {
        let own = format!("{collection}/changed");
        server.post(collection, &configuration(&hook, "changed", path, &["CREATE"], ("", "v1", "configmaps"))).await;
        until_in_force(&server, &maps, &map("x"), &shows).await;
        server.change(&own, |found| found["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"])).await;
        until_in_force(&server, &maps, &map("x"), |answer| answer.status == 201 && !shows(answer)).await;
        let operations = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
        let media = "application/json-patch+json";
        done(&server.admin.ask_as("PATCH", &own, media, operations.to_string()).await.unwrap());
        until_in_force(&server, &maps, &map("x"), &shows).await;
        server.delete(&own).await;
        until_in_force(&server, &maps, &map("x"), |answer| answer.status == 201 && !shows(answer)).await;
    }
}

async fn webhooks_are_deleted_together(server: Server, hook: Arc<Hook>) {
    let maps = format!("{}/configmaps", server.namespace("together").await);
    for index in 0..5 {
        let mut judge = configuration(&hook, "together", "/refuse", &["CREATE"], ("", "v1", "configmaps"));
        judge["metadata"]["name"] = json!(format!("together-{index}"));
        server.post(JUDGES, &judge).await;
    }
    until_in_force(&server, &maps, &map("x"), denies).await;
    let selected = format!("{JUDGES}?labelSelector=set%3Dtogether");
    assert_eq!(server.get(&selected).await["items"].as_array().unwrap().len(), 5);
    server.delete(&selected).await;
    until_in_force(&server, &maps, &map("x"), |answer| answer.status == 201).await;
}

async fn a_condition_that_does_not_compile_is_refused(server: Server, hook: Arc<Hook>) {
    for collection in [JUDGES, CHANGERS] {
        let mut broken = configuration(&hook, "broken", "/refuse", &["CREATE"], ("", "v1", "configmaps"));
        broken["webhooks"][0]["matchConditions"] = json!([{"name": "broken", "expression": "... [] bad expression"}]);
        let message = refused(&server.ask("POST", collection, &broken).await, 422, "Invalid");
        assert!(message.contains("compilation failed"), "{message}");
    }
}

/// Defines a kind whose second version splits a field of the first in two, which only a webhook knows.
async fn define_converted(server: &Server, hook: &Hook, name: &str) -> impl Fn(&str) -> String {
    server.namespace(name).await;
    let (group, name) = (format!("{name}.example.com"), name.to_owned());
    let text = json!({"type": "string"});
    let schema = |properties: Value| json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    let mut two = definition(&group, json!({"hostPort": text}));
    two["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
    let second = json!({
        "name": "v2", "served": true, "storage": false, "schema": schema(json!({"host": text, "port": text})),
        "selectableFields": [{"jsonPath": ".host"}, {"jsonPath": ".port"}],
    });
    two["spec"]["versions"].as_array_mut().unwrap().push(second);
    let client = json!({"url": format!("https://127.0.0.1:{}/convert", hook.port), "caBundle": hook.authority});
    two["spec"]["conversion"] =
        json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}});
    server.post(DEFINITIONS, &two).await;
    let foos = move |version: &str| format!("/apis/{group}/{version}/namespaces/{name}/foos");
    server.until_answered(&foos("v2"), |answer| answer.status == 200).await;
    foos
}

/// What a collection holds, by name.
async fn names(server: &Server, path: &str) -> Vec<String> {
    let list = server.get(path).await;
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn objects_are_converted_by_a_webhook(server: Server, hook: Arc<Hook>) {
    let foos = define_converted(&server, &hook, "converted").await;
    let old = json!({"apiVersion": "converted.example.com/v1", "kind": "Foo", "metadata": {"name": "one"}, "hostPort": "localhost:8080"});
    server.post(&foos("v1"), &old).await;
    let read = server.get(&format!("{}/one", foos("v2"))).await;
    assert_eq!(
        (&read["apiVersion"], &read["host"], &read["port"]),
        (&json!("converted.example.com/v2"), &json!("localhost"), &json!("8080"))
    );
    // Another is stored in the newer version, and a list shows both in one.
    let path = format!("{DEFINITIONS}/foos.converted.example.com");
    server
        .change(&path, |found| {
            found["spec"]["versions"][0]["storage"] = json!(false);
            found["spec"]["versions"][1]["storage"] = json!(true);
        })
        .await;
    let new = json!({"apiVersion": "converted.example.com/v2", "kind": "Foo", "metadata": {"name": "two"}, "host": "other", "port": "1"});
    server.post(&foos("v2"), &new).await;
    let both = server.get(&foos("v2")).await;
    let hosts: Vec<&Value> = both["items"].as_array().unwrap().iter().map(|item| &item["host"]).collect();
    assert_eq!(hosts, [&json!("localhost"), &json!("other")]);
    let both = server.get(&foos("v1")).await;
    let joined: Vec<&Value> = both["items"].as_array().unwrap().iter().map(|item| &item["hostPort"]).collect();
    assert_eq!(joined, [&json!("localhost:8080"), &json!("other:1")]);
}

async fn fields_that_only_a_webhook_knows_may_be_selected_by(server: Server, hook: Arc<Hook>) {
    let foos = define_converted(&server, &hook, "splitting").await;
    let (by_host, by_both) = ("fieldSelector=host%3Dhost1", "fieldSelector=host%3Dhost1%2Cport%3D80");
    let mut of_host = server.watch(&format!("{}?watch=1&{by_host}", foos("v2"))).await;
    let mut of_both = server.watch(&format!("{}?watch=1&{by_both}", foos("v2"))).await;
    let mut joined = server.watch(&format!("{}?watch=1&fieldSelector=hostPort%3Dhost1%3A80", foos("v1"))).await;
    for (name, host, port) in [("one", "host1", "80"), ("two", "host1", "8080"), ("three", "host2", "80")] {
        let object = json!({"apiVersion": "splitting.example.com/v2", "kind": "Foo", "metadata": {"name": name}, "host": host, "port": port});
        server.post(&foos("v2"), &object).await;
    }
    assert_eq!(names(&server, &format!("{}?{by_host}", foos("v2"))).await, ["one", "two"]);
    assert_eq!(names(&server, &format!("{}?{by_host}&limit=1", foos("v2"))).await, ["one"]);
    assert_eq!(names(&server, &format!("{}?{by_both}", foos("v2"))).await, ["one"]);
    assert_eq!(names(&server, &format!("{}?fieldSelector=host!%3Dhost1", foos("v2"))).await, ["three"]);
    assert_eq!(names(&server, &format!("{}?fieldSelector=hostPort%3Dhost1%3A8080", foos("v1"))).await, ["two"]);

    server.delete(&format!("{}?{by_both}", foos("v2"))).await;
    server.merge(&format!("{}/two", foos("v2")), &json!({"host": "host2"})).await;
    assert_eq!(names(&server, &foos("v2")).await, ["three", "two"]);
    let mut told = Vec::new();
    for (events, count) in [(&mut of_host, 4), (&mut of_both, 2), (&mut joined, 2)] {
        for _ in 0..count {
            let (kind, object) = events.next().await;
            told.push(format!("{kind} {}", object["metadata"]["name"].as_str().unwrap()));
        }
    }
    assert_eq!(told[..4], ["ADDED one", "ADDED two", "DELETED one", "DELETED two"]);
    assert_eq!(told[4..], ["ADDED one", "DELETED one", "ADDED one", "DELETED one"]);
}

fn deployment(name: &str, replicas: u32) -> Value {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "myapp:1.2.0"}]}});
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}})
}

fn of_deployments(namespace: &str) -> Value {
    let rule =
        json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]});
    json!({"resourceRules": [rule], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}})
}

async fn a_policy_judges_by_expressions(server: Server, _hook: Arc<Hook>) {
    server.namespace("judged").await;
    let policy = json!({"metadata": {"name": "judged"}, "spec": {
        "matchConstraints": of_deployments("judged"),
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "odd", "expression": "variables.replicas % 2 == 1"}],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants replicas > 1, has ' + string(variables.replicas)"},
            {"expression": "variables.odd", "reason": "Invalid"},
        ],
    }});
    server.post(&format!("{BASE}/validatingadmissionpolicies"), &policy).await;
    let binding =
        json!({"metadata": {"name": "judged"}, "spec": {"policyName": "judged", "validationActions": ["Deny"]}});
    server.post(&format!("{BASE}/validatingadmissionpolicybindings"), &binding).await;
    let deployments = "/apis/apps/v1/namespaces/judged/deployments";
    let refusal = until_in_force(&server, deployments, &deployment("one", 1), |answer| answer.status == 422).await;
    let start = "deployments.apps \"one\" is forbidden: ValidatingAdmissionPolicy 'judged' with binding 'judged' denied request: ";
    assert_eq!(refused(&refusal, 422, "Invalid"), format!("{start}wants replicas > 1, has 1"));
    let even = refused(&server.ask("POST", deployments, &deployment("two", 2)).await, 422, "Invalid");
    assert!(even.ends_with("failed expression: variables.odd"), "{even}");
    server.post(deployments, &deployment("three", 3)).await;

    // What the types of the policy do not allow is told in its status.
    let odd = json!({"metadata": {"name": "typed"}, "spec": {
        "matchConstraints": of_deployments("judged"), "validations": [{"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.nothing == 1"}],
    }});
    server.post(&format!("{BASE}/validatingadmissionpolicies"), &odd).await;
    let path = format!("{BASE}/validatingadmissionpolicies/typed");
    let told = server.until(&path, |found| found["status"]["typeChecking"]["expressionWarnings"].is_array()).await;
    let warnings = told["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap().clone();
    assert!(warnings[0]["warning"].as_str().unwrap().contains("found no matching overload for '_>_'"), "{warnings:?}");
    assert!(warnings[1]["warning"].as_str().unwrap().contains("undefined field 'nothing'"), "{warnings:?}");
}

async fn a_policy_changes_by_expressions(server: Server, _hook: Arc<Hook>) {
    server.namespace("mutated").await;
    let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'policy': 'yes'}}}"}});
    let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 2}]"}});
    let policy = json!({"metadata": {"name": "mutated"}, "spec": {
        "matchConstraints": of_deployments("mutated"), "failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [apply, patch],
    }});
    server.post(&format!("{BASE}/mutatingadmissionpolicies"), &policy).await;
    let binding = json!({"metadata": {"name": "mutated"}, "spec": {"policyName": "mutated"}});
    server.post(&format!("{BASE}/mutatingadmissionpolicybindings"), &binding).await;
    let deployments = "/apis/apps/v1/namespaces/mutated/deployments";
    let shows = |answer: &Answer| answer.json()["metadata"]["labels"]["policy"] == "yes";
    let changed = done(&until_in_force(&server, deployments, &deployment("one", 1), shows).await);
    assert_eq!(changed["spec"]["replicas"], 3);
}
