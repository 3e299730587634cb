//! What operators written with kube-rs rely on: informers that stay up, leaders, kinds found by discovery, controllers.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::ConfigMap,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Discovery, Scope, verbs},
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action,
        reflector::{self, ObjectRef},
        wait::{await_condition, conditions},
        watcher,
    },
};
use martello_tests::cluster::Cluster;
use serde_json::json;

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config_map(name: &str, value: &str) -> ConfigMap {
    let found = json!({"metadata": {"name": name}, "data": {"value": value}});
    serde_json::from_value(found).unwrap()
}

#[tokio::test]
async fn an_informer_stays_up_while_the_server_is_killed_and_starts_again() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await.unwrap());
    maps.create(&PostParams::default(), &config_map("goes", "1")).await.unwrap();
    maps.create(&PostParams::default(), &config_map("stays", "1")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let mut changes = reflector::reflector(writer, watcher(maps.clone(), config).default_backoff()).boxed();
        let value = |name: &str| {
            let found = reader.get(&ObjectRef::new(name).within("default"))?;
            found.data.as_ref()?.get("value").cloned()
        };
        let mut until = async |what: &str, holds: &dyn Fn() -> bool| {
            // Errors are events, too: the server is away for a while.
            let reached = async { while !holds() && changes.next().await.is_some() {} };
            tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{what}: not in time"));
            assert!(holds(), "{what}: the informer ended");
        };
        until("the first sync", &|| value("goes").is_some() && value("stays").is_some()).await;
        cluster.kill().unwrap();
        cluster.boot().await.unwrap();
        maps.delete("goes", &DeleteParams::default()).await.unwrap();
        maps.create(&PostParams::default(), &config_map("comes", "1")).await.unwrap();
        let patch = Patch::Merge(json!({"data": {"value": "2"}}));
        maps.patch("stays", &PatchParams::default(), &patch).await.unwrap();
        let caught_up =
            || value("goes").is_none() && value("comes").is_some() && value("stays").as_deref() == Some("2");
        until("what happened after the restart", &caught_up).await;
        // As it was, for the next way of listing.
        maps.delete("comes", &DeleteParams::default()).await.unwrap();
        maps.create(&PostParams::default(), &config_map("goes", "1")).await.unwrap();
        let patch = Patch::Merge(json!({"data": {"value": "1"}}));
        maps.patch("stays", &PatchParams::default(), &patch).await.unwrap();
    }
}

/// How long a leader leads without renewing.
const TERM: SignedDuration = SignedDuration::from_secs(15);

/// Tries to lead at this time: takes a lease that is free or has expired, or renews an own one. Of several who try with
/// what they read, the server lets one through.
async fn leads(leases: &Api<Lease>, me: &str, now: Timestamp) -> bool {
    let held = |transitions| LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(TERM.as_secs()).unwrap()),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let written = match leases.get_opt("leader").await.unwrap() {
        None => {
            let mut lease = Lease { spec: Some(held(0)), ..Lease::default() };
            lease.metadata.name = Some("leader".to_owned());
            leases.create(&PostParams::default(), &lease).await
        }
        Some(mut lease) => {
            let spec = lease.spec.unwrap_or_default();
            let is_mine = spec.holder_identity.as_deref() == Some(me);
            let is_over = spec.renew_time.is_none_or(|renewed| now.duration_since(renewed.0) > TERM);
            if !is_mine && !is_over {
                return false;
            }
            lease.spec = Some(held(spec.lease_transitions.unwrap_or(0) + i32::from(!is_mine)));
            leases.replace("leader", &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(lease) => lease.spec.and_then(|spec| spec.holder_identity).as_deref() == Some(me),
        Err(kube::Error::Api(status)) if status.code == 409 => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn of_two_candidates_for_a_lease_exactly_one_leads_in_every_term() {
    let mut cluster = Cluster::start().await.unwrap();
    let leases: Api<Lease> = Api::default_namespaced(cluster.client().await.unwrap());
    let mut now: Timestamp = "2026-01-01T00:00:00.123456Z".parse().unwrap();
    let mut changes = 0;
    let mut before = None;
    for _ in 0..20 {
        let (one, two) = join(leads(&leases, "one", now), leads(&leases, "two", now)).await;
        assert!(one ^ two, "one: {one}, two: {two}");
        let leader = if one { "one" } else { "two" };
        let other = if one { "two" } else { "one" };
        changes += i32::from(before.is_some_and(|before| before != leader));
        // It renews, and the other stays out, before the term is over and just before its renewal is.
        now += SignedDuration::from_secs(10);
        assert!(leads(&leases, leader, now).await && !leads(&leases, other, now).await);
        now += TERM;
        assert!(!leads(&leases, other, now).await);
        now += SignedDuration::from_secs(1);
        before = Some(leader);
    }
    // A leader that has gone is followed by the other.
    let leader = before.unwrap();
    let other = if leader == "one" { "two" } else { "one" };
    assert!(leads(&leases, other, now).await && !leads(&leases, leader, now).await);
    let spec = leases.get("leader").await.unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(changes + 1));
    assert_eq!(spec.renew_time, Some(MicroTime(now)), "times keep their microseconds");
}

fn definition() -> CustomResourceDefinition {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
    }});
    let found = json!({
        "metadata": {"name": "plants.operators.example.com"},
        "spec": {
            "group": "operators.example.com", "scope": "Namespaced", "names": {"plural": "plants", "kind": "Plant"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}],
        },
    });
    serde_json::from_value(found).unwrap()
}

fn plant(size: u32) -> DynamicObject {
    let found = json!({"apiVersion": "operators.example.com/v1", "kind": "Plant",
        "metadata": {"name": "one"}, "spec": {"size": size}});
    serde_json::from_value(found).unwrap()
}

async fn define(client: &Client) -> ApiResource {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let established = await_condition(definitions, "plants.operators.example.com", conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.expect("established in time").unwrap();
    let kind = GroupVersionKind::gvk("operators.example.com", "v1", "Plant");
    ApiResource::from_gvk_with_plural(&kind, "plants")
}

#[tokio::test]
async fn a_custom_kind_is_found_by_discovery_and_worked_with() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    define(&client).await;
    let kind = GroupVersionKind::gvk("operators.example.com", "v1", "Plant");
    let one_by_one = Discovery::new(client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    for discovery in [one_by_one, aggregated] {
        let (resource, capabilities) = discovery.resolve_gvk(&kind).expect("the kind is found");
        assert_eq!(resource.plural, "plants");
        assert_eq!(capabilities.scope, Scope::Namespaced);
        assert!(capabilities.supports_operation(verbs::WATCH) && capabilities.supports_operation(verbs::PATCH));
        assert!(capabilities.subresources.iter().any(|(resource, _)| resource.plural.ends_with("status")));
        let plants: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
        plants.create(&PostParams::default(), &plant(1)).await.unwrap();
        let applied = plants.patch("one", &PatchParams::apply("mine").force(), &Patch::Apply(plant(2))).await.unwrap();
        assert_eq!(applied.data["spec"]["size"], 2);
        let status = Patch::Merge(json!({"status": {"size": 2}}));
        plants.patch_status("one", &PatchParams::default(), &status).await.unwrap();
        assert_eq!(plants.get("one").await.unwrap().data["status"]["size"], 2);
        plants.delete("one", &DeleteParams::default()).await.unwrap();
    }
}

struct Operator {
    client: Client,
    kind: ApiResource,
}

/// Gives a plant its ConfigMap, and tells in its status which size that has.
async fn reconcile(plant: Arc<DynamicObject>, operator: Arc<Operator>) -> Result<Action, kube::Error> {
    let size = plant.data["spec"]["size"].clone();
    let owner = plant.controller_owner_ref(&operator.kind);
    let child = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": plant.name_any(), "ownerReferences": [owner]}, "data": {"value": size.to_string()}});
    let maps: Api<ConfigMap> = Api::default_namespaced(operator.client.clone());
    maps.patch(&plant.name_any(), &PatchParams::apply("operator").force(), &Patch::Apply(child)).await?;
    let plants: Api<DynamicObject> = Api::default_namespaced_with(operator.client.clone(), &operator.kind);
    let status = Patch::Merge(json!({"status": {"size": size}}));
    plants.patch_status(&plant.name_any(), &PatchParams::default(), &status).await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn a_controller_reconciles_before_and_after_a_restart_of_the_server() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let kind = define(&client).await;
    let plants: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let operator = Arc::new(Operator { client: client.clone(), kind: kind.clone() });
    let controller = Controller::new_with(plants.clone(), watcher::Config::default(), kind.clone())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), operator);
    let working = tokio::spawn(controller.for_each(|_| std::future::ready(())));

    let child_is = async |value: &'static str| {
        let has = move |map: Option<&ConfigMap>| {
            map.and_then(|map| map.data.as_ref()?.get("value")).is_some_and(|found| found == value)
        };
        let reached = await_condition(maps.clone(), "one", has);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("the child is not of size {value} in time")).unwrap();
    };
    let made = plants.create(&PostParams::default(), &plant(1)).await.unwrap();
    child_is("1").await;
    assert_eq!(maps.get("one").await.unwrap().owner_references()[0].uid, made.uid().unwrap());
    // What somebody did to the child is undone.
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    child_is("1").await;
    cluster.kill().unwrap();
    cluster.boot().await.unwrap();
    let bigger = Patch::Merge(json!({"spec": {"size": 2}}));
    plants.patch("one", &PatchParams::default(), &bigger).await.unwrap();
    child_is("2").await;
    let told = |plant: Option<&DynamicObject>| plant.is_some_and(|plant| plant.data["status"]["size"] == 2);
    tokio::time::timeout(PATIENCE, await_condition(plants.clone(), "one", told)).await.expect("told in time").unwrap();
    // The child goes with its owner.
    let uid = maps.get("one").await.unwrap().uid().unwrap();
    plants.delete("one", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(maps, "one", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("collected in time").unwrap();
    working.abort();
}
