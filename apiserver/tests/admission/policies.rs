//! Policies written as objects: which requests they judge, and what is told of those that they refuse.

use super::*;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
/// A policy is in force soon; so many requests it may miss until then.
const MISSED: usize = 20_000;

/// Makes a policy and binds it.
async fn police(rig: &Rig, name: &str, rule: Value, spec: Value) {
    let mut spec = spec;
    if spec.get("validations").is_none() {
        spec["validations"] = json!([{"expression": "false", "message": "never"}]);
    }
    let mut whole = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"]});
    whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
    spec["matchConstraints"]["resourceRules"] = json!([whole]);
    done(
        rig,
        Method::POST,
        &format!("{GROUP}/validatingadmissionpolicies"),
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await;
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    done(rig, Method::POST, &format!("{GROUP}/validatingadmissionpolicybindings"), binding).await;
}

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

/// Asks again and again, keeping nothing, until it is refused by a policy; answers code and message.
async fn until_refused(rig: &Rig, method: Method, path: &str, body: Value) -> (u16, String) {
    for _ in 0..MISSED {
        let media = if method == Method::PATCH { MERGE } else { "application/json" };
        let answer = rig.raw(method.clone(), &dry(path), &[("content-type", media)], &body.to_string()).await;
        if answer.message().contains("ValidatingAdmissionPolicy") {
            return (answer.status, answer.message());
        }
        tokio::task::yield_now().await;
    }
    panic!("no policy refuses {method} {path}")
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn a_rule_names_the_scope_and_the_objects() {
    let rig = Rig::new().await;
    let maps = format!("{NAMESPACE}/configmaps");
    police(&rig, "scope", json!({"resources": ["configmaps", "nodes"], "scope": "Cluster"}), json!({})).await;
    until_refused(&rig, Method::POST, "/api/v1/nodes", map("n")).await;
    done(&rig, Method::POST, &dry(&maps), map("m")).await;
    police(&rig, "names", json!({"resources": ["secrets"], "resourceNames": ["named"]}), json!({})).await;
    let secrets = format!("{NAMESPACE}/secrets");
    until_refused(&rig, Method::POST, &secrets, map("named")).await;
    done(&rig, Method::POST, &dry(&secrets), map("other")).await;
}

#[tokio::test]
async fn a_rule_that_is_exact_judges_its_own_version_only() {
    let rig = Rig::new().await;
    let scaler = json!({"metadata": {"name": "s"}, "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "D", "name": "d", "apiVersion": "apps/v1"}}});
    let scalers = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let rule = json!({"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]});
    police(&rig, "exact", rule, json!({"matchConstraints": {"matchPolicy": "Exact"}})).await;
    until_refused(&rig, Method::POST, &scalers("v1"), scaler.clone()).await;
    done(&rig, Method::POST, &dry(&scalers("v2")), scaler.clone()).await;
    let path = format!("{GROUP}/validatingadmissionpolicies/exact");
    let wide = json!({"spec": {"matchConstraints": {"matchPolicy": "Equivalent"}}});
    assert_eq!(patch(&rig, &path, MERGE, wide).await.status, 200);
    until_refused(&rig, Method::POST, &scalers("v2"), scaler).await;
}

#[tokio::test]
async fn a_label_that_is_taken_away_does_not_hide_an_object() {
    let rig = Rig::new().await;
    let maps = format!("{NAMESPACE}/configmaps");
    done(&rig, Method::POST, &maps, json!({"metadata": {"name": "m", "labels": {"judged": "yes"}}})).await;
    done(&rig, Method::POST, &maps, map("free")).await;
    let selector = json!({"matchLabels": {"judged": "yes"}});
    police(
        &rig,
        "old",
        json!({"resources": ["configmaps"]}),
        json!({"matchConstraints": {"objectSelector": selector}}),
    )
    .await;
    let own = format!("{maps}/m");
    until_refused(&rig, Method::PATCH, &own, json!({"data": {"a": "b"}})).await;
    let away = json!({"metadata": {"labels": null}});
    assert_eq!(patch(&rig, &dry(&own), MERGE, away.clone()).await.status, 422);
    assert_eq!(patch(&rig, &dry(&format!("{maps}/free")), MERGE, json!({"data": {"a": "b"}})).await.status, 200);
}

#[tokio::test]
async fn a_refusal_has_its_reasons_code_and_a_message_of_one_short_line() {
    let rig = Rig::new().await;
    let maps = format!("{NAMESPACE}/configmaps");
    let told = |name: &str, message: &str| json!({"expression": format!("object.metadata.name != '{name}'"), "message": "plain", "messageExpression": message, "reason": "Forbidden"});
    let long =
        "'x'.replace('x', 'xxxxxxxxxxxxxxxx').replace('x', 'xxxxxxxxxxxxxxxx').replace('x', 'xxxxxxxxxxxxxxxxxxxxxx')";
    let validations =
        json!([told("own", "'its own'"), told("lines", r"'a\nb'"), told("long", long), told("empty", "' '")]);
    police(&rig, "told", json!({"resources": ["configmaps"]}), json!({"validations": validations})).await;
    for (name, message) in [("own", "its own"), ("lines", "plain"), ("long", "plain"), ("empty", "plain")] {
        let (code, why) = until_refused(&rig, Method::POST, &maps, map(name)).await;
        let by = "ValidatingAdmissionPolicy 'told' with binding 'told' denied request";
        assert_eq!((code, why), (403, format!("configmaps \"{name}\" is forbidden: {by}: {message}")));
    }
}

#[tokio::test]
async fn a_condition_that_does_not_hold_goes_before_one_that_can_not_be_worked_out() {
    let rig = Rig::new().await;
    let maps = format!("{NAMESPACE}/configmaps");
    let conditions = json!([
        {"name": "unclear", "expression": "object.data.none == 'x'"},
        {"name": "named", "expression": "object.metadata.name == 'judged'"},
    ]);
    police(&rig, "unclear", json!({"resources": ["configmaps"]}), json!({"matchConditions": conditions})).await;
    let (code, why) = until_refused(&rig, Method::POST, &maps, map("judged")).await;
    assert_eq!(code, 422);
    assert!(why.contains("resulted in error: no such key"), "{why}");
    done(&rig, Method::POST, &dry(&maps), map("other")).await;
}

#[tokio::test]
async fn a_policy_of_scales_sees_the_scale() {
    let rig = Rig::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = pod("", json!({}));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": template["spec"]});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    done(&rig, Method::POST, deployments, json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let expression = "object.kind == 'Scale' && oldObject.spec.replicas == 1 && object.spec.replicas < 3";
    let validations = json!([{"expression": expression, "message": "too many"}]);
    police(&rig, "scales", json!({"resources": ["deployments/scale"]}), json!({"validations": validations})).await;
    let (own, replicas) = (format!("{deployments}/d"), |replicas: u32| json!({"spec": {"replicas": replicas}}));
    let scale = format!("{own}/scale");
    let (code, why) = until_refused(&rig, Method::PATCH, &scale, replicas(3)).await;
    assert!(code == 422 && why.ends_with("denied request: too many"), "{code} {why}");
    assert_eq!(patch(&rig, &dry(&scale), MERGE, replicas(2)).await.status, 200);
    assert_eq!(patch(&rig, &dry(&own), MERGE, replicas(3)).await.status, 200);
}
