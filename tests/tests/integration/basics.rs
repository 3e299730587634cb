//! The verbs as kube-rs and its like use them.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use martello_tests::cluster::Cluster;
use serde_json::json;

use crate::answers::{config_map, done, refused};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(config_map(name)).unwrap()
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the server: {other}"),
    }
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await.unwrap());
    let post = PostParams::default();

    let made = maps.create(&post, &map("one")).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some() && made.resource_version().is_some());
    assert_eq!(code(maps.create(&post, &map("one")).await.unwrap_err()), 409);
    assert_eq!(maps.get("one").await.unwrap(), made);

    let mut changed = made.clone();
    changed.data.as_mut().unwrap().insert("key".to_owned(), "other".to_owned());
    let changed = maps.replace("one", &post, &changed).await.unwrap();
    assert_ne!(changed.resource_version(), made.resource_version());
    assert_eq!(changed.uid(), made.uid());
    assert_eq!(code(maps.replace("one", &post, &made).await.unwrap_err()), 409, "the revision is old");

    let merge = Patch::Merge(json!({"data": {"key": null, "new": "1"}}));
    let patched = maps.patch("one", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(patched.data.unwrap().into_iter().collect::<Vec<_>>(), [("new".to_owned(), "1".to_owned())]);
    let strategic = Patch::Strategic(json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(maps.patch("one", &PatchParams::default(), &strategic).await.unwrap().labels()["a"], "b");

    maps.delete("one", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("one").await.unwrap_err()), 404);
    assert_eq!(code(maps.delete("one", &DeleteParams::default()).await.unwrap_err()), 404);
}

#[tokio::test]
async fn a_cluster_has_its_namespaces_and_a_new_one_gets_what_it_needs() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(namespaces.get(name).await.unwrap().status.unwrap().phase.as_deref(), Some("Active"));
    }
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(shop).unwrap()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client, "shop");
    until(&maps, "kube-root-ca.crt").await;
    until(&accounts, "default").await;

    maps.create(&PostParams::default(), &map("one")).await.unwrap();
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let gone = kube::runtime::wait::await_condition(namespaces, "shop", |shop: Option<&Namespace>| shop.is_none());
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the namespace is gone in time").unwrap();
    assert_eq!(code(maps.get("one").await.unwrap_err()), 404);
}

/// Waits until an object is there.
async fn until<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let there = kube::runtime::wait::await_condition(api.clone(), name, |object: Option<&K>| object.is_some());
    tokio::time::timeout(Duration::from_secs(60), there)
        .await
        .unwrap_or_else(|_| panic!("{name} did not appear"))
        .unwrap();
}

#[tokio::test]
async fn lists_come_in_pages_at_one_revision_and_by_label() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await.unwrap(), "kube-node-lease");
    for index in 0..7 {
        let mut one = map(&format!("page-{index}"));
        one.metadata.labels = Some([("parity".to_owned(), (index % 2).to_string())].into());
        maps.create(&PostParams::default(), &one).await.unwrap();
    }
    let all = maps.list(&ListParams::default().labels("parity")).await.unwrap();
    assert_eq!(all.items.len(), 7);
    assert_eq!(maps.list(&ListParams::default().labels("parity=1")).await.unwrap().items.len(), 3);
    assert_eq!(
        maps.list(&ListParams::default().labels("parity notin (1)"))
            .await
            .unwrap()
            .items
            .iter()
            .filter(|map| map.name_any().starts_with("page-"))
            .count(),
        4
    );
    let by_name = ListParams::default().fields("metadata.name=page-3");
    assert_eq!(maps.list(&by_name).await.unwrap().items.len(), 1);

    let first = maps.list(&ListParams::default().labels("parity").limit(3)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    // What comes after the first page's revision is not in the later pages.
    maps.delete("page-6", &DeleteParams::default()).await.unwrap();
    let mut rest = ListParams::default().labels("parity").limit(100);
    rest.continue_token = Some(token);
    let second = maps.list(&rest).await.unwrap();
    assert_eq!(first.items.len() + second.items.len(), 7);
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
}

#[tokio::test]
async fn a_watch_shows_every_change_once_and_in_order() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await.unwrap(), "kube-public");
    let start = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &map("seen")).await.unwrap();
    for value in 0..10 {
        let patch = Patch::Merge(json!({"data": {"key": value.to_string()}}));
        maps.patch("seen", &PatchParams::default(), &patch).await.unwrap();
    }
    maps.delete("seen", &DeleteParams::default()).await.unwrap();
    let parameters = WatchParams::default().fields("metadata.name=seen").timeout(60);
    let events = maps.watch(&parameters, &start).await.unwrap().boxed();
    let events: Vec<_> = events
        .try_filter(|event| std::future::ready(!matches!(event, WatchEvent::Bookmark(_))))
        .take(12)
        .try_collect()
        .await
        .unwrap();
    let names: Vec<&str> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            _ => "other",
        })
        .collect();
    assert_eq!(names, [&["added"][..], &["modified"; 10], &["deleted"]].concat());
}

#[tokio::test]
async fn an_informer_syncs_by_list_and_by_streaming_list() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await.unwrap(), "default");
    for index in 0..20 {
        maps.create(&PostParams::default(), &map(&format!("synced-{index}"))).await.unwrap();
    }
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let objects = watcher(maps.clone(), config).applied_objects().boxed();
        let synced = objects.try_filter(|map| std::future::ready(map.name_any().starts_with("synced-"))).take(20);
        let synced: Result<Vec<_>, _> =
            tokio::time::timeout(Duration::from_secs(30), synced.try_collect()).await.expect("the informer syncs");
        assert_eq!(synced.unwrap().len(), 20);
    }
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_names_can_be_generated() {
    let mut cluster = Cluster::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await.unwrap());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("dry")).await.unwrap();
    assert_eq!(code(maps.get("dry").await.unwrap_err()), 404);
    let mut generated = map("x");
    generated.metadata.name = None;
    generated.metadata.generate_name = Some("gen-".to_owned());
    let names = [
        maps.create(&PostParams::default(), &generated).await.unwrap().name_any(),
        maps.create(&PostParams::default(), &generated).await.unwrap().name_any(),
    ];
    assert!(names.iter().all(|name| name.starts_with("gen-") && name.len() == 9) && names[0] != names[1], "{names:?}");
}

#[tokio::test]
async fn tables_metadata_yaml_and_gzip_are_served() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: from-yaml\ndata:\n  key: value\n";
    done(&admin.ask_as("POST", MAPS, "application/yaml", yaml).await.unwrap());
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = done(&admin.ask_with("GET", MAPS, &table, "").await.unwrap());
    assert_eq!(table["kind"], "Table");
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Data", "Age"]);
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let partial = done(&admin.ask_with("GET", MAPS, &partial, "").await.unwrap());
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("data").is_none());
    let yaml =
        admin.ask_with("GET", &format!("{MAPS}/from-yaml"), &[("accept", "application/yaml")], "").await.unwrap();
    assert!(yaml.text().contains("kind: ConfigMap"), "{}", yaml.text());
    let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"key": "x".repeat(300_000)}});
    done(&admin.ask("POST", MAPS, big.to_string()).await.unwrap());
    let zipped = admin.ask_with("GET", &format!("{MAPS}/big"), &[("accept-encoding", "gzip")], "").await.unwrap();
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    assert!(zipped.body.len() < 10_000);
}

#[tokio::test]
async fn an_object_of_a_namespaced_kind_has_no_path_outside_of_its_namespace() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    done(&admin.ask("POST", MAPS, config_map("one").to_string()).await.unwrap());
    refused(&admin.ask("GET", "/api/v1/configmaps/one", "").await.unwrap(), 404, "NotFound");
    refused(&admin.ask("GET", "/api/v1/pods/one/log", "").await.unwrap(), 404, "NotFound");
    let made = admin.ask("POST", "/api/v1/configmaps", config_map("two").to_string()).await.unwrap();
    refused(&made, 405, "MethodNotAllowed");
    // A field selector's name is none of the path.
    let listed = admin.ask("GET", "/api/v1/configmaps?fieldSelector=metadata.name%3Done", "").await.unwrap();
    assert_eq!(done(&listed)["items"][0]["metadata"]["name"], "one");
}

#[tokio::test]
async fn a_scale_is_shown_in_columns_of_its_own() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "myapp:1.2.0"}]}}});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    done(&admin.ask("POST", deployments, web.to_string()).await.unwrap());
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let scale = admin.ask_with("GET", &format!("{deployments}/web/scale"), &table, "").await.unwrap();
    let scale = done(&scale);
    let columns: Vec<&str> =
        scale["columnDefinitions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(scale["rows"][0]["cells"].as_array().unwrap()[..3], [json!("web"), json!(0), json!(0)]);
}

#[tokio::test]
async fn a_deployment_makes_pods_and_takes_them_along() {
    let mut cluster = Cluster::start().await.unwrap();
    let client = cluster.client().await.unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "myapp:1.2.0"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec});
    deployments.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    pods_become(&pods, 3).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();
    pods_become(&pods, 1).await;
    let background =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    deployments.delete("web", &background).await.unwrap();
    pods_become(&pods, 0).await;
}

/// Waits until there are so many pods.
async fn pods_become(pods: &Api<Pod>, count: usize) {
    let (reader, writer) = kube::runtime::reflector::store();
    let changes = kube::runtime::reflector(writer, watcher(pods.clone(), watcher::Config::default())).boxed();
    let reached = changes.try_filter(|_| std::future::ready(reader.state().len() == count));
    let reached = async { std::pin::pin!(reached).next().await };
    let found = tokio::time::timeout(Duration::from_secs(60), reached).await;
    assert!(found.is_ok(), "there are {} pods, not {count}", reader.state().len());
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(admin.ask("GET", path, "").await.unwrap().text(), "ok");
    }
    let verbose = admin.ask("GET", "/readyz?verbose", "").await.unwrap().text();
    assert!(verbose.contains("[+]ping ok") && verbose.contains("readyz check passed"), "{verbose}");
    let metrics = admin.ask("GET", "/metrics", "").await.unwrap().text();
    for line in [
        "\n# TYPE apiserver_request_total counter\n",
        "\napiserver_request_duration_seconds_bucket{",
        "\napiserver_response_sizes_count{",
        "\napiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"} ",
        "\napiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} ",
        "\napiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"} ",
        "\nauthentication_attempts_total{result=\"success\"} ",
        "\nprocess_start_time_seconds ",
        // Our own controllers watch.
        "\napiserver_watch_events_total{group=\"apps\",version=\"v1\",resource=\"deployments\"} ",
        "\napiserver_longrunning_requests{verb=\"WATCH\",group=\"apps\",version=\"v1\",resource=\"deployments\",\
         subresource=\"\",scope=\"cluster\",component=\"apiserver\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    assert!(
        !metrics.contains("resource=\"deployments\",subresource=\"\",scope=\"cluster\",component=\"apiserver\"} 0\n")
    );
    refused(&admin.ask("GET", "/api/v1/namespaces/default/nothings", "").await.unwrap(), 404, "NotFound");
    let status = cluster.stop().await.unwrap();
    assert!(status.success(), "a server that is told to stop ends with success, not {status}");
}
