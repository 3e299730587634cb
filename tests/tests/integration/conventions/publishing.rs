//! Kinds that users define: how soon they are told of, and what their rules may cost.

use serde_json::{Value, json};

use super::{DEFINITIONS, define, failure, thing, told};
use crate::{
    answers::done,
    conformance::{Server, facts},
};

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_users_are_served_in_time_and_within_their_cost() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_rule_that_costs_too_much_when_it_runs_ends_there,
    );
    // Alone, since others would keep it waiting.
    facts!(server;
        a_kind_is_published_at_once,
    );
}

/// Whether discovery in both forms, both versions of OpenAPI and the collection tell of the kind.
async fn is_published(server: &Server, group: &str) -> bool {
    let get = |path: String, accept: &'static str| {
        let admin = server.admin.clone();
        async move { admin.ask_with("GET", &path, &[("accept", accept)], "").await.unwrap() }
    };
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answers = [
        get("/apis".into(), "application/json").await,
        get("/apis".into(), aggregated).await,
        get(format!("/apis/{group}/v1"), "application/json").await,
        get(format!("/openapi/v3/apis/{group}/v1"), "application/json").await,
        get(format!("/apis/{group}/v1/things"), "application/json").await,
    ];
    answers.iter().all(|answer| answer.status == 200 && answer.text().contains(group))
}

async fn a_kind_is_published_at_once(server: Server) {
    /// Looks that follow each other. A machine that does nothing else has done them within a second; where much else is done,
    /// they take as much longer as the publishing does.
    const LOOKS: usize = 100;
    let group = "soon.example.com";
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing"});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let definition = json!({"metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}});
    assert!(!is_published(&server, group).await);
    server.post(DEFINITIONS, &definition).await;
    for _ in 0..LOOKS {
        if is_published(&server, group).await {
            return;
        }
    }
    panic!("it is not published after {LOOKS} looks");
}

async fn a_rule_that_costs_too_much_when_it_runs_ends_there(server: Server) {
    // What it may cost at most is little enough to be defined, and more than it may cost when it runs.
    let rule = json!({"rule": "self.all(x, self.all(y, x + y >= 0))", "message": "none may be negative"});
    let list =
        json!({"type": "array", "maxItems": 700, "items": {"type": "integer"}, "x-kubernetes-validations": [rule]});
    let properties = json!({"spec": {"type": "object", "properties": {"list": list}}});
    let group = "costs.example.com";
    let all = define(&server, group, &json!({"type": "object", "properties": properties})).await;
    let of =
        |name: &str, value: i32, count: usize| -> Value { thing(group, name, json!({"list": vec![value; count]})) };
    server.post(&all, &of("small", 1, 100)).await;
    let refusal = server.ask("POST", &all, &of("wrong", -1, 100)).await;
    let why = "Thing.costs.example.com \"wrong\" is invalid: spec.list: Invalid value: none may be negative";
    assert_eq!(failure(&refusal), told(422, why));
    let refusal = server.ask("POST", &all, &of("large", 1, 700)).await;
    let why = "Thing.costs.example.com \"large\" is invalid: spec.list: Invalid value: \"array\": 'operation cancelled: actual \
               cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: none \
               may be negative";
    assert_eq!(failure(&refusal), told(422, why));
    // It ends at its limit, not at its end: one that could cost more is not even defined.
    let mut costly = server.get(&format!("{DEFINITIONS}/things.{group}")).await;
    let schema = &mut costly["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["list"]["maxItems"] = json!(100_000);
    let refusal = server.ask("PUT", &format!("{DEFINITIONS}/things.{group}"), &costly).await;
    let (code, message) = failure(&refusal);
    assert!(code == 422 && message.contains("estimated rule cost exceeds budget by factor of"), "{code} {message}");
    done(&server.ask("POST", &all, &of("last", 1, 10)).await);
}
