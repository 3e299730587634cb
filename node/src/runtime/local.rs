//! The runtime of this machine: shims, the keeper and the uplink under one handle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use martello_scanner::LayerRef;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::ids::Layout;
use super::link::{ShimLink, blocking, into_async, unexpected};
use super::prepare::Prepared;
use super::shim::protocol::{Init, Request, Response, Slot};
use super::{
    Answer, ContainerSpec, ContainerStatus, ExecSession, ExecSpec, Exit, PodEvent, PodNetwork, PodSandboxSpec, Runtime,
    RuntimeError, RuntimeEvent, RuntimeInfo, Sandbox, Usage, shim, slots,
};
use crate::keeper::anchor::{Anchor, start_time};
use crate::keeper::protocol::{Request as Ask, UnpackInit};
use crate::keeper::{Keeper, spawn};
use crate::network::{DnsTable, NetworkConfig, ServiceTable, uplink};
use crate::wire;

/// Events that a slow listener may be behind before it has to look at everything again.
const EVENTS: usize = 1024;

/// How long a shim has for its end.
const END_TIME: Duration = Duration::from_secs(10);

/// How long a new shim has until its namespaces exist.
const START_TIME: Duration = Duration::from_secs(30);

/// The runtime of this machine. Cheap to clone.
#[derive(Clone)]
pub struct LocalRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    state_dir: PathBuf,
    executable: PathBuf,
    layout: Layout,
    cgroup: Result<String, String>,
    volatile_dir: PathBuf,
    slots: Mutex<BTreeMap<u32, SlotFds>>,
    keeper: Keeper,
    network: NetworkConfig,
    uplink: Result<(), String>,
    pods: Mutex<Pods>,
    events: broadcast::Sender<RuntimeEvent>,
}

/// What lets the pods of one slot share the unpacked layers of all.
enum SlotFds {
    /// The mount, not used yet.
    Mount(OwnedFd),
    /// The namespaces of the slot: user and mount.
    Namespaces(OwnedFd, OwnedFd),
}

#[derive(Default)]
struct Pods {
    by_uid: BTreeMap<String, Record>,
    last_slot: u32,
    last_ip: Option<Ipv4Addr>,
}

/// What is kept of a pod on disk, for the next agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) sandbox: Sandbox,
    pub(super) slot: u32,
    /// The shim; none while the pod is being made.
    pub(super) shim: Option<Anchor>,
}

/// Name of a pod's record in its directory.
pub(super) const RECORD: &str = "pod.json";

impl LocalRuntime {
    /// Starts what is not running yet, and finds the pods of an earlier agent again. Blocks for some tenths of a
    /// second; must be called inside a tokio runtime.
    pub fn start(prepared: Prepared, network: NetworkConfig) -> Result<LocalRuntime, RuntimeError> {
        let failed = |attempt: &str| {
            let attempt = attempt.to_owned();
            move |source| RuntimeError::Io { attempt, source }
        };
        let Prepared { state_dir, executable, anchor, layout, cgroup, volatile_dir, layer_mounts } = prepared;
        let keeper = Keeper::connect(&state_dir, &volatile_dir, &executable, anchor);
        let keeper = keeper.map_err(failed("start the keeper"))?;
        let uplink = uplink::ensure(&state_dir, anchor).map_err(|error| error.to_string());
        if let Err(reason) = &uplink {
            tracing::error!(reason, "pods can't reach out of this node, nor the API server");
        }
        let ask = Ask::Network(network.clone());
        keeper.ask(&ask, "set up the pod network").map_err(failed("set up the pod network"))?;
        let (events, _) = broadcast::channel(EVENTS);
        let slots = (1..).zip(layer_mounts.into_iter().map(SlotFds::Mount)).collect();
        let inner = Inner {
            state_dir,
            executable,
            layout,
            cgroup,
            volatile_dir,
            slots: Mutex::new(slots),
            keeper,
            network,
            uplink,
            pods: Mutex::default(),
            events,
        };
        let runtime = LocalRuntime { inner: Arc::new(inner) };
        runtime.adopt().map_err(failed("find the pods of an earlier agent"))?;
        Ok(runtime)
    }

    /// Forwards to these services, and no others.
    pub async fn apply_services(&self, table: ServiceTable) -> Result<(), RuntimeError> {
        self.ask_keeper(Ask::Services(table), "load the services").await.map(drop)
    }

    /// Answers these names in the cluster's domain, and no others.
    pub async fn apply_names(&self, table: DnsTable) -> Result<(), RuntimeError> {
        self.ask_keeper(Ask::Names(table), "load the cluster's names").await.map(drop)
    }

    /// Whether pods can reach out of this node; otherwise why not.
    pub fn uplink(&self) -> Result<(), String> {
        self.inner.uplink.clone()
    }

    async fn ask_keeper(&self, request: Ask, attempt: &'static str) -> Result<Vec<OwnedFd>, RuntimeError> {
        let keeper = self.inner.keeper.clone();
        blocking(attempt.to_owned(), move || keeper.ask(&request, attempt)).await
    }

    fn adopt(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.inner.state_dir.join("pods"))? {
            let directory = entry?.path();
            let record = std::fs::read(directory.join(RECORD)).ok();
            let record: Option<Record> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let Some(uid) = directory.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            let alive = record.as_ref().and_then(|record| record.shim).is_some_and(Anchor::is_alive);
            match (record, alive) {
                (Some(record), true) => {
                    tracing::info!(uid, name = record.sandbox.name, "found a running pod again");
                    let mut pods = self.inner.pods.lock();
                    pods.by_uid.insert(uid.clone(), record);
                    drop(pods);
                    tokio::spawn(self.clone().listen(uid));
                }
                (record, _) => {
                    tracing::warn!(uid, "a pod was lost while no agent was here; clearing up");
                    super::cleanup::kill_left(&directory);
                    self.inner.clear(&uid, record.and_then(|record| record.sandbox.ip));
                }
            }
        }
        Ok(())
    }

    /// Passes a shim's events on, until the shim or the pod has gone.
    async fn listen(self, uid: String) {
        let link = self.inner.link(&uid);
        if let Ok(mut stream) = link.begin(Request::Subscribe, format!("listen to pod {uid}")).await {
            while let Ok(Some(response)) = wire::receive_async::<Response>(&mut stream).await {
                if let Response::Event(event) = response {
                    self.tell(&uid, event);
                }
            }
        }
        if self.inner.pods.lock().by_uid.contains_key(&uid) {
            tracing::error!(uid, "the pod's shim has gone");
            self.tell(&uid, PodEvent::Lost);
        }
    }

    fn tell(&self, uid: &str, event: PodEvent) {
        // Nobody may be listening.
        self.inner.events.send(RuntimeEvent { pod_uid: uid.to_owned(), event }).ok();
    }

    async fn request(&self, uid: &str, request: Request, attempt: String) -> Result<Response, RuntimeError> {
        let link = self.inner.known(uid)?;
        let (response, _, _) = blocking(attempt.clone(), move || link.ask(&request, Vec::new())).await?;
        match response {
            Response::Failed { .. } => Err(unexpected(&attempt, response)),
            response => Ok(response),
        }
    }
}

impl Inner {
    fn directory(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(uid)
    }

    fn link(&self, uid: &str) -> ShimLink {
        ShimLink::new(&self.directory(uid))
    }

    fn known(&self, uid: &str) -> Result<ShimLink, RuntimeError> {
        let known = self.pods.lock().by_uid.get(uid).is_some_and(|record| record.shim.is_some());
        if known { Ok(self.link(uid)) } else { Err(RuntimeError::NoPod { uid: uid.to_owned() }) }
    }

    fn slot(&self, uid: &str) -> Result<u32, RuntimeError> {
        let slot = self.pods.lock().by_uid.get(uid).map(|record| record.slot);
        slot.ok_or_else(|| RuntimeError::NoPod { uid: uid.to_owned() })
    }

    /// The slot whose owners the layers on disk have, for a pod in `slot`.
    fn layer_slot(&self, slot: u32) -> u32 {
        if self.slots.lock().contains_key(&slot) { 0 } else { slot }
    }

    fn layers_dir(&self, slot: u32) -> PathBuf {
        self.state_dir.join("layers").join(self.layer_slot(slot).to_string())
    }

    fn group(&self, uid: &str) -> Option<String> {
        self.cgroup.as_ref().ok().map(|node| format!("/{node}/pod{uid}"))
    }

    /// Takes a free id range and address for a new pod.
    fn reserve(&self, spec: &PodSandboxSpec) -> io::Result<Record> {
        let mut pods = self.pods.lock();
        if pods.by_uid.contains_key(&spec.uid) {
            return Err(io::Error::other("the pod exists already"));
        }
        let used: BTreeSet<u32> = pods.by_uid.values().map(|record| record.slot).collect();
        let slot = match self.layout.pod_slots() {
            0 => 0,
            count => {
                // Without shared layers a range is used again soon, since its layers are unpacked already.
                let last = if self.slots.lock().is_empty() { 0 } else { pods.last_slot };
                slots::next_slot(count, &used, last).ok_or_else(|| io::Error::other("all id ranges are in use"))?
            }
        };
        let used = pods.by_uid.values().filter_map(|record| record.sandbox.ip).collect();
        let ip = match spec.network {
            PodNetwork::None => None,
            PodNetwork::Pod => {
                let free = slots::next_ip(self.network.pod_cidr, &used, pods.last_ip);
                Some(free.ok_or_else(|| io::Error::other("all addresses of this node are in use"))?)
            }
        };
        let sandbox = Sandbox {
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            ip,
            log_dir: self.directory(&spec.uid).join("shim/logs"),
        };
        let record = Record { sandbox, slot, shim: None };
        pods.by_uid.insert(spec.uid.clone(), record.clone());
        pods.last_slot = slot;
        pods.last_ip = ip.or(pods.last_ip);
        Ok(record)
    }

    fn make_pod(&self, spec: PodSandboxSpec, record: &Record) -> io::Result<Anchor> {
        let uid = spec.uid.clone();
        let first = self.layout.first(record.slot);
        let directory = self.directory(&uid);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, mode)?;
        let shim_dir = directory.join("shim");
        let make = |path: &Path, mode: u32| {
            let request = Ask::MakeDirectory { path: path.to_owned(), uid: first, mode };
            self.keeper.ask(&request, "make the pod's directory").map(drop)
        };
        make(&shim_dir, 0o2770)?;
        if self.layer_slot(record.slot) == record.slot {
            make(&self.layers_dir(record.slot), 0o755)?;
        }
        if let Some(name) = self.group(&uid) {
            self.keeper.ask(&Ask::Group { name, uid: first }, "make the pod's control group")?;
        }
        let link = self.link(&uid);
        drop(std::fs::remove_file(link.path()));
        let listener = UnixListener::bind(link.path())?;
        std::fs::set_permissions(link.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;

        let mut fds = vec![listener.into(), self.keeper.namespace("user")?];
        let slot = self.add_slot(record.slot, &mut fds)?;
        let init = Init {
            first_id: first,
            ids: self.layout.ids(),
            directory: shim_dir,
            layers: self.layers_dir(record.slot),
            slot,
            cgroup: self.group(&uid),
            spec,
        };
        let (pid, namespaces) = start_shim(&self.executable, &init, &fds, &directory)?;
        if let Ok([user, mounts]) = <[OwnedFd; 2]>::try_from(namespaces) {
            self.slots.lock().insert(record.slot, SlotFds::Namespaces(user, mounts));
        }
        let started = start_time(pid).ok_or_else(|| io::Error::other("the pod's shim ended at once"))?;
        let request = Ask::Attach { pid, ip: record.sandbox.ip, gateway: self.network.gateway() };
        self.keeper.ask(&request, "connect the pod")?;
        link.ask(&Request::Configure { ip: record.sandbox.ip }, Vec::new())?;
        Ok(Anchor { pid, started })
    }

    /// Adds what a shim needs to know of its slot.
    fn add_slot(&self, slot: u32, fds: &mut Vec<OwnedFd>) -> io::Result<Slot> {
        match self.slots.lock().get(&slot) {
            None => Ok(Slot::Own),
            Some(SlotFds::Mount(mount)) => {
                fds.push(mount.try_clone()?);
                Ok(Slot::First)
            }
            Some(SlotFds::Namespaces(user, mounts)) => {
                fds.extend([user.try_clone()?, mounts.try_clone()?]);
                Ok(Slot::Again)
            }
        }
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        let directory = self.directory(&record.sandbox.uid);
        let new = directory.join("pod.new");
        std::fs::write(&new, serde_json::to_vec(record)?)?;
        std::fs::rename(new, directory.join(RECORD))
    }

    /// Ends a pod's shim and deletes whatever is left of the pod.
    fn end_pod(&self, uid: &str, record: &Record) {
        if let Some(shim) = record.shim.filter(|shim| shim.is_alive()) {
            let asked = self.link(uid).ask(&Request::Shutdown, Vec::new()).and_then(|(_, _, stream)| {
                stream.set_read_timeout(Some(END_TIME))?;
                wire::receive::<Response>(&stream).map(drop)
            });
            if asked.is_err() || shim.is_alive() {
                std::thread::sleep(Duration::from_millis(20));
            }
            if shim.is_alive() {
                tracing::warn!(uid, "the pod's shim does not end: killing it");
                kill(Pid::from_raw(shim.pid), Signal::SIGKILL).ok();
            }
        }
        super::cleanup::kill_left(&self.directory(uid));
        self.clear(uid, record.sandbox.ip);
    }

    /// Deletes what a pod without processes has left.
    fn clear(&self, uid: &str, ip: Option<Ipv4Addr>) {
        let mut requests = vec![Ask::RemoveTree { path: self.directory(uid) }];
        requests.extend(self.group(uid).map(|name| Ask::RemoveGroup { name }));
        requests.extend(ip.map(|ip| Ask::Detach { ip }));
        for request in requests {
            if let Err(error) = self.keeper.ask(&request, "clear up after a pod") {
                tracing::warn!(uid, %error, "something of a pod is left");
            }
        }
    }
}

fn start_shim(executable: &Path, init: &Init, fds: &[OwnedFd], directory: &Path) -> io::Result<(i32, Vec<OwnedFd>)> {
    let log_path = directory.join("shim.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let (socket, mut first_stage) = spawn(executable, &[shim::NAME], init, fds, log)?;
    socket.set_read_timeout(Some(START_TIME))?;
    let answer = wire::receive::<Response>(&socket);
    first_stage.wait()?;
    match answer {
        Ok(Some((Response::Ready { pid }, namespaces))) => Ok((pid, namespaces)),
        _ => {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            Err(io::Error::other(format!("the pod's shim did not start: {}", log.trim())))
        }
    }
}

fn plain_uid(uid: &str) -> bool {
    !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Runtime for LocalRuntime {
    fn create_pod(&self, spec: PodSandboxSpec) -> Answer<'_, Sandbox> {
        async move {
            let attempt = format!("make pod {}/{}", spec.namespace, spec.name);
            if !plain_uid(&spec.uid) {
                return Err(RuntimeError::Refused { attempt, message: "its UID is no UID".to_owned() });
            }
            let uid = spec.uid.clone();
            let inner = Arc::clone(&self.inner);
            let record = blocking(attempt, move || {
                let mut record = inner.reserve(&spec)?;
                let result = inner.make_pod(spec, &record).and_then(|shim| {
                    record.shim = Some(shim);
                    inner.save(&record)
                });
                match result {
                    Ok(()) => {
                        inner.pods.lock().by_uid.insert(record.sandbox.uid.clone(), record.clone());
                        Ok(record)
                    }
                    Err(error) => {
                        inner.end_pod(&record.sandbox.uid, &record);
                        inner.pods.lock().by_uid.remove(&record.sandbox.uid);
                        Err(error)
                    }
                }
            })
            .await?;
            tokio::spawn(self.clone().listen(uid));
            Ok(record.sandbox)
        }
        .boxed()
    }

    fn pods(&self) -> Vec<Sandbox> {
        let pods = self.inner.pods.lock();
        pods.by_uid.values().filter(|record| record.shim.is_some()).map(|record| record.sandbox.clone()).collect()
    }

    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Answer<'a, ContainerStatus> {
        async move {
            let attempt = format!("start container {}", spec.name);
            match self.request(pod_uid, Request::Start(Box::new(spec)), attempt.clone()).await? {
                Response::Container(status) => Ok(status),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn stop_container<'a>(&'a self, pod_uid: &'a str, id: &'a str, grace: Duration) -> Answer<'a, ContainerStatus> {
        async move {
            let attempt = format!("stop container {id}");
            let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            let request = Request::Stop { id: id.to_owned(), grace_millis };
            let mut stream = self.inner.known(pod_uid)?.begin(request, attempt.clone()).await?;
            match wire::receive_async(&mut stream).await {
                Ok(Some(Response::Container(status))) => Ok(status),
                Ok(Some(other)) => Err(unexpected(&attempt, other)),
                Ok(None) => Err(RuntimeError::Refused { attempt, message: "the pod's shim ended".to_owned() }),
                Err(source) => Err(RuntimeError::Io { attempt, source }),
            }
        }
        .boxed()
    }

    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()> {
        let request = Request::Remove { id: id.to_owned() };
        async move { self.request(pod_uid, request, format!("remove container {id}")).await.map(drop) }.boxed()
    }

    fn remove_pod<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        async move {
            // Forgotten first: from now on its end is no loss. Its range and address stay taken until it has gone.
            let record = {
                let mut pods = self.inner.pods.lock();
                let Some(record) = pods.by_uid.get_mut(pod_uid) else { return Ok(()) };
                let whole = record.clone();
                record.shim = None;
                whole
            };
            let (inner, uid) = (Arc::clone(&self.inner), pod_uid.to_owned());
            blocking(format!("remove pod {pod_uid}"), move || {
                inner.end_pod(&uid, &record);
                inner.pods.lock().by_uid.remove(&uid);
                Ok(())
            })
            .await
        }
        .boxed()
    }

    fn containers<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<ContainerStatus>> {
        async move {
            let attempt = "list containers".to_owned();
            match self.request(pod_uid, Request::List, attempt.clone()).await? {
                Response::Containers(list) => Ok(list),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn exec<'a>(&'a self, pod_uid: &'a str, id: &'a str, spec: ExecSpec) -> Answer<'a, ExecSession> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("run a process in container {id}");
            let request = Request::Exec { id: id.to_owned(), spec: spec.clone() };
            let doing = attempt.clone();
            let opened = blocking(attempt.clone(), move || {
                if spec.terminal {
                    let (response, fds, stream) = link.ask(&request, Vec::new())?;
                    return Ok((response, Streams::terminal(fds, spec.stdin)?, stream));
                }
                let (streams, theirs) = Streams::pipes(spec.stdin)?;
                let (response, _, stream) = link.ask(&request, theirs)?;
                Ok((response, streams, stream))
            });
            let (response, streams, stream) = opened.await?;
            session(&doing, response, streams, stream)
        }
        .boxed()
    }

    fn attach<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ExecSession> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("attach to container {id}");
            let request = Request::Attach { id: id.to_owned() };
            let opened = blocking(attempt.clone(), move || {
                let (mut streams, mut theirs) = Streams::pipes(false)?;
                theirs.remove(0);
                let (response, fds, stream) = link.ask(&request, theirs)?;
                streams.stdin = fds.into_iter().next();
                Ok((response, streams, stream))
            });
            let (response, streams, stream) = opened.await?;
            session(&attempt, response, streams, stream)
        }
        .boxed()
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    fn dial(&self, ip: Ipv4Addr, port: u16) -> Answer<'_, tokio::net::TcpStream> {
        async move {
            let fds = self.ask_keeper(Ask::Dial { ip, port }, "connect to a pod").await?;
            tcp(fds, format!("connect to {ip}:{port}"))
        }
        .boxed()
    }

    fn dial_loopback<'a>(&'a self, pod_uid: &'a str, port: u16) -> Answer<'a, tokio::net::TcpStream> {
        async move {
            let link = self.inner.known(pod_uid)?;
            let attempt = format!("connect to port {port} of the pod");
            let (response, fds, _) =
                blocking(attempt.clone(), move || link.ask(&Request::Dial { port }, Vec::new())).await?;
            match response {
                Response::Done => tcp(fds, attempt),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn own<'a>(&'a self, pod_uid: &'a str, path: &'a Path, uid: u32, gid: u32) -> Answer<'a, ()> {
        async move {
            let slot = self.inner.slot(pod_uid)?;
            let (first, ids) = (self.inner.layout.first(slot), self.inner.layout.ids());
            if uid >= ids || gid >= ids {
                let attempt = format!("give {} away", path.display());
                let message = format!("a pod has the ids 0 to {}, not {uid}:{gid}", ids - 1);
                return Err(RuntimeError::Refused { attempt, message });
            }
            let request = Ask::Own { path: path.to_owned(), uid: first + uid, gid: first + gid };
            self.ask_keeper(request, "give files to the pod").await.map(drop)
        }
        .boxed()
    }

    fn unpack_image<'a>(&'a self, pod_uid: &'a str, layers: &'a [LayerRef]) -> Answer<'a, Vec<String>> {
        async move {
            let slot = self.inner.layer_slot(self.inner.slot(pod_uid)?);
            let into = self.inner.layers_dir(slot);
            let names: Vec<String> = layers.iter().map(|layer| layer.chain_id.hex()).collect();
            if names.iter().all(|name| into.join(name).is_dir()) {
                return Ok(names);
            }
            let (first_id, ids) = (self.inner.layout.first(slot), self.inner.layout.ids());
            let init = UnpackInit { into, layers: layers.to_vec(), first_id, ids };
            let keeper = self.inner.keeper.clone();
            blocking("unpack the image".to_owned(), move || keeper.unpack(&init)).await?;
            Ok(names)
        }
        .boxed()
    }

    fn layers(&self) -> Answer<'_, Vec<String>> {
        let root = self.inner.state_dir.join("layers");
        let list = move || {
            let mut names = BTreeSet::new();
            for slot in std::fs::read_dir(root)? {
                for layer in std::fs::read_dir(slot?.path())? {
                    let name = layer?.file_name().to_string_lossy().into_owned();
                    if !name.starts_with('.') {
                        names.insert(name);
                    }
                }
            }
            Ok(names.into_iter().collect())
        };
        blocking("list the unpacked layers".to_owned(), list).boxed()
    }

    fn remove_layer<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let (root, keeper, name) = (self.inner.state_dir.join("layers"), self.inner.keeper.clone(), name.to_owned());
        let remove = move || {
            if !plain_uid(&name) {
                return Err(io::Error::other("that is no layer's name"));
            }
            for slot in std::fs::read_dir(root)? {
                let path = slot?.path().join(&name);
                keeper.ask(&Ask::RemoveTree { path }, "delete a layer")?;
            }
            Ok(())
        };
        blocking("delete a layer".to_owned(), remove).boxed()
    }

    fn usage<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<(String, Usage)>> {
        async move {
            let attempt = "measure the pod".to_owned();
            match self.request(pod_uid, Request::Usage, attempt.clone()).await? {
                Response::Usage(usage) => Ok(usage),
                other => Err(unexpected(&attempt, other)),
            }
        }
        .boxed()
    }

    fn info(&self) -> RuntimeInfo {
        let own_ids = match self.inner.layout.pod_slots() {
            0 => Err("this machine grants too few subordinate ids: all pods share one range".to_owned()),
            _ => Ok(()),
        };
        RuntimeInfo {
            limits: self.inner.cgroup.clone().map(drop),
            own_ids,
            volatile_dir: self.inner.volatile_dir.clone(),
            volumes_dir: self.inner.state_dir.join("volumes"),
        }
    }
}

/// Our ends of a process's streams.
#[derive(Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Streams {
    /// Pipes; also the other ends: stdin, stdout, stderr.
    fn pipes(stdin: bool) -> io::Result<(Streams, Vec<OwnedFd>)> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        let (their_in, our_in) = if stdin {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let streams = Streams { stdin: our_in, stdout: Some(out_reader), stderr: Some(err_reader), terminal: None };
        Ok((streams, vec![their_in, out_writer, err_writer]))
    }

    /// A terminal: one descriptor for reading, writing and resizing.
    fn terminal(fds: Vec<OwnedFd>, stdin: bool) -> io::Result<Streams> {
        let Some(terminal) = fds.into_iter().next() else { return Ok(Streams::default()) };
        let stdin = stdin.then(|| terminal.try_clone()).transpose()?;
        Ok(Streams { stdin, stdout: Some(terminal.try_clone()?), stderr: None, terminal: Some(terminal) })
    }
}

fn session(
    attempt: &str,
    response: Response,
    streams: Streams,
    stream: std::os::unix::net::UnixStream,
) -> Result<ExecSession, RuntimeError> {
    if !matches!(response, Response::Running) {
        return Err(unexpected(attempt, response));
    }
    let failed = |attempt: String| move |source| RuntimeError::Io { attempt, source };
    let mut stream = into_async(stream).map_err(failed(attempt.to_owned()))?;
    let attempt = attempt.to_owned();
    let exit = async move {
        match wire::receive_async(&mut stream).await {
            Ok(Some(Response::Exited(exit))) => Ok(exit),
            Ok(Some(Response::Container(status))) => Ok(exit_of(&status)),
            Ok(Some(other)) => Err(unexpected(&attempt, other)),
            Ok(None) => Err(RuntimeError::Refused { attempt, message: "the pod's shim ended".to_owned() }),
            Err(source) => Err(RuntimeError::Io { attempt, source }),
        }
    };
    let Streams { stdin, stdout, stderr, terminal } = streams;
    Ok(ExecSession { stdin, stdout, stderr, terminal, exit: Box::pin(exit) })
}

fn exit_of(status: &ContainerStatus) -> Exit {
    match status.state {
        super::ContainerState::Exited { exit, .. } => exit,
        super::ContainerState::Running { .. } => Exit { code: 0, signal: None, oom_killed: false },
    }
}

fn tcp(fds: Vec<OwnedFd>, attempt: String) -> Result<tokio::net::TcpStream, RuntimeError> {
    let made = fds.into_iter().next().ok_or_else(|| io::Error::other("no connection came")).and_then(|fd| {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    });
    made.map_err(|source| RuntimeError::Io { attempt, source })
}
