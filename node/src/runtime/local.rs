//! The runtime of this machine: shims, the keeper and the uplink under one handle.

mod requests;
mod sandboxes;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::guard::{Told, guard};
use super::ids::Layout;
use super::link::{blocking, unexpected};
use super::owners::Owners;
use super::prepare::Prepared;
use super::shim::protocol::{Request, Response};
use super::{PodEvent, RuntimeError, RuntimeEvent, Sandbox};
use crate::keeper::Keeper;
use crate::keeper::anchor::Anchor;
use crate::keeper::protocol::Request as Ask;
use crate::network::{DnsTable, NetworkConfig, ServiceTable, uplink};
use crate::wire;

/// Events that a slow listener may be behind before it has to look at everything again.
const EVENTS: usize = 1024;

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
    told: Arc<Told>,
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
        let told = Arc::new(Told { network, tables: Mutex::default(), owed: AtomicBool::new(false) });
        let (events, _) = broadcast::channel(EVENTS);
        let slots = (1..).zip(layer_mounts.into_iter().map(SlotFds::Mount)).collect();
        let inner = Inner {
            state_dir,
            executable,
            layout,
            cgroup,
            volatile_dir,
            slots: Mutex::new(slots),
            keeper: keeper.clone(),
            told: Arc::clone(&told),
            uplink,
            pods: Mutex::default(),
            events,
        };
        let runtime = LocalRuntime { inner: Arc::new(inner) };
        runtime.adopt().map_err(failed("find the pods of an earlier agent"))?;
        tokio::spawn(guard(keeper, told));
        Ok(runtime)
    }

    /// Forwards to these services, and no others.
    pub async fn apply_services(&self, table: ServiceTable) -> Result<(), RuntimeError> {
        self.inner.told.tables.lock().services = Some(table.clone());
        self.ask_keeper(Ask::Services(table), "load the services").await.map(drop)
    }

    /// Answers these names in the cluster's domain, and no others.
    pub async fn apply_names(&self, table: DnsTable) -> Result<(), RuntimeError> {
        self.inner.told.tables.lock().names = Some(table.clone());
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
        let owners = Owners::of(&self.inner.state_dir);
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
                    let slot = record.as_ref().map(|record| record.slot);
                    super::cleanup::kill_left(&directory, &owners.of_slot(slot));
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
        // A pod that is being taken down has no shim any more, by its record: the end was wanted.
        if self.inner.pods.lock().by_uid.get(&uid).is_some_and(|record| record.shim.is_some()) {
            tracing::error!(uid, "the pod's shim has gone");
            self.tell(&uid, PodEvent::Lost);
        }
    }

    fn tell(&self, uid: &str, event: PodEvent) {
        let event = match event {
            PodEvent::Container(status) => PodEvent::Container(self.inner.placed(uid, status)),
            PodEvent::Lost => PodEvent::Lost,
        };
        // Nobody may be listening.
        self.inner.events.send(RuntimeEvent { pod_uid: uid.to_owned(), event }).ok();
    }

    async fn request(&self, uid: &str, request: Request, attempt: String) -> Result<Response, RuntimeError> {
        let link = self.inner.known(uid)?;
        let (response, _, _) = blocking(attempt.clone(), move || link.ask(&request, Vec::new())).await?;
        match response {
            Response::Failed { .. } | Response::Unprepared { .. } => Err(unexpected(&attempt, response)),
            response => Ok(response),
        }
    }
}

/// Names of volumes and containers are labels of host names; a container's id has a number behind it.
fn plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn plain_uid(uid: &str) -> bool {
    !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
