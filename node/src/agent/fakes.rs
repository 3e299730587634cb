//! A runtime, images and an API server that exist only in memory: what the agent is tested against.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use martello_api::clock;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::broadcast};

use crate::{
    images::{self, ImageError, Images, Ready, RunConfig},
    runtime::{
        Answer, ContainerSpec, ContainerState, ContainerStatus, ExecSession, ExecSpec, Exit, Part, PodEvent,
        PodSandboxSpec, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, Sandbox, Usage,
    },
};

/// A runtime in memory.
pub(super) struct FakeRuntime {
    pub(super) pods: Mutex<HashMap<String, Sandbox>>,
    pub(super) specs: Mutex<Vec<ContainerSpec>>,
    /// What every part of a pod takes of the disk.
    pub(super) stored: Mutex<u64>,
    containers: Mutex<BTreeMap<(String, String), ContainerStatus>>,
    events: broadcast::Sender<RuntimeEvent>,
    dir: PathBuf,
}

impl FakeRuntime {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            pods: Mutex::default(),
            specs: Mutex::default(),
            stored: Mutex::default(),
            containers: Mutex::default(),
            events: broadcast::channel(100).0,
            dir: dir.to_owned(),
        }
    }

    /// Ends a container as if its process had.
    pub(super) fn exit(&self, uid: &str, id: &str, code: i32) {
        let mut containers = self.containers.lock();
        let status = containers.get_mut(&(uid.to_owned(), id.to_owned())).unwrap();
        let ContainerState::Running { started_at, .. } = status.state else { return };
        let exit = Exit { code, signal: None, oom_killed: false };
        status.state = ContainerState::Exited { started_at, finished_at: clock::now(), exit, message: String::new() };
        let event = PodEvent::Container(status.clone());
        self.events.send(RuntimeEvent { pod_uid: uid.to_owned(), event }).ok();
    }

    fn status(&self, uid: &str, id: &str) -> Result<ContainerStatus, RuntimeError> {
        let found = self.containers.lock().get(&(uid.to_owned(), id.to_owned())).cloned();
        found.ok_or_else(|| RuntimeError::NoPod { uid: uid.to_owned() })
    }
}

fn ready<'a, T: Send + 'a>(value: Result<T, RuntimeError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

fn no<'a, T: Send + 'a>() -> Answer<'a, T> {
    ready(Err(RuntimeError::Refused { attempt: "try".into(), message: "not in this fake".into() }))
}

impl Runtime for FakeRuntime {
    fn create_pod(&self, spec: PodSandboxSpec) -> Answer<'_, Sandbox> {
        let made = Sandbox {
            uid: spec.uid.clone(),
            namespace: spec.namespace,
            name: spec.name,
            ip: Some(Ipv4Addr::new(10, 1, 0, 2)),
            log_dir: self.dir.join("logs"),
        };
        self.pods.lock().insert(spec.uid, made.clone());
        ready(Ok(made))
    }

    fn pods(&self) -> Vec<Sandbox> {
        self.pods.lock().values().cloned().collect()
    }

    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Answer<'a, ContainerStatus> {
        let status = ContainerStatus {
            id: spec.id.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            state: ContainerState::Running { started_at: clock::now(), pid: 1, started: 1, uid: 0 },
            log_path: self.dir.join("logs").join(&spec.log_path),
        };
        self.containers.lock().insert((pod_uid.to_owned(), spec.id.clone()), status.clone());
        self.specs.lock().push(spec);
        ready(Ok(status))
    }

    fn stop_container<'a>(&'a self, pod_uid: &'a str, id: &'a str, _: Duration) -> Answer<'a, ContainerStatus> {
        self.exit(pod_uid, id, 143);
        ready(self.status(pod_uid, id))
    }

    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()> {
        self.containers.lock().remove(&(pod_uid.to_owned(), id.to_owned()));
        ready(Ok(()))
    }

    fn remove_pod<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        self.pods.lock().remove(pod_uid);
        ready(Ok(()))
    }

    fn remove_volumes<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        for dir in [self.info().volumes_dir, self.info().volatile_dir] {
            drop(std::fs::remove_dir_all(dir.join(pod_uid)));
        }
        ready(Ok(()))
    }

    fn measure<'a>(&'a self, _: &'a str, _: Part<'a>) -> Answer<'a, u64> {
        ready(Ok(*self.stored.lock()))
    }

    fn containers<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<ContainerStatus>> {
        let containers = self.containers.lock();
        let own = containers.iter().filter(|((uid, _), _)| uid == pod_uid).map(|(_, status)| status.clone());
        ready(Ok(own.collect()))
    }

    fn exec<'a>(&'a self, _: &'a str, _: &'a str, _: ExecSpec) -> Answer<'a, ExecSession> {
        no()
    }

    fn attach<'a>(&'a self, _: &'a str, _: &'a str, _: bool) -> Answer<'a, ExecSession> {
        no()
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    fn dial(&self, _: Ipv4Addr, _: u16) -> Answer<'_, TcpStream> {
        no()
    }

    fn dial_loopback<'a>(&'a self, _: &'a str, _: u16) -> Answer<'a, TcpStream> {
        no()
    }

    fn own<'a>(&'a self, _: &'a str, _: &'a Path, _: u32, _: u32) -> Answer<'a, ()> {
        ready(Ok(()))
    }

    fn unpack_image<'a>(&'a self, _: &'a str, _: &'a [martello_scanner::LayerRef]) -> Answer<'a, Vec<String>> {
        ready(Ok(vec!["layer".into()]))
    }

    fn layers(&self) -> Answer<'_, Vec<String>> {
        ready(Ok(Vec::new()))
    }

    fn remove_layer<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        ready(Ok(()))
    }

    fn usage<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<(String, Usage)>> {
        ready(Ok(Vec::new()))
    }

    fn info(&self) -> RuntimeInfo {
        RuntimeInfo {
            limits: Ok(()),
            own_ids: Ok(()),
            volatile_dir: self.dir.join("volatile"),
            volumes_dir: self.dir.join("volumes"),
        }
    }
}

/// Images in memory: `missing…` can't be pulled, `hostile…` has no verdict.
pub(super) struct FakeImages;

impl Images for FakeImages {
    fn will_pull<'a>(&'a self, _: &'a images::Request) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(true))
    }

    fn ensure(&self, request: images::Request) -> BoxFuture<'_, Result<Ready, ImageError>> {
        let made = if request.reference.starts_with("missing") {
            Err(ImageError::Pull("not found".into()))
        } else {
            Ok(Ready {
                digest: request.reference.clone(),
                id: format!("{}@sha256:00", request.reference),
                config: RunConfig { entrypoint: vec!["/app".into()], ..RunConfig::default() },
                ..Ready::default()
            })
        };
        Box::pin(std::future::ready(made))
    }

    fn verdict<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let refused = digest.starts_with("hostile").then(|| "image hostile can't be inventoried".to_owned());
        Box::pin(std::future::ready(refused.map_or(Ok(()), Err)))
    }

    fn inventory<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Value>> {
        Box::pin(std::future::ready(None))
    }

    fn list(&self) -> BoxFuture<'_, Vec<(Vec<String>, u64)>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// An API server that remembers objects by path.
#[derive(Clone, Default)]
pub(super) struct FakeApi {
    pub(super) objects: Arc<Mutex<BTreeMap<String, Value>>>,
    pub(super) events: Arc<Mutex<Vec<(String, String)>>>,
    pub(super) deleted: Arc<Mutex<Vec<(String, Value)>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl FakeApi {
    pub(super) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Waits until `holds` of what is remembered.
    pub(super) async fn until<T>(&self, what: &str, holds: impl Fn(&Self) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = holds(self) {
                    return found;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| {
            panic!("{what} did not happen; objects: {:#?}, events: {:#?}", self.objects.lock(), self.events.lock())
        })
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = self.handle(&method, &path, body);
        self.changed.notify_waiters();
        let code = answer.get("code").and_then(Value::as_u64).map_or(200, |code| u16::try_from(code).unwrap());
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        response
    }

    fn handle(&self, method: &Method, path: &str, body: Value) -> Value {
        if path.ends_with("/events") {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            self.events.lock().push((text("reason"), text("message")));
            return body;
        }
        if path.ends_with("/token") {
            let status = json!({"token": "tok", "expirationTimestamp": "2999-01-01T00:00:00Z"});
            return json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                "spec": {}, "status": status});
        }
        let mut objects = self.objects.lock();
        let object = path.trim_end_matches("/status");
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
            "message": "not found", "code": 404});
        match *method {
            Method::GET => objects.get(object).cloned().unwrap_or(missing),
            Method::PATCH => match objects.get_mut(object) {
                None => missing,
                Some(own) => {
                    own["status"] = body["status"].clone();
                    own.clone()
                }
            },
            Method::DELETE => {
                self.deleted.lock().push((object.to_owned(), body));
                objects.remove(object).unwrap_or(missing)
            }
            _ => body,
        }
    }
}
