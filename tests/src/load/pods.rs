//! From `kubectl apply` of a pod to the pod Running.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{
    figure::{Figure, Latencies},
    kind::Kind,
    target::Target,
};
use crate::raw::Endpoint;

/// How long a pod may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is applied, how often, and by which program.
#[derive(Clone, Debug)]
pub struct PodLoad {
    /// The `kubectl` that applies.
    pub kubectl: PathBuf,
    /// The container's image, already on the node.
    pub image: String,
    /// How many pods, one after the other.
    pub rounds: usize,
}

/// Applies pods of one container, one after the other; nothing where the cluster has no ready node.
pub async fn apply_to_running(target: &Target, load: &PodLoad) -> Result<Option<Figure>> {
    if !has_ready_node(&target.endpoint).await? {
        return Ok(None);
    }
    let namespace = target.namespace("pods").await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut latencies = Latencies::default();
    for round in 0..load.rounds {
        let name = format!("one-{round}");
        let mut connection = target.connect().await?;
        let watch = format!("{path}?watch=1&fieldSelector=metadata.name%3D{name}");
        let request = connection.request("GET", &watch, &[], Bytes::new())?;
        let events = connection.send(request).await?.into_body();
        let began = Instant::now();
        let (applied, running) =
            tokio::join!(apply(target, load, &namespace, &name), timeout(PATIENCE, until_running(events)));
        applied?;
        running.with_context(|| format!("the pod {name} was not running after {PATIENCE:?}"))??;
        latencies.push(began.elapsed());
        target.endpoint.ask("DELETE", &format!("{path}/{name}?gracePeriodSeconds=0"), "").await?;
    }
    target.remove(&namespace, Kind::ConfigMap).await?;
    Ok(Some(latencies.describe(Figure::named("apply_to_running").of("pods", load.rounds))))
}

/// Waits until the cluster has a node that is ready.
pub async fn until_node_is_ready(endpoint: &Endpoint) -> Result<()> {
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    let ready = async {
        while !has_ready_node(endpoint).await? {
            interval.tick().await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, ready).await.with_context(|| format!("no node was ready after {PATIENCE:?}"))?
}

async fn has_ready_node(endpoint: &Endpoint) -> Result<bool> {
    let nodes = endpoint.ask("GET", "/api/v1/nodes", "").await?.json();
    let items = nodes.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().any(|node| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let holds = |one: &Value| {
            one.get("type").and_then(Value::as_str) == Some("Ready")
                && one.get("status").and_then(Value::as_str) == Some("True")
        };
        conditions.is_some_and(|conditions| conditions.iter().any(holds))
    }))
}

async fn apply(target: &Target, load: &PodLoad, namespace: &str, name: &str) -> Result<()> {
    let container = json!({"name": "one", "image": load.image, "imagePullPolicy": "IfNotPresent"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    });
    let mut command = Command::new(&load.kubectl);
    command.args(["apply", "-f", "-"]).env("KUBECONFIG", &target.kubeconfig);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.spawn().with_context(|| format!("run {}", load.kubectl.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(pod.to_string().as_bytes()).await.context("write to kubectl")?;
    }
    let status = child.wait().await.context("wait for kubectl")?;
    ensure!(status.success(), "kubectl apply ended with {status}");
    Ok(())
}

async fn until_running(mut events: Incoming) -> Result<()> {
    let mut pending = Vec::new();
    loop {
        let frame = events.frame().await.context("the watch ended")?.context("read the watch")?;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).context("read an event")?;
            if event.pointer("/object/status/phase").and_then(Value::as_str) == Some("Running") {
                return Ok(());
            }
        }
    }
}
