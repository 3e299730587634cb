//! Workers against a runtime, images and an API server in memory.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    config::Config,
    context::Context,
    events::Recorder,
    fakes::{FakeApi, FakeImages, FakeRuntime},
    worker::{Message, Worker},
};
use crate::{runtime::Runtime as _, status::machine::Machine};

struct Stage {
    api: FakeApi,
    runtime: Arc<FakeRuntime>,
    context: Arc<Context>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = FakeApi::default();
        let runtime = Arc::new(FakeRuntime::new(dir.path()));
        let mut config = Config::new("n1", "192.0.2.7".parse().unwrap(), dir.path().to_owned());
        config.storage_look = Duration::from_millis(20);
        let (events, send) = Recorder::new(api.client(), "n1".into());
        tokio::spawn(send);
        let context = Context {
            client: api.client(),
            runtime: Arc::clone(&runtime) as Arc<_>,
            images: Arc::new(FakeImages),
            events,
            machine: Machine::look(Path::new("/")),
            runtime_info: runtime.info(),
            services: reflector::store().0,
            published: parking_lot::Mutex::default(),
            config,
        };
        Self { api, runtime, context: Arc::new(context), dir }
    }

    /// Puts an object into the API server.
    fn put(&self, path: &str, object: Value) {
        self.api.objects.lock().insert(path.to_owned(), object);
    }

    async fn start(&self, pod: &Value) -> (mpsc::UnboundedSender<Message>, JoinHandle<()>) {
        self.put(POD, pod.clone());
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let mut happenings = self.runtime.events();
        let (worker, sender) = Worker::adopt(Arc::clone(&self.context), Arc::new(pod)).await;
        let tell = sender.clone();
        tokio::spawn(async move {
            while let Ok(happened) = happenings.recv().await {
                tell.send(Message::Runtime(happened.event)).ok();
            }
        });
        (sender, tokio::spawn(worker.run()))
    }

    async fn until_phase(&self, phase: &str) -> Value {
        self.api.until(&format!("phase {phase}"), |api| status(api, |status| status["phase"] == phase)).await
    }

    async fn until_event(&self, reason: &str) -> String {
        let find =
            |api: &FakeApi| api.events.lock().iter().find(|(own, _)| own == reason).map(|(_, text)| text.clone());
        self.api.until(&format!("event {reason}"), find).await
    }
}

const POD: &str = "/api/v1/namespaces/shop/pods/web-0";

fn status(api: &FakeApi, holds: impl Fn(&Value) -> bool) -> Option<Value> {
    let objects = api.objects.lock();
    let status = objects.get(POD)?.get("status")?;
    holds(status).then(|| status.clone())
}

fn waits(api: &FakeApi, reason: &str) -> Option<Value> {
    let own = |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason;
    status(api, own).map(|status| status["containerStatuses"][0].clone())
}

fn pod(spec: Value) -> Value {
    let meta = json!({"name": "web-0", "namespace": "shop", "uid": "u1"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
}

fn deleted(mut pod: Value, grace: i64) -> Arc<Pod> {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[tokio::test]
async fn a_pod_runs_is_restarted_and_is_removed() {
    let stage = Stage::new();
    stage.put(
        "/api/v1/namespaces/shop/secrets/db",
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "db"}, "data": {"password": "cGFzc3dvcmQ="}}),
    );
    let pod = pod(json!({
        "containers": [{
            "name": "web", "image": "web:1",
            "env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
            "volumeMounts": [{"name": "keys", "mountPath": "/keys"}, {"name": "token", "mountPath": "/token"}],
        }],
        "volumes": [
            {"name": "keys", "secret": {"secretName": "db"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
    }));
    let (sender, worker) = stage.start(&pod).await;
    let status = stage.until_phase("Running").await;
    assert_eq!(status["podIP"], "10.1.0.2");
    assert_eq!(status["containerStatuses"][0]["containerID"], "martello://web-0");
    assert_eq!(status["qosClass"], "BestEffort");
    let ready = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    let spec = stage.runtime.specs.lock()[0].clone();
    assert!(spec.env.contains(&("DB_PASSWORD".into(), "password".into())));
    let volatile = stage.dir.path().join("volatile/u1");
    assert_eq!(std::fs::read_to_string(volatile.join("keys/password")).unwrap(), "password");
    assert_eq!(std::fs::read_to_string(volatile.join("token/token")).unwrap(), "tok");

    stage.runtime.exit("u1", "web-0", 1);
    let restarted = |status: &Value| {
        status["containerStatuses"][0]["restartCount"] == 1
            && status["containerStatuses"][0]["state"]["running"].is_object()
    };
    let after = stage.api.until("a restart", |api| self::status(api, restarted)).await;
    assert_eq!(after["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    stage.runtime.exit("u1", "web-1", 1);
    let waiting = stage.api.until("a crash loop", |api| waits(api, "CrashLoopBackOff")).await;
    let message = waiting["state"]["waiting"]["message"].as_str().unwrap();
    assert_eq!(message, "back-off 10s restarting failed container=web pod=web-0_shop(u1)");
    stage.until_event("BackOff").await;

    sender.send(Message::Pod(deleted(pod, 30))).unwrap();
    worker.await.unwrap();
    let (path, options) = stage.api.deleted.lock()[0].clone();
    assert_eq!((path.as_str(), &options["preconditions"]["uid"]), (POD, &json!("u1")));
    assert_eq!(options["gracePeriodSeconds"], 0);
    assert!(stage.runtime.pods.lock().is_empty() && !volatile.exists());
}

#[tokio::test]
async fn what_is_missing_is_waited_for_and_told() {
    let stage = Stage::new();
    let missing = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "k"}}}]);
    let pod = pod(json!({"containers": [{"name": "web", "image": "web:1", "env": missing}]}));
    stage.start(&pod).await;
    let waiting = stage.api.until("a config error", |api| waits(api, "CreateContainerConfigError")).await;
    assert_eq!(waiting["state"]["waiting"]["message"], "configmap \"cfg\" not found");
    assert_eq!(stage.until_event("Failed").await, "Error: configmap \"cfg\" not found");
}

#[tokio::test]
async fn an_image_without_a_verdict_does_not_start() {
    let stage = Stage::new();
    stage.start(&pod(json!({"containers": [{"name": "web", "image": "hostile:1"}]}))).await;
    stage.api.until("a refusal", |api| waits(api, "ImageNotInventoried")).await;
    assert!(stage.until_event("ImageNotInventoried").await.contains("can't be inventoried"));
    assert!(stage.runtime.specs.lock().is_empty());
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_waited_for() {
    let stage = Stage::new();
    stage.start(&pod(json!({"containers": [{"name": "web", "image": "missing:1"}]}))).await;
    stage.api.until("a failed pull", |api| waits(api, "ErrImagePull")).await;
    let waiting = stage.api.until("a wait", |api| waits(api, "ImagePullBackOff")).await;
    let message = waiting["state"]["waiting"]["message"].as_str().unwrap();
    assert_eq!(message, "Back-off pulling image \"missing:1\": ErrImagePull: not found");
}

#[tokio::test]
async fn a_job_with_init_containers_runs_in_order_and_succeeds() {
    let stage = Stage::new();
    let pod = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "first", "image": "a:1"}],
        "containers": [{"name": "web", "image": "web:1"}],
    }));
    stage.start(&pod).await;
    let runs = |status: &Value| status["initContainerStatuses"][0]["state"]["running"].is_object();
    let status = stage.api.until("an init container", |api| self::status(api, runs)).await;
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    stage.runtime.exit("u1", "first-0", 0);
    stage.until_phase("Running").await;
    stage.runtime.exit("u1", "web-0", 0);
    let status = stage.until_phase("Succeeded").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(stage.runtime.pods.lock().len(), 1, "its logs stay until it's deleted");
}

#[tokio::test]
async fn an_agent_that_comes_back_adopts_what_runs() {
    let stage = Stage::new();
    let pod = pod(json!({"containers": [{"name": "web", "image": "web:1"}]}));
    let (_, worker) = stage.start(&pod).await;
    let before = stage.until_phase("Running").await;
    worker.abort();
    let mut known = pod.clone();
    known["status"] = before;
    let (sender, worker) = stage.start(&known).await;
    sender.send(Message::Pod(Arc::new(serde_json::from_value(known.clone()).unwrap()))).unwrap();
    stage.runtime.exit("u1", "web-0", 2);
    let restarted = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    stage.api.until("a restart", |api| self::status(api, restarted)).await;
    let started: Vec<String> = stage.runtime.specs.lock().iter().map(|spec| spec.id.clone()).collect();
    assert_eq!(started, ["web-0", "web-1"]);
    sender.send(Message::Pod(deleted(known, 0))).unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pod_that_wants_the_hosts_network_fails_with_a_reason() {
    let stage = Stage::new();
    stage.start(&pod(json!({"hostNetwork": true, "containers": [{"name": "web", "image": "web:1"}]}))).await;
    let status = stage.until_phase("Failed").await;
    assert!(status["message"].as_str().unwrap().contains("spec.hostNetwork"));
}

#[tokio::test]
async fn a_pod_that_stores_more_than_it_may_is_evicted() {
    let stage = Stage::new();
    let pod = pod(json!({
        "containers": [{"name": "web", "image": "web:1",
            "volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}],
    }));
    stage.start(&pod).await;
    stage.until_phase("Running").await;
    let volume = stage.dir.path().join("volumes/u1/cache");
    assert!(volume.is_dir());
    *stage.runtime.stored.lock() = (1 << 20) + 1;
    let status = stage.until_phase("Failed").await;
    let message = "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ";
    assert_eq!((&status["reason"], &status["message"]), (&json!("Evicted"), &json!(message)));
    assert_eq!(stage.until_event("Evicted").await, message);
    assert!(status["containerStatuses"][0]["state"]["terminated"].is_object());
    let gone = async {
        while volume.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("what it stored is deleted");
    assert_eq!(stage.runtime.specs.lock().len(), 1, "it is not started again");
}
