//! Policies in expressions: their parameters, whom they are for, what they see, and what follows where they do not hold.

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::{ask_as_user, done, refused};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Within this a policy is in force.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn policies_judge_and_change_as_they_say() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_parameter_is_found_by_name,
        a_parameter_is_that_of_the_objects_namespace,
        parameters_are_found_by_selector,
        a_parameter_may_be_of_a_custom_kind,
        a_parameter_that_is_missing_decides_as_the_binding_says,
        what_a_failure_does_is_told_by_the_binding,
        conditions_and_selectors_choose_what_is_judged,
        expressions_see_the_request_and_what_its_user_may_do,
        a_refusal_has_the_reason_of_the_policy,
        what_can_not_be_worked_out_decides_as_the_policy_says,
        a_policy_changes_objects_by_its_parameters,
        what_one_policy_changed_stays_whatever_becomes_of_the_next,
    );
}

/// What of a namespace is judged.
fn constraints(namespace: &str, operations: &[&str], resource: (&str, &str, &str)) -> Value {
    let (group, version, plural) = resource;
    let rule = json!({"apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": [plural]});
    json!({"resourceRules": [rule], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}})
}

/// A policy for new ConfigMaps of the namespace of its name, with what else is said of it.
async fn police(server: &Server, name: &str, extra: Value) {
    let mut spec = json!({"matchConstraints": constraints(name, &["CREATE"], ("", "v1", "configmaps"))});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    server
        .post(&format!("{BASE}/validatingadmissionpolicies"), &json!({"metadata": {"name": name}, "spec": spec}))
        .await;
}

/// A binding of the policy of the same name.
async fn bind(server: &Server, name: &str, extra: Value) {
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let binding = json!({"metadata": {"name": name}, "spec": spec});
    server.post(&format!("{BASE}/validatingadmissionpolicybindings"), &binding).await;
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

async fn tried(server: &Server, path: &str, body: &Value) -> Answer {
    server.ask("POST", &format!("{path}?dryRun=All"), body).await
}

/// Sends a request that keeps nothing until its answer is as it should be.
async fn until(server: &Server, path: &str, body: &Value, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let sought = async {
        loop {
            let answer = tried(server, path, body).await;
            if is_so(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sought).await.expect("it is in force in time")
}

async fn until_refused(server: &Server, path: &str, body: &Value) -> String {
    let answer = until(server, path, body, |answer| answer.status == 422).await;
    answer.json()["message"].as_str().unwrap().to_owned()
}

async fn until_passed(server: &Server, path: &str, body: &Value) {
    until(server, path, body, |answer| answer.status == 201).await;
}

/// What the refusal of a ConfigMap by a policy begins with.
fn denied(policy: &str, object: &str) -> String {
    format!(
        "configmaps {object:?} is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: "
    )
}

/// Whatever has more than its parameter allows.
fn at_most() -> Value {
    json!([{
        "expression": "object.data.size() <= int(params.data.most)",
        "messageExpression": "'at most ' + params.data.most + ' by ' + params.metadata.name",
    }])
}

fn of_maps() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap"})
}

async fn a_parameter_is_found_by_name(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("by-name").await);
    let apart = format!("{}/configmaps", server.namespace("by-name-apart").await);
    server.post(&apart, &map("limit", json!({"most": "1"}))).await;
    police(&server, "by-name", json!({"paramKind": of_maps(), "validations": at_most()})).await;
    let reference = json!({"name": "limit", "namespace": "by-name-apart", "parameterNotFoundAction": "Deny"});
    bind(&server, "by-name", json!({"paramRef": reference})).await;
    let two = map("two", json!({"a": "", "b": ""}));
    assert_eq!(until_refused(&server, &maps, &two).await, format!("{}at most 1 by limit", denied("by-name", "two")));
    done(&tried(&server, &maps, &map("one", json!({"a": ""}))).await);
    // What a parameter is changed to counts at once.
    let limit = format!("{apart}/limit");
    server.merge(&limit, &json!({"data": {"most": "2"}})).await;
    done(&tried(&server, &maps, &two).await);
    server.merge(&limit, &json!({"data": {"most": "0"}})).await;
    let message = refused(&tried(&server, &maps, &two).await, 422, "Invalid");
    assert_eq!(message, format!("{}at most 0 by limit", denied("by-name", "two")));
    // One that is no number can't be compared with, and the policy fails.
    server.merge(&limit, &json!({"data": {"most": "many"}})).await;
    let message = refused(&tried(&server, &maps, &two).await, 422, "Invalid");
    assert!(
        message.contains("expression 'object.data.size() <= int(params.data.most)' resulted in error: "),
        "{message}"
    );
}

async fn a_parameter_is_that_of_the_objects_namespace(server: Server) {
    let mut spec = json!({"paramKind": of_maps(), "validations": at_most()});
    spec["matchConstraints"] = constraints("", &["CREATE"], ("", "v1", "configmaps"));
    spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"own": "yes"}});
    spec["matchConstraints"]["resourceRules"][0]["resources"] = json!(["configmaps", "nodes"]);
    spec["matchConstraints"]["objectSelector"] = json!({"matchLabels": {"own": "judged"}});
    police(&server, "own", spec).await;
    bind(&server, "own", json!({"paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}})).await;
    let labels = json!({"own": "judged"});
    let mut two = map("two", json!({"a": "", "b": ""}));
    two["metadata"]["labels"] = labels.clone();
    let mut collections = Vec::new();
    for (name, most) in [("own-one", "1"), ("own-two", "2")] {
        let namespace = server.namespace(name).await;
        server.merge(&namespace, &json!({"metadata": {"labels": {"own": "yes"}}})).await;
        server.post(&format!("{namespace}/configmaps"), &map("limit", json!({"most": most}))).await;
        collections.push(format!("{namespace}/configmaps"));
    }
    let message = until_refused(&server, &collections[0], &two).await;
    assert_eq!(message, format!("{}at most 1 by limit", denied("own", "two")));
    until_passed(&server, &collections[1], &two).await;
    // What is in no namespace has none to look in.
    let node = json!({"metadata": {"name": "own", "labels": labels}});
    let message = refused(&tried(&server, "/api/v1/nodes", &node).await, 422, "Invalid");
    let why = "failed to configure binding: cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
    assert!(message.ends_with(why), "{message}");
}

async fn parameters_are_found_by_selector(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("selected").await);
    let conditions = json!([{"name": "no-limit", "expression": "!has(object.data.most)"}]);
    let spec = json!({"paramKind": of_maps(), "validations": at_most(), "matchConditions": conditions});
    police(&server, "selected", spec).await;
    let selector = json!({"matchLabels": {"limit": "yes"}});
    bind(&server, "selected", json!({"paramRef": {"selector": selector, "parameterNotFoundAction": "Deny"}})).await;
    let two = map("two", json!({"a": "", "b": ""}));
    let none = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(until_refused(&server, &maps, &two).await, format!("{}{none}", denied("selected", "two")));
    // Each of those that are found must hold.
    let labelled = |name: &str, most: &str| json!({"metadata": {"name": name, "labels": {"limit": "yes"}}, "data": {"most": most}});
    server
        .merge(
            &format!("{BASE}/validatingadmissionpolicybindings/selected"),
            &json!({"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}}),
        )
        .await;
    until_passed(&server, &maps, &two).await;
    server.post(&maps, &labelled("wide", "5")).await;
    done(&tried(&server, &maps, &two).await);
    server.post(&maps, &labelled("narrow", "1")).await;
    let message = refused(&tried(&server, &maps, &two).await, 422, "Invalid");
    assert_eq!(message, format!("{}at most 1 by narrow", denied("selected", "two")));
    server.merge(&format!("{maps}/narrow"), &json!({"metadata": {"labels": {"limit": "no"}}})).await;
    done(&tried(&server, &maps, &two).await);
}

/// Defines a kind of limits, in no namespace.
async fn define(server: &Server, group: &str) -> String {
    let most = json!({"type": "integer"});
    let spec = json!({"type": "object", "properties": {"most": most}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let definition = json!({
        "metadata": {"name": format!("limits.{group}")},
        "spec": {
            "group": group, "scope": "Cluster", "names": {"plural": "limits", "singular": "limit", "kind": "Limit"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    server.post(DEFINITIONS, &definition).await;
    let limits = format!("/apis/{group}/v1/limits");
    server.until_answered(&limits, |answer| answer.status == 200).await;
    limits
}

async fn a_parameter_may_be_of_a_custom_kind(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("custom-kind").await);
    let validations = json!([{"expression": "object.data.size() <= params.spec.most && params.kind == 'Limit'", "message": "too many"}]);
    let kind = json!({"apiVersion": "policies.example.com/v1", "kind": "Limit"});
    police(&server, "custom-kind", json!({"paramKind": kind, "validations": validations})).await;
    let reference = json!({"name": "own", "parameterNotFoundAction": "Deny"});
    bind(&server, "custom-kind", json!({"paramRef": reference})).await;
    let two = map("two", json!({"a": "", "b": ""}));
    assert_eq!(
        until_refused(&server, &maps, &two).await,
        "configmaps \"two\" is forbidden: ValidatingAdmissionPolicy 'custom-kind' denied request: failed to configure \
         policy: failed to find resource referenced by paramKind: 'policies.example.com/v1, Kind=Limit'"
    );
    let limits = define(&server, "policies.example.com").await;
    let limit = json!({"apiVersion": "policies.example.com/v1", "kind": "Limit", "metadata": {"name": "own"}, "spec": {"most": 1}});
    server.post(&limits, &limit).await;
    let too_many = format!("{}too many", denied("custom-kind", "two"));
    until(&server, &maps, &two, |answer| answer.json()["message"] == too_many).await;
    server.merge(&format!("{limits}/own"), &json!({"spec": {"most": 2}})).await;
    done(&tried(&server, &maps, &two).await);
    let spaced = json!({"spec": {"paramRef": {"namespace": "custom-kind"}}});
    server.merge(&format!("{BASE}/validatingadmissionpolicybindings/custom-kind"), &spaced).await;
    let why = "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
    assert_eq!(until_refused(&server, &maps, &two).await, format!("{}{why}", denied("custom-kind", "two")));
}

async fn a_parameter_that_is_missing_decides_as_the_binding_says(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("missing").await);
    police(&server, "missing", json!({"paramKind": of_maps(), "validations": at_most()})).await;
    bind(&server, "missing", json!({"paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}})).await;
    let one = map("one", json!({"a": ""}));
    let none = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(until_refused(&server, &maps, &one).await, format!("{}{none}", denied("missing", "one")));
    let binding = format!("{BASE}/validatingadmissionpolicybindings/missing");
    server.merge(&binding, &json!({"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}})).await;
    until_passed(&server, &maps, &one).await;
    // Without a reference there is nothing to look for, and the policy sees no parameter.
    server.merge(&binding, &json!({"spec": {"paramRef": null}})).await;
    let message = until_refused(&server, &maps, &one).await;
    assert!(message.contains("resulted in error: "), "{message}");
    let policy = format!("{BASE}/validatingadmissionpolicies/missing");
    server.merge(&policy, &json!({"spec": {"validations": [{"expression": "params == null"}]}})).await;
    until_passed(&server, &maps, &one).await;
}

fn warned(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|told| told.to_str().unwrap().to_owned()).collect()
}

async fn what_a_failure_does_is_told_by_the_binding(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("actions").await);
    let validations =
        json!([{"expression": "object.data.size() > 1", "message": "too few"}, {"expression": "'a' in object.data"}]);
    police(&server, "actions", json!({"validations": validations})).await;
    bind(&server, "actions", json!({"validationActions": ["Warn", "Audit"]})).await;
    let poor = map("poor", json!({"b": ""}));
    let answer = until(&server, &maps, &poor, |answer| !warned(answer).is_empty()).await;
    done(&answer);
    let told = |why: &str| {
        format!("299 - \"Validation failed for ValidatingAdmissionPolicy 'actions' with binding 'actions': {why}\"")
    };
    assert_eq!(warned(&answer), [told("too few"), told("failed expression: 'a' in object.data")]);
    // A second binding refuses what the first one only tells.
    let path = format!("{BASE}/validatingadmissionpolicybindings");
    let hard = |actions: Value| json!({"metadata": {"name": "actions-hard"}, "spec": {"policyName": "actions", "validationActions": actions}});
    server.post(&path, &hard(json!(["Deny", "Audit"]))).await;
    let answer = until(&server, &maps, &poor, |answer| answer.status == 422).await;
    assert_eq!(
        refused(&answer, 422, "Invalid"),
        "configmaps \"poor\" is forbidden: ValidatingAdmissionPolicy 'actions' with binding 'actions-hard' denied request: too few"
    );
    assert_eq!(warned(&answer).len(), 2, "who is refused is warned as well");
    let both = server.ask("POST", &path, &hard(json!(["Deny", "Warn"]))).await;
    let message = refused(&both, 422, "Invalid");
    assert!(message.contains("must not contain both Deny and Warn"), "{message}");
}

async fn conditions_and_selectors_choose_what_is_judged(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("chosen").await);
    let apart = format!("{}/configmaps", server.namespace("chosen-apart").await);
    let mut extra = json!({
        "matchConditions": [
            {"name": "named", "expression": "object.metadata.name.startsWith('judged')"},
            {"name": "not-masters", "expression": "!request.userInfo.groups.exists(group, group == 'trusted')"},
        ],
        "validations": [{"expression": "false", "message": "never"}],
    });
    extra["matchConstraints"] = constraints("chosen", &["CREATE"], ("", "v1", "*"));
    extra["matchConstraints"]["namespaceSelector"] = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["chosen", "chosen-apart"]}]});
    extra["matchConstraints"]["objectSelector"] = json!({"matchLabels": {"judged": "yes"}});
    extra["matchConstraints"]["excludeResourceRules"] =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["secrets"]}]);
    police(&server, "chosen", extra).await;
    let resources = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chosen"}}});
    bind(&server, "chosen", json!({"matchResources": resources})).await;
    let labelled = |name: &str| json!({"metadata": {"name": name, "labels": {"judged": "yes"}}});
    let judged = labelled("judged");
    assert_eq!(until_refused(&server, &maps, &judged).await, format!("{}never", denied("chosen", "judged")));
    done(&tried(&server, &maps, &labelled("other")).await);
    done(&tried(&server, &maps, &json!({"metadata": {"name": "judged"}})).await);
    done(&tried(&server, &apart, &judged).await);
    done(&tried(&server, &maps.replace("configmaps", "secrets"), &judged).await);
    let groups = ["system:masters", "trusted"];
    done(&ask_as_user(&server.admin, "friend", &groups, "POST", &format!("{maps}?dryRun=All"), Some(&judged)).await);
    // A label that an update takes away does not hide the object.
    server.post(&maps, &json!({"metadata": {"name": "judged", "labels": {"judged": "no"}}})).await;
    let policy = format!("{BASE}/validatingadmissionpolicies/chosen");
    server
        .change(&policy, |found| {
            found["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE", "UPDATE", "DELETE"])
        })
        .await;
    let own = format!("{maps}/judged");
    let media = "application/merge-patch+json";
    let patch = json!({"metadata": {"labels": {"judged": "yes"}}}).to_string();
    let sought = async {
        loop {
            let path = format!("{own}?dryRun=All");
            let answer = server.admin.ask_as("PATCH", &path, media, patch.clone()).await.unwrap();
            if answer.status == 422 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sought).await.expect("it is in force in time");
    // The conditions look at the object, and there is none.
    done(&server.admin.ask("DELETE", &own, "").await.unwrap());
}

async fn expressions_see_the_request_and_what_its_user_may_do(server: Server) {
    let namespace = server.namespace("seen").await;
    server.merge(&namespace, &json!({"metadata": {"labels": {"stage": "trial"}}})).await;
    let maps = format!("{namespace}/configmaps");
    let may_delete = "authorizer.group('').resource('configmaps').namespace(request.namespace).check('delete')";
    let mut extra = json!({
        "variables": [
            {"name": "may", "expression": format!("{may_delete}.allowed()")},
            {"name": "facts", "expression": "[request.operation, request.resource.resource, request.name, request.userInfo.username, string(request.dryRun), namespaceObject.metadata.labels.stage, string(variables.may), string(authorizer.requestResource.check('create').allowed()), string(authorizer.path('/metrics').check('get').allowed()), string(oldObject == null ? 'new' : oldObject.data.a)]"},
        ],
        "validations": [{"expression": "object.data.a != 'bad'", "messageExpression": "variables.facts.join(' ')"}],
    });
    extra["matchConstraints"] = constraints("seen", &["CREATE", "UPDATE"], ("", "v1", "configmaps"));
    police(&server, "seen", extra).await;
    bind(&server, "seen", json!({})).await;
    let message = until_refused(&server, &maps, &map("one", json!({"a": "bad"}))).await;
    let all = "CREATE configmaps one admin true trial true true true new";
    assert_eq!(
        message,
        format!("{}failed expression: object.data.a != 'bad'", denied("seen", "one")),
        "a message does not ask what the user may do: {all}"
    );
    let policy = format!("{BASE}/validatingadmissionpolicies/seen");
    let expression = "object.data.a != 'bad' || variables.facts.join(' ') == object.data.b";
    server.merge(&policy, &json!({"spec": {"validations": [{"expression": expression}]}})).await;
    let bad = |facts: &str| map("one", json!({"a": "bad", "b": facts}));
    until_passed(&server, &maps, &bad(all)).await;
    refused(&tried(&server, &maps, &bad(&all.replace("admin", "other"))).await, 422, "Invalid");
    // Somebody else may less, and an update has an old object.
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update"]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/seen";
    server.post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "writer"}, "rules": [rule]})).await;
    let bound = json!({
        "metadata": {"name": "writer"}, "subjects": [{"kind": "User", "name": "writer", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "writer", "apiGroup": "rbac.authorization.k8s.io"},
    });
    server.post(&format!("{rbac}/rolebindings"), &bound).await;
    server.post(&maps, &map("one", json!({"a": "good"}))).await;
    let facts = "UPDATE configmaps one writer false trial false true false good";
    let replaced = ask_as_user(&server.admin, "writer", &[], "PUT", &format!("{maps}/one"), Some(&bad(facts))).await;
    assert_eq!(done(&replaced)["data"]["b"], facts);
}

async fn a_refusal_has_the_reason_of_the_policy(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("reasons").await);
    let validation = |key: &str, reason: &str| json!({"expression": format!("!has(object.data.{key})"), "message": format!(" {key} "), "reason": reason});
    let validations =
        [validation("a", "Forbidden"), validation("c", "RequestEntityTooLarge"), validation("d", "Invalid")];
    police(&server, "reasons", json!({"validations": validations})).await;
    bind(&server, "reasons", json!({})).await;
    let of = |key: &str| map(key, json!({key: ""}));
    until(&server, &maps, &of("d"), |answer| answer.status == 422).await;
    for (key, code, reason) in [("a", 403, "Forbidden"), ("c", 413, "RequestEntityTooLarge")] {
        let answer = tried(&server, &maps, &of(key)).await;
        let message = format!("{}{key}", denied("reasons", key));
        assert_eq!(refused(&answer, code, reason), message);
        let own = message.split_once("forbidden: ").unwrap().1;
        assert_eq!(answer.json()["details"]["causes"], json!([{"message": own}]));
    }
    // Of several that fail the first tells.
    let several = map("several", json!({"d": "", "c": ""}));
    refused(&tried(&server, &maps, &several).await, 413, "RequestEntityTooLarge");
}

async fn what_can_not_be_worked_out_decides_as_the_policy_says(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("unclear").await);
    let validations = json!([
        {"expression": "object.data.absent == 'x'"},
        {"expression": "object.metadata.name != 'bad'", "messageExpression": "string(object.data.absent)", "message": "plain"},
    ]);
    police(&server, "unclear", json!({"validations": validations})).await;
    bind(&server, "unclear", json!({})).await;
    let good = map("good", json!({"a": ""}));
    assert_eq!(
        until_refused(&server, &maps, &good).await,
        format!(
            "{}expression 'object.data.absent == 'x'' resulted in error: no such key: absent",
            denied("unclear", "good")
        )
    );
    let policy = format!("{BASE}/validatingadmissionpolicies/unclear");
    server.merge(&policy, &json!({"spec": {"failurePolicy": "Ignore"}})).await;
    until_passed(&server, &maps, &good).await;
    // What does not hold refuses all the same, and where its own message can't be worked out the plain one is told.
    let message = refused(&tried(&server, &maps, &map("bad", json!({"a": ""}))).await, 422, "Invalid");
    assert_eq!(message, format!("{}plain", denied("unclear", "bad")));
}

/// A policy that changes objects, bound.
async fn changer(server: &Server, name: &str, spec: Value, reference: Option<Value>) {
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    server.post(&format!("{BASE}/mutatingadmissionpolicies"), &policy).await;
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "paramRef": reference}});
    server.post(&format!("{BASE}/mutatingadmissionpolicybindings"), &binding).await;
}

fn labelling(expression: &str) -> Value {
    let whole = format!("Object{{metadata: Object.metadata{{labels: {expression}}}}}");
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": whole}})
}

async fn a_policy_changes_objects_by_its_parameters(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("stamped").await);
    let patch = "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'stamp': params.data.stamp + '/' + variables.name}}]";
    let spec = json!({
        "matchConstraints": constraints("stamped", &["CREATE"], ("", "v1", "configmaps")),
        "paramKind": of_maps(), "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "asked", "expression": "object.metadata.name.startsWith('stamped')"}],
        "variables": [{"name": "name", "expression": "object.metadata.name"}],
        "mutations": [
            labelling("{'stamp': params.data.stamp}"),
            {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}},
        ],
    });
    server.post(&maps, &map("stamp", json!({"stamp": "first"}))).await;
    changer(&server, "stamped", spec, Some(json!({"name": "stamp", "parameterNotFoundAction": "Deny"}))).await;
    let stamped = map("stamped", json!({}));
    let shows = |answer: &Answer| answer.json()["metadata"]["labels"]["stamp"] == "first";
    let made = done(&until(&server, &maps, &stamped, shows).await);
    assert_eq!(made["metadata"]["annotations"], json!({"stamp": "first/stamped"}));
    assert_eq!(done(&tried(&server, &maps, &map("other", json!({}))).await)["metadata"]["labels"], Value::Null);
    server.merge(&format!("{maps}/stamp"), &json!({"data": {"stamp": "second"}})).await;
    let made = done(&tried(&server, &maps, &stamped).await);
    assert_eq!(made["metadata"]["labels"], json!({"stamp": "second"}));
    server.delete(&format!("{maps}/stamp")).await;
    let message = refused(&tried(&server, &maps, &stamped).await, 403, "Forbidden");
    assert_eq!(
        message,
        "policy 'stamped' with binding 'stamped' denied request: failed to configure binding: no params found for \
         policy binding with `Deny` parameterNotFoundAction"
    );
}

async fn what_one_policy_changed_stays_whatever_becomes_of_the_next(server: Server) {
    server.namespace("versions").await;
    let spec = |version: &str, failure: &str, mutation: Value| {
        json!({
            "matchConstraints": constraints("versions", &["CREATE"], ("autoscaling", version, "horizontalpodautoscalers")),
            "failurePolicy": failure, "reinvocationPolicy": "Never", "mutations": [mutation],
        })
    };
    changer(
        &server,
        "versions-0",
        spec("v1", "Fail", labelling("{'first': object.apiVersion.replace('/', '-')}")),
        None,
    )
    .await;
    changer(&server, "versions-1", spec("v2", "Ignore", labelling("{'never': object.spec.nothing}")), None).await;
    changer(
        &server,
        "versions-2",
        spec(
            "v2",
            "Ignore",
            labelling("{'third': object.apiVersion.replace('/', '-') + object.metadata.labels.first}"),
        ),
        None,
    )
    .await;
    changer(&server, "versions-3", spec("v2", "Ignore", labelling("{'never': object.metadata.labels.nothing}")), None)
        .await;
    let scaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "one"},
        "spec": {
            "maxReplicas": 3, "targetCPUUtilizationPercentage": 60,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "one"},
        },
    });
    let scalers = "/apis/autoscaling/v1/namespaces/versions/horizontalpodautoscalers";
    let shows = |answer: &Answer| answer.json()["metadata"]["labels"].as_object().is_some_and(|all| all.len() == 2);
    let made = done(&until(&server, scalers, &scaler, shows).await);
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["metadata"]["labels"], json!({"first": "autoscaling-v1", "third": "autoscaling-v2autoscaling-v1"}));
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 60, "nothing is lost between the versions");
}
