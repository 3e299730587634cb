//! Custom resources as operators use them: defined, served, changed, collected, removed.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
    },
    core::GroupVersionKind,
    runtime::wait::{await_condition, conditions},
};
use martello_tests::cluster::Cluster;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn definition() -> CustomResourceDefinition {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "default": 1, "maximum": 9},
        "color": {"type": "string"},
    }}}});
    let found = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                 "selectableFields": [{"jsonPath": ".spec.color"}]},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema},
                 "selectableFields": [{"jsonPath": ".spec.color"}]},
            ],
        },
    });
    serde_json::from_value(found).unwrap()
}

fn widgets(client: &Client, version: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", version, "Widget"), "widgets");
    Api::default_namespaced_with(client.clone(), &kind)
}

fn widget(name: &str, spec: Value) -> DynamicObject {
    let found = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(found).unwrap()
}

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let established = await_condition(definitions, "widgets.example.com", conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.expect("established in time").unwrap();
}

async fn undefine(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    let gone =
        await_condition(definitions, "widgets.example.com", |found: Option<&CustomResourceDefinition>| found.is_none());
    tokio::time::timeout(PATIENCE, gone).await.expect("gone in time").unwrap();
}

#[tokio::test]
async fn a_custom_kind_is_served_and_published_as_soon_as_it_is_established() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    define(&client).await;
    let api = widgets(&client, "v1");
    let made = api.create(&PostParams::default(), &widget("a", json!({"color": "red"}))).await.unwrap();
    assert_eq!(made.data["spec"], json!({"color": "red", "size": 1}));
    assert_eq!(made.metadata.generation, Some(1));
    api.create(&PostParams::default(), &widget("b", json!({"color": "blue"}))).await.unwrap();
    let blue = api.list(&ListParams::default().fields("spec.color=blue")).await.unwrap();
    assert_eq!(blue.items.iter().map(|found| found.name_any()).collect::<Vec<_>>(), ["b"]);

    let refused = api.create(&PostParams::default(), &widget("c", json!({"size": 10}))).await.unwrap_err();
    let kube::Error::Api(refused) = refused else { panic!("the server answers") };
    assert_eq!(
        refused.message,
        "Widget.example.com \"c\" is invalid: spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"
    );

    let mut events = widgets(&client, "v1beta1").watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let merge = Patch::Merge(json!({"spec": {"size": 5}}));
    api.patch("a", &PatchParams::default(), &merge).await.unwrap();
    loop {
        let event = tokio::time::timeout(PATIENCE, events.try_next()).await.expect("an event in time").unwrap();
        if let Some(WatchEvent::Modified(changed)) = event {
            assert_eq!(changed.types.unwrap().api_version, "example.com/v1beta1");
            assert_eq!(changed.data["spec"]["size"], 5);
            break;
        }
    }

    let admin = cluster.admin().await.unwrap();
    let group = admin.ask("GET", "/apis/example.com", "").await.unwrap().json();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let schemas = admin.ask("GET", "/openapi/v3/apis/example.com/v1", "").await.unwrap().json();
    let spec = &schemas["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec["properties"]["size"]["maximum"], 9);
    let second = admin.ask("GET", "/openapi/v2", "").await.unwrap().json();
    assert!(second["definitions"]["com.example.v1.Widget"].is_object());

    undefine(&client).await;
    assert_eq!(admin.ask("GET", "/apis/example.com/v1/widgets", "").await.unwrap().text(), "404 page not found\n");
    assert_eq!(admin.ask("GET", "/apis/example.com", "").await.unwrap().status, 404);
    define(&client).await;
    assert!(widgets(&client, "v1").list(&ListParams::default()).await.unwrap().items.is_empty(), "objects went too");
}

#[tokio::test]
async fn a_new_default_is_seen_in_objects_that_were_stored_before_it() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    define(&client).await;
    let api = widgets(&client, "v1");
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut changed = serde_json::to_value(definitions.get("widgets.example.com").await.unwrap()).unwrap();
    let schema = &mut changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["color"]["default"] = json!("green");
    let changed: CustomResourceDefinition = serde_json::from_value(changed).unwrap();
    definitions.replace("widgets.example.com", &PostParams::default(), &changed).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while api.get("a").await.unwrap().data["spec"]["color"] != "green" {
        assert!(tokio::time::Instant::now() < deadline, "the default is not seen");
        tokio::task::yield_now().await;
    }
    let green = api.list(&ListParams::default().fields("spec.color=green")).await.unwrap();
    assert_eq!(green.items.len(), 1, "selectors see the default, too");
}

#[tokio::test]
async fn dependents_of_a_custom_object_go_with_it() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    define(&client).await;
    let api = widgets(&client, "v1");
    let owner = api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "example.com/v1", "kind": "Widget", "name": "a", "uid": owner.uid().unwrap()},
    ]}});
    maps.create(&PostParams::default(), &serde_json::from_value(owned).unwrap()).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(maps, "owned", |map: Option<&ConfigMap>| map.is_none());
    tokio::time::timeout(PATIENCE, gone).await.expect("collected in time").unwrap();
}

#[tokio::test]
async fn custom_objects_are_there_after_a_restart() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    define(&client).await;
    widgets(&client, "v1").create(&PostParams::default(), &widget("a", json!({"size": 3}))).await.unwrap();
    cluster.kill().unwrap();
    cluster.boot().await.unwrap();
    let client = cluster.client().await.unwrap();
    assert_eq!(
        widgets(&client, "v1").get("a").await.unwrap().data["spec"]["size"],
        3,
        "served from the first request on"
    );
}
