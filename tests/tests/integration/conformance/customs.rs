//! Kinds that users define: their definitions live, their objects are checked, defaulted and published, and conversion
//! and field validation meet them.

use martello_tests::raw::Answer;
use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::{done, refused};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_users_define_work() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_definition_is_made_and_deleted,
        definitions_are_listed_and_deleted_together,
        a_definition_has_its_status,
        a_watch_of_definitions_shows_their_lives,
        a_kind_is_in_aggregated_discovery,
        a_watch_of_custom_objects_shows_their_lives,
        defaults_are_filled_into_requests_and_stored_objects,
        several_versions_groups_and_kinds_are_published,
        a_version_that_is_renamed_or_not_served_is_published_so,
        a_schema_that_keeps_unknown_fields_is_published_so,
        objects_of_a_kind_without_a_schema_keep_what_they_say,
        objects_are_held_against_their_schema,
        duplicates_are_found_though_unknown_fields_are_kept,
        unknown_metadata_of_custom_objects_is_found,
        rules_judge_objects_and_transitions,
        fields_may_be_selected_by,
        a_scale_of_a_custom_object_is_served,
    );
}

/// A definition of `plural` in `group`, of one version with this schema of the object's own fields.
fn definition(group: &str, kind: &str, properties: Value) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"type": "object", "properties": properties});
    json!({
        "metadata": {"name": format!("{plural}.{group}"), "labels": {"group": group}},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

async fn define(server: &Server, definition: &Value) -> String {
    server.post(DEFINITIONS, definition).await;
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    server.until(&path, |found| is_so(found, "Established")).await;
    path
}

fn is_so(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == condition && one["status"] == "True"))
}

fn object(group: &str, kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn collection(group: &str, plural: &str) -> String {
    format!("/apis/{group}/v1/namespaces/default/{plural}")
}

fn spec(properties: Value) -> Value {
    json!({"spec": {"type": "object", "properties": properties}})
}

async fn a_definition_is_made_and_deleted(server: Server) {
    let path = define(&server, &definition("made.example.com", "Foo", json!({}))).await;
    server.delete(&path).await;
    server.gone(&path).await;
    let unserved = |answer: &Answer| answer.text() == "404 page not found\n";
    server.until_answered(&collection("made.example.com", "foos"), unserved).await;
}

async fn definitions_are_listed_and_deleted_together(server: Server) {
    const COUNT: usize = 10;
    let label = "labelSelector=group%3Dlisted.example.com";
    for index in 0..COUNT {
        server.post(DEFINITIONS, &definition("listed.example.com", &format!("Kind{index}x"), json!({}))).await;
    }
    let kept = define(&server, &definition("kept.example.com", "Kept", json!({}))).await;
    let selected = format!("{DEFINITIONS}?{label}");
    assert_eq!(server.get(&selected).await["items"].as_array().unwrap().len(), COUNT);
    server.delete(&selected).await;
    server.until_listed(&selected, 0).await;
    server.get(&kept).await;
}

async fn a_definition_has_its_status(server: Server) {
    let path = format!("{}/status", define(&server, &definition("status.example.com", "Foo", json!({}))).await);
    let condition = |name: &str| json!({"type": name, "status": "True", "reason": "R", "message": "M"});
    assert!(is_so(&server.get(&path).await, "NamesAccepted"));
    let add = |name: &'static str| {
        move |found: &mut Value| found["status"]["conditions"].as_array_mut().unwrap().push(condition(name))
    };
    server.change(&path, add("Updated")).await;
    assert!(is_so(&server.get(&path).await, "Updated"));
    let mut conditions = server.get(&path).await["status"]["conditions"].clone();
    conditions.as_array_mut().unwrap().push(condition("Patched"));
    server.merge(&path, &json!({"status": {"conditions": conditions}})).await;
    let found = server.get(&path).await;
    assert!(is_so(&found, "Patched") && is_so(&found, "Established"), "{found}");
}

async fn a_watch_of_definitions_shows_their_lives(server: Server) {
    let name = "foos.watched.example.com";
    let mut events = server.watch(&format!("{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
    let path = define(&server, &definition("watched.example.com", "Foo", json!({}))).await;
    assert_eq!(events.next().await.0, "ADDED");
    server.merge(&path, &json!({"metadata": {"annotations": {"a": "b"}}})).await;
    events.until(|kind, found| kind == "MODIFIED" && found["metadata"]["annotations"]["a"] == "b").await;
    server.delete(&path).await;
    events.until(|kind, _| kind == "DELETED").await;
}

async fn a_kind_is_in_aggregated_discovery(server: Server) {
    define(&server, &definition("found.example.com", "Foo", json!({}))).await;
    for version in ["v2", "v2beta1"] {
        let accept = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let list = done(&server.admin.ask_with("GET", "/apis", &[("accept", &accept)], "").await.unwrap());
        assert_eq!(list["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
        let group = list["items"].as_array().unwrap().iter().find(|one| one["metadata"]["name"] == "found.example.com");
        let resource = &group.expect("the group is told")["versions"][0]["resources"][0];
        assert_eq!((&resource["resource"], &resource["responseKind"]["kind"]), (&json!("foos"), &json!("Foo")));
    }
}

async fn a_watch_of_custom_objects_shows_their_lives(server: Server) {
    define(&server, &definition("shown.example.com", "Foo", spec(json!({"n": {"type": "integer"}})))).await;
    let foos = collection("shown.example.com", "foos");
    let mut events = server.watch(&format!("{foos}?watch=1")).await;
    server.post(&foos, &object("shown.example.com", "Foo", "one", &json!({"spec": {"n": 1}}))).await;
    server.merge(&format!("{foos}/one"), &json!({"spec": {"n": 2}})).await;
    server.delete(&format!("{foos}/one")).await;
    for (kind, n) in [("ADDED", 1), ("MODIFIED", 2), ("DELETED", 2)] {
        let (seen, found) = events.next().await;
        assert_eq!((seen.as_str(), &found["spec"]["n"]), (kind, &json!(n)));
    }
}

async fn defaults_are_filled_into_requests_and_stored_objects(server: Server) {
    let text = |default: Value| json!({"type": "string", "default": default});
    let plain = spec(json!({"a": {"type": "string"}, "b": {"type": "string"}}));
    let path = define(&server, &definition("defaults.example.com", "Foo", plain)).await;
    let foos = collection("defaults.example.com", "foos");
    let make = |name: &'static str| object("defaults.example.com", "Foo", name, &json!({"spec": {}}));
    server.post(&foos, &make("one")).await;
    let with = |properties: Value| {
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": spec(properties)}});
        json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}})
    };
    server.merge(&path, &with(json!({"a": text(json!("A")), "b": {"type": "string"}}))).await;
    server.until(&format!("{foos}/one"), |found| found["spec"]["a"] == "A").await;
    assert_eq!(server.post(&foos, &make("two")).await["spec"], json!({"a": "A"}));
    server.merge(&path, &with(json!({"a": {"type": "string"}, "b": text(json!("B"))}))).await;
    // The default of before was not stored for the first, and was for the second.
    let first = server.until(&format!("{foos}/one"), |found| found["spec"]["b"] == "B").await;
    assert_eq!(first["spec"]["a"], Value::Null);
    let second = server.until(&format!("{foos}/two"), |found| found["spec"]["b"] == "B").await;
    assert_eq!(second["spec"]["a"], "A");
}

/// What the definitions of OpenAPI say of a kind.
fn published(answer: &Answer, name: &str) -> Option<Value> {
    let found = answer.json()["definitions"][name].take();
    (!found.is_null()).then_some(found)
}

/// Waits until a kind is published, and answers what is said of it.
async fn until_published(server: &Server, name: &str) -> Value {
    let answer = server.until_answered("/openapi/v2", |answer| published(answer, name).is_some()).await;
    published(&answer, name).unwrap()
}

async fn several_versions_groups_and_kinds_are_published(server: Server) {
    let mut two = definition("two.example.com", "Foo", spec(json!({"a": {"type": "string", "description": "Of a."}})));
    let mut second = two["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    two["spec"]["versions"].as_array_mut().unwrap().push(second);
    define(&server, &two).await;
    define(&server, &definition("two.example.com", "Bar", json!({}))).await;
    define(&server, &definition("other.example.com", "Foo", json!({}))).await;
    for name in
        ["com.example.two.v1.Foo", "com.example.two.v2.Foo", "com.example.two.v1.Bar", "com.example.other.v1.Foo"]
    {
        let found = until_published(&server, name).await;
        assert!(found["x-kubernetes-group-version-kind"].is_array(), "{found}");
    }
    let two = until_published(&server, "com.example.two.v1.Foo").await;
    assert_eq!(two["properties"]["spec"]["properties"]["a"]["description"], "Of a.");
}

async fn a_version_that_is_renamed_or_not_served_is_published_so(server: Server) {
    let mut versions = definition("renamed.example.com", "Foo", json!({}));
    let mut second = versions["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    versions["spec"]["versions"].as_array_mut().unwrap().push(second.clone());
    let path = define(&server, &versions).await;
    let shows = |wanted: &'static [&'static str], unwanted: &'static [&'static str]| {
        move |answer: &Answer| {
            let has = |version: &&str| published(answer, &format!("com.example.renamed.{version}.Foo")).is_some();
            wanted.iter().all(has) && !unwanted.iter().any(has)
        }
    };
    server.until_answered("/openapi/v2", shows(&["v1", "v2"], &["v4"])).await;
    server.change(&path, |found| found["spec"]["versions"][1]["name"] = json!("v4")).await;
    server.until_answered("/openapi/v2", shows(&["v1", "v4"], &["v2"])).await;
    server.get("/apis/renamed.example.com/v4/foos").await;
    server.change(&path, |found| found["spec"]["versions"][1]["served"] = json!(false)).await;
    server.until_answered("/openapi/v2", shows(&["v1"], &["v2", "v4"])).await;
    assert_eq!(server.admin.ask("GET", "/apis/renamed.example.com/v4/foos", "").await.unwrap().status, 404);
}

async fn a_schema_that_keeps_unknown_fields_is_published_so(server: Server) {
    let keeps = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(&server, &definition("nested.example.com", "Foo", json!({"spec": keeps}))).await;
    let mut root = definition("root.example.com", "Foo", json!({}));
    root["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = keeps;
    define(&server, &root).await;
    let nested = until_published(&server, "com.example.nested.v1.Foo").await;
    assert_eq!(nested["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"], true);
    // Version 2 says no more of it than that it is an object: its clients would take any properties for all there are.
    let root = until_published(&server, "com.example.root.v1.Foo").await;
    assert_eq!((&root["type"], root.get("properties")), (&json!("object"), None));
    for group in ["nested.example.com", "root.example.com"] {
        let path = format!("{}?fieldValidation=Strict", collection(group, "foos"));
        let made =
            server.post(&path, &object(group, "Foo", "one", &json!({"spec": {"any": ["thing", {"x": 1}]}}))).await;
        assert_eq!(made["spec"], json!({"any": ["thing", {"x": 1}]}));
    }
}

async fn apply(server: &Server, path: &str, object: &str) -> Answer {
    let path = format!("{path}?fieldManager=tester&fieldValidation=Strict");
    server.admin.ask_as("PATCH", &path, "application/apply-patch+yaml", object.to_owned()).await.unwrap()
}

async fn objects_of_a_kind_without_a_schema_keep_what_they_say(server: Server) {
    let mut loose = definition("loose.example.com", "Foo", json!({}));
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(&server, &loose).await;
    let path = format!("{}/one", collection("loose.example.com", "foos"));
    let yaml = "apiVersion: loose.example.com/v1\nkind: Foo\nmetadata:\n  name: one\nspec:\n  unknown: uk1\n";
    let made = done(&apply(&server, &path, yaml).await);
    assert_eq!(made["spec"]["unknown"], "uk1");
    let second = done(&apply(&server, &path, &yaml.replace("uk1", "uk2")).await);
    assert_eq!(second["spec"]["unknown"], "uk2");
}

async fn objects_are_held_against_their_schema(server: Server) {
    let ports = json!({"type": "array", "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}});
    let properties = spec(json!({"name": {"type": "string", "maxLength": 5}, "ports": ports}));
    define(&server, &definition("held.example.com", "Foo", properties)).await;
    let foos = collection("held.example.com", "foos");
    let good = object("held.example.com", "Foo", "good", &json!({"spec": {"name": "short", "ports": [{"port": 1}]}}));
    done(&apply(&server, &format!("{foos}/good"), &good.to_string()).await);
    server
        .post(
            &foos,
            &object(
                "held.example.com",
                "Foo",
                "posted",
                &good.as_object().map(|all| json!({"spec": all["spec"]})).unwrap(),
            ),
        )
        .await;
    let strict = format!("{foos}?fieldValidation=Strict");
    let extra =
        object("held.example.com", "Foo", "bad", &json!({"spec": {"unknown": 1, "ports": [{"port": 1, "extra": 2}]}}));
    let message = refused(&server.ask("POST", &strict, &extra).await, 400, "BadRequest");
    let faults = "strict decoding error: unknown field \"spec.ports[0].extra\", unknown field \"spec.unknown\"";
    assert_eq!(message, format!("Foo in version \"v1\" cannot be handled as a Foo: {faults}"));
    let message = apply(&server, &format!("{foos}/bad"), &extra.to_string()).await;
    assert!(message.text().contains("field not declared in schema"), "{}", message.text());
    let wrong = object("held.example.com", "Foo", "bad", &json!({"spec": {"name": "too long", "ports": [{}]}}));
    let message = refused(&server.ask("POST", &foos, &wrong).await, 422, "Invalid");
    assert_eq!(
        message,
        "Foo.held.example.com \"bad\" is invalid: [spec.name: Too long: may not be more than 5 bytes, spec.ports[0].port: Required value]"
    );
}

async fn duplicates_are_found_though_unknown_fields_are_kept(server: Server) {
    let mut loose = definition("double.example.com", "Foo", json!({}));
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(&server, &loose).await;
    let foos = collection("double.example.com", "foos");
    let json = r#"{"apiVersion":"double.example.com/v1","kind":"Foo","metadata":{"name":"one"},
        "spec":{"unknown":1,"foo":"a","foo":"b"}}"#;
    let path = format!("{foos}?fieldValidation=Strict");
    let message = refused(&server.admin.ask("POST", &path, json).await.unwrap(), 400, "BadRequest");
    assert!(message.ends_with("a Foo: strict decoding error: duplicate field \"spec.foo\""), "{message}");
    let yaml = "apiVersion: double.example.com/v1\nkind: Foo\nmetadata:\n  name: one\nspec:\n  unknown: 1\n  foo: a\n  foo: b\n";
    let answer = server.admin.ask_as("POST", &path, "application/yaml", yaml).await.unwrap();
    let message = refused(&answer, 400, "BadRequest");
    assert!(message.contains("key \"foo\" already set in map"), "{message}");
}

async fn unknown_metadata_of_custom_objects_is_found(server: Server) {
    let inner =
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    define(&server, &definition("embedded.example.com", "Foo", spec(json!({"template": inner})))).await;
    let path = format!("{}?fieldValidation=Strict", collection("embedded.example.com", "foos"));
    let inner = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "unknownSub": "y"}});
    let mut embedding = object("embedded.example.com", "Foo", "one", &json!({"spec": {"template": inner}}));
    embedding["metadata"]["unknownMeta"] = json!("x");
    let message = refused(&server.ask("POST", &path, &embedding).await, 400, "BadRequest");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSub"] {
        assert!(message.contains(&format!("unknown field {field:?}")), "{message}");
    }
}

async fn rules_judge_objects_and_transitions(server: Server) {
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min is above max"},
        {"rule": "self.max >= oldSelf.max", "message": "max never shrinks"},
    ]);
    let number = json!({"type": "integer"});
    let mut properties = spec(json!({"min": number, "max": number}));
    properties["spec"]["x-kubernetes-validations"] = rules;
    define(&server, &definition("rules.example.com", "Foo", properties)).await;
    let foos = collection("rules.example.com", "foos");
    let bounds = |name: &str, min: i32, max: i32| {
        object("rules.example.com", "Foo", name, &json!({"spec": {"min": min, "max": max}}))
    };
    let message = refused(&server.ask("POST", &foos, &bounds("bad", 3, 2)).await, 422, "Invalid");
    assert_eq!(message, "Foo.rules.example.com \"bad\" is invalid: spec: Invalid value: min is above max");
    server.post(&foos, &bounds("good", 1, 5)).await;
    let media = "application/merge-patch+json";
    let shrink = server.admin.ask_as("PATCH", &format!("{foos}/good"), media, r#"{"spec":{"max":4}}"#).await.unwrap();
    assert!(refused(&shrink, 422, "Invalid").ends_with("spec: Invalid value: max never shrinks"), "{}", shrink.text());
    let mut broken = definition("broken-rules.example.com", "Foo", spec(json!({"min": number})));
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "self.spec.nothing > 1"}]);
    let message = refused(&server.ask("POST", DEFINITIONS, &broken).await, 422, "Invalid");
    assert!(message.contains("compilation failed"), "{message}");
}

async fn fields_may_be_selected_by(server: Server) {
    let mut selectable = definition("selected.example.com", "Foo", spec(json!({"color": {"type": "string"}})));
    selectable["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    define(&server, &selectable).await;
    let foos = collection("selected.example.com", "foos");
    let mut events = server.watch(&format!("{foos}?watch=1&fieldSelector=spec.color%3Dblue")).await;
    for (name, color) in [("one", "red"), ("two", "blue")] {
        server.post(&foos, &object("selected.example.com", "Foo", name, &json!({"spec": {"color": color}}))).await;
    }
    let blue = server.get(&format!("{foos}?fieldSelector=spec.color%3Dblue")).await;
    assert_eq!((blue["items"].as_array().unwrap().len(), &blue["items"][0]["metadata"]["name"]), (1, &json!("two")));
    assert_eq!(events.next().await.1["metadata"]["name"], "two");
    server.merge(&format!("{foos}/one"), &json!({"spec": {"color": "blue"}})).await;
    assert_eq!(events.next().await.0, "ADDED");
    server.delete(&format!("{foos}?fieldSelector=spec.color%3Dblue")).await;
    assert_eq!(server.get(&foos).await["items"], json!([]));
}

async fn a_scale_of_a_custom_object_is_served(server: Server) {
    let mut scaled = definition(
        "scaled.example.com",
        "Foo",
        json!({
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}},
        }),
    );
    scaled["spec"]["versions"][0]["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector",
    }});
    define(&server, &scaled).await;
    let foos = collection("scaled.example.com", "foos");
    let one = format!("{foos}/one");
    server
        .post(&foos, &object("scaled.example.com", "Foo", "one", &json!({"spec": {"size": 1}, "status": {"size": 9}})))
        .await;
    server
        .merge(&format!("{one}/status"), &json!({"status": {"size": 1, "selector": "a=b"}, "spec": {"size": 7}}))
        .await;
    let scale = server.get(&format!("{one}/scale")).await;
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 1, "selector": "a=b"}))
    );
    server.merge(&format!("{one}/scale"), &json!({"spec": {"replicas": 3}})).await;
    let found = server.get(&one).await;
    assert_eq!((&found["spec"]["size"], &found["metadata"]["generation"]), (&json!(3), &json!(2)));

    // Applied, it may say who owns the number, and not change it.
    let apply = async |replicas: i64, force: bool| {
        let path = format!("{one}/scale?fieldManager=hpa&force={force}");
        let scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": replicas}});
        server.admin.ask_as("PATCH", &path, "application/apply-patch+yaml", scale.to_string()).await.unwrap()
    };
    assert!(refused(&apply(4, false).await, 409, "Conflict").contains("using autoscaling/v1: .spec.replicas"));
    let forced = apply(4, true).await;
    assert!(forced.status == 500 && forced.text().contains("failed to convert new object (/; "), "{}", forced.text());
    assert_eq!(apply(3, false).await.status, 200);
    let found = server.get(&one).await;
    let owners = found["metadata"]["managedFields"].as_array().unwrap();
    let own = owners.iter().find(|entry| entry["manager"] == "hpa").unwrap();
    assert_eq!((&own["operation"], &own["subresource"]), (&json!("Apply"), &json!("scale")));
    assert_eq!((&own["fieldsV1"], &found["spec"]), (&json!({"f:spec": {"f:size": {}}}), &json!({"size": 3})));

    // One that does not say how many it wants has no scale, and a patch has to say it.
    let bare = format!("{foos}/bare");
    server.post(&foos, &object("scaled.example.com", "Foo", "bare", &json!({"spec": {}}))).await;
    let merge = "application/merge-patch+json";
    for patch in [json!({}), json!({"metadata": {"labels": {"a": "b"}}}), json!({"spec": {}})] {
        let answer = server.admin.ask_as("PATCH", &format!("{bare}/scale"), merge, patch.to_string()).await.unwrap();
        let message = refused(&answer, 400, "BadRequest");
        assert_eq!(message, "the spec replicas field \".spec.size\" cannot be empty", "{patch}");
    }
    assert_eq!(server.get(&bare).await["spec"], json!({}));
    server.merge(&format!("{bare}/scale"), &json!({"spec": null})).await;
    assert_eq!(server.get(&bare).await["spec"], json!({"size": 0}));
    // None at all is not written: it can't be taken away or tested for, and may be replaced.
    let patch = async |operation: Value| {
        let (path, body) = (format!("{bare}/scale"), json!([operation]).to_string());
        server.admin.ask_as("PATCH", &path, "application/json-patch+json", body).await.unwrap().status
    };
    assert_eq!(patch(json!({"op": "remove", "path": "/spec/replicas"})).await, 422);
    assert_eq!(patch(json!({"op": "test", "path": "/spec/replicas", "value": 0})).await, 422);
    assert_eq!(patch(json!({"op": "replace", "path": "/spec/replicas", "value": 4})).await, 200);
    assert_eq!(server.get(&bare).await["spec"], json!({"size": 4}));
}
