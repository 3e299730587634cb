//! Pods and containers on this node: one shim process per pod, rootless, adopted again after a restart of the agent.

pub mod capabilities;
pub(crate) mod cgroup;
mod cleanup;
mod guard;
pub(crate) mod ids;
mod link;
mod local;
mod oci;
mod owners;
pub(crate) mod prepare;
mod seccomp;
pub mod shim;
pub mod signals;
mod slots;
mod spec;

use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::cleanup::cleanup;
pub use self::local::LocalRuntime;
pub use self::prepare::{PrepareConfig, PrepareError, Prepared, prepare, system_user};
pub use self::spec::*;

/// What went wrong in the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such pod.
    #[error("pod {uid} does not run on this node")]
    NoPod {
        /// The pod asked for.
        uid: String,
    },
    /// The shim refused or failed.
    #[error("{attempt}: {message}")]
    Refused {
        /// What was asked.
        attempt: String,
        /// What the shim said.
        message: String,
    },
    /// The container can't be started as it's described; that may change without a change to the description.
    #[error("{message}")]
    Unprepared {
        /// Why, for people who must not learn about the node.
        message: String,
    },
    /// Input or output failed.
    #[error("{attempt}")]
    Io {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// A boxed future, so that the runtime can be a trait object.
pub type Answer<'a, T> = futures::future::BoxFuture<'a, Result<T, RuntimeError>>;

/// What the pod lifecycle needs of a runtime.
pub trait Runtime: Send + Sync {
    /// Makes the namespaces of a pod and connects it.
    fn create_pod(&self, spec: PodSandboxSpec) -> Answer<'_, Sandbox>;
    /// The pods that exist, made now or found again.
    fn pods(&self) -> Vec<Sandbox>;
    /// Makes and starts a container. When it returns, the process runs.
    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Answer<'a, ContainerStatus>;
    /// Sends the signal that asks it to stop, after `grace` KILL, and returns the last status.
    fn stop_container<'a>(&'a self, pod_uid: &'a str, id: &'a str, grace: Duration) -> Answer<'a, ContainerStatus>;
    /// Forgets an ended container and deletes its writable layer. Its log stays until the pod is removed.
    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Kills what is left in the pod, disconnects it, deletes its directories and logs.
    fn remove_pod<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()>;
    /// Deletes the volumes of a pod that has ended or gone, whoever owns what lies in them.
    fn remove_volumes<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()>;
    /// The bytes on disk that a part of a pod takes.
    fn measure<'a>(&'a self, pod_uid: &'a str, part: Part<'a>) -> Answer<'a, u64>;
    /// Every container of a pod that was not removed.
    fn containers<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<ContainerStatus>>;
    /// Runs a process in a running container.
    fn exec<'a>(&'a self, pod_uid: &'a str, id: &'a str, spec: ExecSpec) -> Answer<'a, ExecSession>;
    /// Connects to the standard streams of a running container; to its input only where `stdin` says so.
    fn attach<'a>(&'a self, pod_uid: &'a str, id: &'a str, stdin: bool) -> Answer<'a, ExecSession>;
    /// What happens from now on.
    fn events(&self) -> tokio::sync::broadcast::Receiver<RuntimeEvent>;
    /// A TCP connection to a pod's address, from inside the pod network.
    fn dial(&self, ip: Ipv4Addr, port: u16) -> Answer<'_, tokio::net::TcpStream>;
    /// A TCP connection to a port on the pod's own loopback (what `kubectl port-forward` means).
    fn dial_loopback<'a>(&'a self, pod_uid: &'a str, port: u16) -> Answer<'a, tokio::net::TcpStream>;
    /// Makes the ids in the pod the owners of `path` (below the state directory), recursively.
    fn own<'a>(&'a self, pod_uid: &'a str, path: &'a Path, uid: u32, gid: u32) -> Answer<'a, ()>;
    /// Unpacks the layers of a judged image for the pod's id range and returns their names for [`Rootfs::layers`],
    /// lowest first. Layers that are there already are not unpacked again. The blobs must be readable for others.
    fn unpack_image<'a>(
        &'a self,
        pod_uid: &'a str,
        layers: &'a [martello_scanner::LayerRef],
    ) -> Answer<'a, Vec<String>>;
    /// Names of unpacked layers, for garbage collection.
    fn layers(&self) -> Answer<'_, Vec<String>>;
    /// Deletes an unpacked layer that no container uses.
    fn remove_layer<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;
    /// Use of resources, by container id.
    fn usage<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Vec<(String, Usage)>>;
    /// What holds on this machine, for the node's status.
    fn info(&self) -> RuntimeInfo;
}

/// Something of a pod that takes room on the node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A volume, by name.
    Volume(&'a str),
    /// The writable layer of a container, by id.
    Layer(&'a str),
    /// The logs of all runs of a container, by its name.
    Logs(&'a str),
}

/// What holds on this machine.
#[derive(Clone, Debug)]
pub struct RuntimeInfo {
    /// Whether CPU, memory and process limits are enforced; otherwise why not.
    pub limits: Result<(), String>,
    /// Whether each pod has an id range of its own; otherwise why not.
    pub own_ids: Result<(), String>,
    /// Directory for the agent's volumes that must not reach a disk (secrets, tokens): a tmpfs.
    pub volatile_dir: PathBuf,
    /// Directory of the agent's other volumes.
    pub volumes_dir: PathBuf,
}

/// A running exec'd process: its streams and its end.
pub struct ExecSession {
    /// Where its standard input is written; dropping it closes it.
    pub stdin: Option<OwnedFd>,
    /// Its standard output (with a terminal, both outputs).
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
    /// The terminal, to be resized with [`crate::sys::resize`].
    pub terminal: Option<OwnedFd>,
    /// Resolves when the process has ended.
    pub exit: std::pin::Pin<Box<dyn Future<Output = Result<Exit, RuntimeError>> + Send>>,
}
