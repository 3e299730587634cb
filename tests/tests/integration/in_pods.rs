//! What the server asks may run in a pod of the cluster: a webhook, and an extension server.

use std::{path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, LogParams, PostParams},
};
use martello_tests::{
    cluster::{Cluster, Options},
    load::until_node_is_ready,
    pods,
    raw::Endpoint,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::node_agent::{from_json, is_ready, until};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ASKER: &str = "/apis/extension.example.com/v1/askers/me";
/// Waits for the program, and becomes it.
const RUN: &str =
    "until [ -e /data/complete ]; do sleep 0.1; done; cd /data; exec ./ld-linux-* --library-path . ./extension";

/// The program and the libraries that it is linked to, with a last file that tells that all have come, as an archive.
fn program(folder: &Path) -> Vec<u8> {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().map(|folder| folder.join("extension")).find(|path| path.is_file());
    let program = program.expect("cargo build --workspace --bins makes it");
    let linked = Command::new("ldd").arg(&program).output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for file in libraries.chain([program.as_path()]) {
        std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.join("complete"), "").unwrap();
    // The file that is waited for comes last.
    let files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "complete")
        .chain(["complete".to_owned()])
        .collect();
    Command::new("tar").arg("-C").arg(folder).arg("-c").args(files).output().unwrap().stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_and_an_extension_server_are_reached_in_a_pod() {
    if let Some(why) = pods::hindrance() {
        eprintln!("a_webhook_and_an_extension_server_are_reached_in_a_pod: skipped: {why}");
        return;
    }
    let mut cluster = Cluster::start_with(Options { node: true, ..Options::default() }).await.unwrap();
    let admin = cluster.admin().await.unwrap();
    until_node_is_ready(&admin).await.unwrap();
    pods::import_example(&cluster, "myapp-1.2.0").unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client().await.unwrap());
    run_pod(&admin, &pods).await;
    let authority = put_program(&pods).await;
    a_webhook_labels(&admin, &authority).await;
    an_extension_server_answers(&admin, &authority).await;
}

/// Makes the pod that waits for the program, and its Service.
async fn run_pod(admin: &Endpoint, pods: &Api<Pod>) {
    let pod = json!({
        "metadata": {"name": "extension", "labels": {"app": "extension"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "extension", "image": "myapp:1.2.0", "command": ["sh", "-c", RUN],
                "ports": [{"containerPort": 8443}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    });
    pods.create(&PostParams::default(), &from_json(pod)).await.unwrap();
    let service = json!({"metadata": {"name": "extension"},
        "spec": {"selector": {"app": "extension"}, "ports": [{"port": 443, "targetPort": 8443}]}});
    let made = admin.ask("POST", "/api/v1/namespaces/default/services", service.to_string()).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let started = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    until("the pod runs", async || pods.get("extension").await.ok().filter(|pod| started(pod))).await;
}

/// Puts the program into the pod; answers the authority that vouches for it.
async fn put_program(pods: &Api<Pod>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let params = AttachParams::default().stdin(true).stdout(false).stderr(false);
    let mut unpacking = pods.exec("extension", ["tar", "-x", "-C", "/data"], &params).await.unwrap();
    let (mut stdin, unpacked) = (unpacking.stdin().unwrap(), unpacking.take_status().unwrap());
    stdin.write_all(&program(folder.path())).await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let unpacked = unpacked.await.expect("how it ended is told");
    assert_eq!(unpacked.status.as_deref(), Some("Success"), "{unpacked:?}");
    until("the program answers", async || pods.get("extension").await.ok().filter(is_ready)).await;
    let authority = pods.logs("extension", &LogParams::default()).await.unwrap();
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"), "{authority}");
    STANDARD.encode(authority)
}

async fn a_webhook_labels(admin: &Endpoint, authority: &str) {
    let service = json!({"name": "extension", "namespace": "default", "path": "/label"});
    let webhook = json!({"metadata": {"name": "label"}, "webhooks": [{
        "name": "label.example.com", "clientConfig": {"service": service, "caBundle": authority},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "admissionReviewVersions": ["v1"], "sideEffects": "None",
    }]});
    let place = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let made = admin.ask("POST", place, webhook.to_string()).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let object = json!({"metadata": {"generateName": "labelled-"}}).to_string();
    let labels = until("the webhook is asked", async || {
        let made = admin.ask("POST", CONFIG_MAPS, object.clone()).await.unwrap();
        let labels = made.json().pointer("/metadata/labels").cloned();
        labels.filter(|_| made.status == 201)
    })
    .await;
    assert_eq!(labels, json!({"seen": "yes"}));
}

async fn an_extension_server_answers(admin: &Endpoint, authority: &str) {
    let service = json!({"name": "extension", "namespace": "default"});
    let group = json!({"metadata": {"name": "v1.extension.example.com"}, "spec": {
        "group": "extension.example.com", "version": "v1", "service": service, "caBundle": authority,
        "groupPriorityMinimum": 1000, "versionPriority": 10,
    }});
    let place = "/apis/apiregistration.k8s.io/v1/apiservices";
    let made = admin.ask("POST", place, group.to_string()).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let found: Value = until("the extension server answers", async || {
        let answer = admin.ask("GET", ASKER, "").await.unwrap();
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(found["kind"], "Asker");
    assert!(found["user"].as_str().is_some_and(|user| !user.is_empty()), "{found}");
    let service = admin.ask("GET", &format!("{place}/v1.extension.example.com"), "").await.unwrap().json();
    let condition = &service["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Available"), &json!("True")), "{service}");
}
