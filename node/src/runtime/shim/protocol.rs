//! What the agent and a shim say to each other.
//!
//! One connection carries one request and its answers: most requests have one, `Exec` has a second one when the
//! process ends, `Subscribe` has one per event.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtime::spec::{ContainerSpec, ContainerStatus, ExecSpec, Exit, PodEvent, PodSandboxSpec, Usage};

/// The first message to a new shim, over its standard input. File descriptors: the listening control socket, the
/// node's user namespace, and those that [`Slot`] names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Init {
    /// The pod.
    pub(crate) spec: PodSandboxSpec,
    /// First id of the pod's range, in the node's user namespace.
    pub(crate) first_id: u32,
    /// Count of ids.
    pub(crate) ids: u32,
    /// The pod's directory that belongs to the shim.
    pub(crate) directory: PathBuf,
    /// Unpacked layers.
    pub(crate) layers: PathBuf,
    /// What is known of the pod's slot.
    pub(crate) slot: Slot,
    /// Path of the pod's cgroup below every hierarchy; none where limits can't be enforced.
    pub(crate) cgroup: Option<String>,
}

/// How a shim comes by its user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Slot {
    /// It makes one; the layers on disk belong to its ids.
    Own,
    /// It makes one, and attaches the mount of layers with its ids as owners (a file descriptor) over the layers'
    /// directory. Such a mount can be attached once only, so the namespaces come back with `Ready`.
    First,
    /// It enters those that the first shim of this slot made: user and mount namespace, two file descriptors.
    Again,
}

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The pod has (or has not) got an address: write its files.
    Configure { ip: Option<Ipv4Addr> },
    /// Make and start a container.
    Start(Box<ContainerSpec>),
    /// The signal that asks it to stop, and KILL after the grace period. Answered when the container has ended.
    Stop { id: String, grace_millis: u64 },
    /// Forget an ended container.
    Remove { id: String },
    /// Let go of the volumes, those in memory included; nothing may run any more.
    EmptyVolumes,
    /// Every container.
    List,
    /// Run a process. File descriptors without a terminal: stdin, stdout, stderr.
    Exec { id: String, spec: ExecSpec },
    /// Follow the streams of a container. File descriptors: where stdout and stderr go.
    Attach {
        id: String,
        /// Whether the caller writes to standard input.
        #[serde(default)]
        stdin: bool,
    },
    /// Every event from now on.
    Subscribe,
    /// Connect to a port on the pod's loopback.
    Dial { port: u16 },
    /// Use of resources.
    Usage,
    /// Kill everything and end.
    Shutdown,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    /// The namespaces exist. In a slot's first shim, its user and mount namespace come as file descriptors.
    Ready { pid: i32 },
    /// It is done.
    Done,
    /// One container.
    Container(ContainerStatus),
    /// Every container.
    Containers(Vec<ContainerStatus>),
    /// The process runs. A terminal comes as a file descriptor.
    Running,
    /// The process has ended.
    Exited(Exit),
    /// Something happened.
    Event(PodEvent),
    /// Use of resources, by container id.
    Usage(Vec<(String, Usage)>),
    /// The container can't be started as it's described, and why; what is said may be shown to the pod's owner.
    Unprepared { message: String },
    /// It failed, and why.
    Failed { message: String },
}
