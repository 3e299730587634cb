//! What webhooks and policies did to a request is in its audit record.

use std::{collections::BTreeMap, time::Duration};

use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint},
};
use serde_json::{Value, json};

use crate::{
    answers::{done, refused},
    audit::tail,
    webhooks::Hook,
};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Within this a configuration is in force.
const PATIENCE: Duration = Duration::from_secs(30);

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"hook": "recorded"}}, "data": {"key": "value"}})
}

/// A configuration of webhooks, by path and by what else is said of each.
async fn configure(admin: &Endpoint, hook: &Hook, kind: &str, name: &str, webhooks: &[(&str, Value)]) {
    let mut configuration = hook.configuration(kind, name, "/", json!({}));
    let own = webhooks.iter().enumerate().map(|(at, (path, extra))| {
        let mut webhook = hook.configuration(kind, name, path, extra.clone())["webhooks"][0].take();
        webhook["name"] = json!(format!("{name}-{at}.example.com"));
        webhook["objectSelector"] = json!({"matchLabels": {"hook": "recorded"}});
        webhook
    });
    configuration["webhooks"] = own.collect();
    let plural = format!("{}s", kind.to_lowercase());
    done(&admin.ask("POST", &format!("{BASE}/{plural}"), configuration.to_string()).await.unwrap());
}

/// A policy for labelled ConfigMaps, with bindings of these actions.
async fn police(admin: &Endpoint, name: &str, spec: &Value, bindings: &[(&str, &[&str])]) {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let constraints = json!({"resourceRules": [rule], "objectSelector": {"matchLabels": {"hook": "recorded"}}});
    let mut policy = json!({"metadata": {"name": name}, "spec": spec});
    policy["spec"]["matchConstraints"] = constraints;
    done(&admin.ask("POST", &format!("{BASE}/validatingadmissionpolicies"), policy.to_string()).await.unwrap());
    for (binding, actions) in bindings {
        let spec = json!({"policyName": name, "validationActions": actions});
        let binding = json!({"metadata": {"name": binding}, "spec": spec}).to_string();
        done(&admin.ask("POST", &format!("{BASE}/validatingadmissionpolicybindings"), binding).await.unwrap());
    }
}

/// Tries creates that keep nothing until their answer shows that what is configured is in force.
async fn until(admin: &Endpoint, shows: impl Fn(&Answer) -> bool) {
    let sought = async {
        let trial = format!("{MAPS}?dryRun=All");
        while !shows(&admin.ask("POST", &trial, map("trial").to_string()).await.unwrap()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sought).await.expect("it is in force in time");
}

/// What the record of the create of this name says besides of admission.
async fn recorded(cluster: &mut Cluster, name: &str) -> BTreeMap<String, String> {
    let of_others = |key: &str| key.starts_with("authorization.k8s.io/") || key.starts_with("martello");
    annotations_of(cluster, name).await.into_iter().filter(|(key, _)| !of_others(key)).collect()
}

/// All that the record of the create of this name says besides.
async fn annotations_of(cluster: &mut Cluster, name: &str) -> BTreeMap<String, String> {
    // The record of a change is written before the change is made, and with it all that came before.
    let admin = cluster.admin().await.unwrap();
    let later = json!({"metadata": {"name": format!("after-{name}")}}).to_string();
    done(&admin.ask("POST", MAPS, later).await.unwrap());
    let trail = tail(cluster, "2000");
    let mut events = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let event = events.rfind(|event| event["objectRef"]["name"] == name && event["verb"] == "create").unwrap();
    serde_json::from_value(event["annotations"].clone()).unwrap()
}

fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn what_webhooks_did_is_recorded() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    let ignored = json!({"failurePolicy": "Ignore"});
    let judges = [("/annotate", json!({})), ("/fails", ignored.clone())];
    configure(&admin, &hook, "ValidatingWebhookConfiguration", "judge", &judges).await;
    let changers = [
        ("/annotate", json!({"reinvocationPolicy": "IfNeeded"})),
        ("/fails", ignored),
        ("/annotated-label", json!({})),
    ];
    configure(&admin, &hook, "MutatingWebhookConfiguration", "change", &changers).await;
    until(&admin, |answer| answer.json()["metadata"]["labels"]["seen"] == "yes").await;
    done(&admin.ask("POST", MAPS, map("recorded").to_string()).await.unwrap());
    let round = "mutation.webhook.admission.k8s.io/round";
    let told = |at: &str, mutated: bool| {
        format!(r#"{{"configuration":"change","webhook":"change-{at}.example.com","mutated":{mutated}}}"#)
    };
    assert_eq!(
        recorded(&mut cluster, "recorded").await,
        expected(&[
            (&format!("{round}_0_index_0"), &told("0", false)),
            (&format!("{round}_0_index_1"), &told("1", false)),
            (&format!("{round}_0_index_2"), &told("2", true)),
            (&format!("{round}_1_index_0"), &told("0", false)),
            (&format!("failed-open.{round}_0_index_1"), "change-1.example.com"),
            ("failed-open.validating.webhook.admission.k8s.io/round_0_index_1", "judge-1.example.com"),
            ("change-0.example.com/why", "because"),
            ("change-0.example.com/seen", "yes"),
            ("change-2.example.com/why", "it was missing"),
            ("judge-0.example.com/why", "because"),
            ("judge-0.example.com/seen", "yes"),
        ]),
        "a patch is a part of the body, and no body is recorded"
    );
}

#[tokio::test]
async fn nobody_forges_what_was_decided() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    // A webhook and a policy whose annotations would be those of the authorizer.
    let mut forger = hook.configuration("ValidatingWebhookConfiguration", "forger", "/forge", json!({}));
    forger["webhooks"][0]["name"] = json!("authorization.k8s.io");
    forger["webhooks"][0]["objectSelector"] = json!({"matchLabels": {"hook": "recorded"}});
    let path = format!("{BASE}/validatingwebhookconfigurations");
    done(&admin.ask("POST", &path, forger.to_string()).await.unwrap());
    let annotations = json!([
        {"key": "decision", "valueExpression": "'forbid'"},
        {"key": "told", "valueExpression": "'by the policy'"},
    ]);
    let spec =
        json!({"auditAnnotations": annotations, "validations": [{"expression": "object.metadata.name != 'trial'"}]});
    police(&admin, "authorization.k8s.io", &spec, &[("forger", &["Deny"])]).await;
    until(&admin, |answer| answer.status == 422).await;
    done(&admin.ask("POST", MAPS, map("decided").to_string()).await.unwrap());
    let all = annotations_of(&mut cluster, "decided").await;
    assert_eq!(all["authorization.k8s.io/decision"], "allow");
    assert_ne!(all["authorization.k8s.io/reason"], "none");
    assert_eq!(all["authorization.k8s.io/told"], "by the policy");
    assert!(!all.keys().any(|key| key.contains(' ') || key.matches('/').count() > 1), "{all:?}");
    assert!(hook.paths_asked_about("decided").contains(&"/forge".to_owned()));
}

#[tokio::test]
async fn what_policies_found_is_recorded() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let spec = json!({
        "variables": [{"name": "size", "expression": "string(object.data.size())"}],
        "validations": [
            {"expression": "true"},
            {"expression": "object.metadata.name != 'odd'", "messageExpression": "'a name like \"' + object.metadata.name + '\"'"},
        ],
        "auditAnnotations": [
            {"key": "size", "valueExpression": "'of ' + variables.size"},
            {"key": "odd", "valueExpression": "object.metadata.name == 'odd' ? ' odd one ' : ''"},
            {"key": "blank", "valueExpression": "'  '"},
            {"key": "none", "valueExpression": "null"},
        ],
    });
    police(&admin, "size.example.com", &spec, &[("told", &["Warn", "Audit"]), ("twice", &["Warn"])]).await;
    // The last that comes into force refuses, so that it is known when all are.
    let refuses = json!({"validations": [{"expression": "object.metadata.name != 'trial'"}]});
    police(&admin, "trials", &refuses, &[("trials", &["Deny", "Audit"])]).await;
    until(&admin, |answer| answer.status == 422).await;
    done(&admin.ask("POST", MAPS, map("even").to_string()).await.unwrap());
    assert_eq!(recorded(&mut cluster, "even").await, expected(&[("size.example.com/size", "of 1")]));
    let odd = admin.ask("POST", MAPS, map("odd").to_string()).await.unwrap();
    done(&odd);
    let warnings: Vec<&str> = odd.headers.get_all("warning").iter().map(|told| told.to_str().unwrap()).collect();
    let warning = |binding: &str| {
        format!(
            r#"299 - "Validation failed for ValidatingAdmissionPolicy 'size.example.com' with binding '{binding}': a name like \"odd\"""#
        )
    };
    assert_eq!(warnings, [warning("told"), warning("twice")]);
    let failure = r#"[{"message":"a name like \"odd\"","policy":"size.example.com","binding":"told","expressionIndex":1,"validationActions":["Warn","Audit"]}]"#;
    assert_eq!(
        recorded(&mut cluster, "odd").await,
        expected(&[
            ("size.example.com/size", "of 1"),
            ("size.example.com/odd", "odd one"),
            ("validation.policy.admission.k8s.io/validation_failure", failure),
        ])
    );
    // What is refused is recorded as well.
    refused(&admin.ask("POST", MAPS, map("trial").to_string()).await.unwrap(), 422, "Invalid");
    let failure = r#"[{"message":"failed expression: object.metadata.name != 'trial'","policy":"trials","binding":"trials","expressionIndex":0,"validationActions":["Deny","Audit"]}]"#;
    let found = recorded(&mut cluster, "trial").await;
    assert_eq!(found["validation.policy.admission.k8s.io/validation_failure"], failure);
}

#[tokio::test]
async fn what_a_part_of_the_system_did_without_a_webhook_is_recorded() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        configure(&admin, &hook, kind, "closed", &[("/fails", json!({}))]).await;
    }
    until(&admin, |answer| answer.status == 500).await;
    let manager = cluster.another_admin("system:kube-controller-manager").await.unwrap();
    done(&manager.ask("POST", MAPS, map("healed").to_string()).await.unwrap());
    let found = recorded(&mut cluster, "healed").await;
    for key in ["failed-open.mutation.webhook", "failed-open.validating.webhook"] {
        assert_eq!(found[&format!("{key}.admission.k8s.io/round_0_index_0")], "closed-0.example.com");
    }
}
