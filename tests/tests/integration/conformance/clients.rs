//! What `kubectl` does for people, with the newest version that this machine has.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use martello_tests::kubectl::{Kubectl, all};
use serde_json::{Value, json};

use super::{Server, facts, kubelet};
use crate::answers::pod;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_for_people() {
    let (_cluster, server) = Server::start().await;
    kubelet::start(&server, &["node-a"]).await;
    facts!(server;
        versions_and_the_cluster_are_told,
        a_controller_is_run_scaled_described_and_exposed,
        a_pod_is_run_labelled_patched_and_replaced,
        a_change_is_shown_before_it_is_made,
        a_proxy_serves_the_api_without_credentials,
        custom_kinds_are_explained_and_validated,
    );
}

/// The newest `kubectl` of this machine.
fn newest(server: &Server) -> Kubectl {
    let minor = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.rsplit('.').next()?.parse::<u32>().ok()
    };
    let found = all().into_iter().max_by_key(minor).expect("this machine has a kubectl");
    Kubectl::new(&found, &server.kubeconfig)
}

/// Runs it off the runtime's threads.
async fn run(server: &Server, arguments: &[&str], input: &str) -> String {
    let (kubectl, input) = (newest(server), input.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        kubectl.run_with(&arguments, &input).unwrap()
    });
    ran.await.unwrap()
}

async fn fails(server: &Server, arguments: &[&str], input: &str) -> String {
    let (kubectl, input) = (newest(server), input.to_owned());
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        kubectl.try_with(&arguments, &input).unwrap()
    });
    let output = ran.await.unwrap();
    assert!(!output.success, "{}", output.stdout);
    output.stderr
}

async fn versions_and_the_cluster_are_told(server: Server) {
    let versions = run(&server, &["api-versions"], "").await;
    for version in ["v1", "apps/v1", "batch/v1"] {
        assert!(versions.lines().any(|line| line == version), "{versions}");
    }
    let told: Value = serde_json::from_str(&run(&server, &["version", "-o", "json"], "").await).unwrap();
    for part in ["major", "minor", "gitVersion"] {
        assert!(told["serverVersion"][part].is_string() && told["clientVersion"][part].is_string(), "{told}");
    }
    let cluster = run(&server, &["cluster-info"], "").await;
    assert!(cluster.contains("Kubernetes control plane") && cluster.contains("is running at"), "{cluster}");
}

async fn a_controller_is_run_scaled_described_and_exposed(server: Server) {
    server.namespace("rc").await;
    let labels = json!({"app": "agnhost", "role": "primary"});
    let container =
        json!({"name": "primary", "image": "myapp:1.2.0", "ports": [{"name": "port", "containerPort": 6379}]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "agnhost", "labels": labels},
        "spec": {"replicas": 2, "selector": labels, "template": template},
    });
    run(&server, &["create", "-n", "rc", "-f", "-"], &controller.to_string()).await;
    let path = "/api/v1/namespaces/rc/replicationcontrollers/agnhost";
    for replicas in [2, 1, 2] {
        run(&server, &["scale", "rc", "agnhost", "-n", "rc", &format!("--replicas={replicas}")], "").await;
        server.until(path, |found| found["status"]["readyReplicas"] == replicas).await;
    }
    let described = run(&server, &["describe", "rc", "agnhost", "-n", "rc"], "").await;
    for part in
        ["Name:         agnhost", "Namespace:    rc", "Replicas:     2 current / 2 desired", "Pods Status:  2 Running"]
    {
        assert!(described.contains(part), "{described}");
    }
    let pods = run(&server, &["describe", "pods", "-l", "app=agnhost", "-n", "rc"], "").await;
    for part in
        ["Status:           Running", "Controlled By:  ReplicationController/agnhost", "Image:          myapp:1.2.0"]
    {
        assert!(pods.contains(part), "{pods}");
    }
    assert!(run(&server, &["describe", "node", "node-a"], "").await.contains("Capacity:"));
    assert!(run(&server, &["describe", "namespace", "rc"], "").await.contains("Status:       Active"));
    run(&server, &["expose", "rc", "agnhost", "-n", "rc", "--name=rm2", "--port=1234", "--target-port=6379"], "").await;
    run(&server, &["expose", "service", "rm2", "-n", "rc", "--name=rm3", "--port=2345", "--target-port=6379"], "")
        .await;
    for (name, port) in [("rm2", 1234), ("rm3", 2345)] {
        let endpoints = format!("/api/v1/namespaces/rc/endpoints/{name}");
        server.until(&endpoints, |found| found["subsets"][0]["ports"][0]["port"] == 6379).await;
        let service = server.get(&format!("/api/v1/namespaces/rc/services/{name}")).await;
        assert_eq!(service["spec"]["ports"][0]["port"], port);
    }
    run(&server, &["delete", "rc", "agnhost", "-n", "rc"], "").await;
    server.gone(path).await;
}

async fn a_pod_is_run_labelled_patched_and_replaced(server: Server) {
    server.namespace("pod").await;
    run(&server, &["run", "one", "-n", "pod", "--image=myapp:1.2.0", "--restart=Never", "--labels=app=one"], "").await;
    let path = "/api/v1/namespaces/pod/pods/one";
    let made = server.until(path, |pod| pod["status"]["phase"] == "Running").await;
    assert_eq!(made["spec"]["restartPolicy"], "Never");
    run(&server, &["label", "pod", "one", "-n", "pod", "testing=yes"], "").await;
    let listed = ["get", "pod", "one", "-n", "pod", "-L", "testing"];
    assert!(run(&server, &listed, "").await.contains("yes"));
    run(&server, &["label", "pod", "one", "-n", "pod", "testing-"], "").await;
    assert!(!run(&server, &listed, "").await.contains("yes"));
    run(&server, &["patch", "pod", "one", "-n", "pod", "-p", "{\"metadata\":{\"annotations\":{\"x\":\"y\"}}}"], "")
        .await;
    assert_eq!(server.get(path).await["metadata"]["annotations"]["x"], "y");
    let patch = "{\"spec\":{\"containers\":[{\"name\":\"one\",\"image\":\"myapp:1.3.0\"}]}}";
    run(&server, &["patch", "pod", "one", "-n", "pod", "--dry-run=server", "-p", patch], "").await;
    assert_eq!(server.get(path).await["spec"]["containers"][0]["image"], "myapp:1.2.0");
    let mut changed = server.get(path).await;
    changed["spec"]["containers"][0]["image"] = json!("myapp:1.3.0");
    run(&server, &["replace", "-n", "pod", "-f", "-"], &changed.to_string()).await;
    assert_eq!(server.get(path).await["spec"]["containers"][0]["image"], "myapp:1.3.0");
    let mut fresh = pod("one");
    fresh["metadata"]["namespace"] = json!("pod");
    run(&server, &["replace", "--force", "-f", "-"], &fresh.to_string()).await;
    let again = server.until(path, |pod| pod["metadata"]["uid"] != made["metadata"]["uid"]).await;
    assert_eq!(again["spec"]["restartPolicy"], "Always");
}

async fn a_change_is_shown_before_it_is_made(server: Server) {
    server.namespace("diff").await;
    let deployment = run(
        &server,
        &["create", "deployment", "web", "--image=myapp:1.2.0", "-n", "diff", "--dry-run=client", "-o", "yaml"],
        "",
    )
    .await;
    run(&server, &["create", "-n", "diff", "-f", "-"], &deployment).await;
    let (kubectl, changed) = (newest(&server), deployment.replace("myapp:1.2.0", "busybox:1"));
    let shown =
        tokio::task::spawn_blocking(move || kubectl.try_with(&["diff", "-n", "diff", "-f", "-"], &changed).unwrap());
    let shown = shown.await.unwrap();
    assert!(!shown.success, "a difference is told by the exit status");
    for line in ["-      - image: myapp:1.2.0", "+      - image: busybox:1"] {
        assert!(shown.stdout.contains(line), "{}", shown.stdout);
    }
}

async fn a_proxy_serves_the_api_without_credentials(server: Server) {
    let kubectl = newest(&server);
    let mut command = Command::new(kubectl.program());
    command.args(["proxy", "--port=0"]).env("KUBECONFIG", &server.kubeconfig).stdout(Stdio::piped());
    let mut proxy = command.spawn().unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines();
    let first = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap()).await.unwrap();
    let address = first.rsplit(' ').next().unwrap().to_owned();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    // The older version: its answers come in one piece.
    let request = format!("GET /api/ HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["versions"], json!(["v1"]), "{answer}");
}

async fn custom_kinds_are_explained_and_validated(server: Server) {
    server.namespace("custom").await;
    let bars = json!({"type": "array", "description": "List of bars.", "items": {
        "type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "description": "Name of the bar."}, "age": {"type": "string"},
        },
    }});
    let spec = json!({"type": "object", "description": "What is wanted.", "properties": {"bars": bars}});
    let schema = json!({"type": "object", "description": "Foo for testing.", "properties": {"spec": spec}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.kubectl.example.com"},
        "spec": {"group": "kubectl.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    });
    run(&server, &["create", "-f", "-"], &definition.to_string()).await;
    run(&server, &["wait", "--for=condition=established", "crd/foos.kubectl.example.com"], "").await;
    let object = |spec: Value| {
        let metadata = json!({"name": "test", "namespace": "custom"});
        json!({"apiVersion": "kubectl.example.com/v1", "kind": "Foo", "metadata": metadata, "spec": spec}).to_string()
    };
    let good = object(json!({"bars": [{"name": "one"}]}));
    run(&server, &["create", "-f", "-"], &good).await;
    run(&server, &["delete", "-f", "-"], &good).await;
    run(&server, &["apply", "-f", "-"], &good).await;
    run(&server, &["apply", "-f", "-"], &good.replace("one", "two")).await;
    let unknown = object(json!({"bars": [{"name": "one", "unknown": 1}]}));
    assert!(fails(&server, &["apply", "-f", "-"], &unknown).await.contains("unknown field \"spec.bars[0].unknown\""));
    let missing = object(json!({"bars": [{"age": "1"}]}));
    assert!(fails(&server, &["create", "-f", "-"], &missing).await.contains("spec.bars[0].name: Required value"));
    let explained = run(&server, &["explain", "foos"], "").await;
    for part in ["KIND:       Foo", "VERSION:    v1", "Foo for testing.", "What is wanted."] {
        assert!(explained.contains(part), "{explained}");
    }
    let nested = run(&server, &["explain", "foos.spec.bars"], "").await;
    assert!(nested.contains("List of bars.") && nested.contains("Name of the bar."), "{nested}");
    assert!(fails(&server, &["explain", "foos.spec.bars2"], "").await.contains("does not exist"));
}
