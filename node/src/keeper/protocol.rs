//! What the agent and a keeper say to each other: one request and one answer per connection.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use martello_scanner::LayerRef;
use serde::{Deserialize, Serialize};

use crate::network::{DnsTable, NetworkConfig, ServiceTable};

/// The first message to a new server, over its standard input. File descriptors: the listening control socket, the
/// node's user namespace, the pod network.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServeInit {
    /// Everything that may be given away lies below one of these.
    pub(crate) roots: Vec<PathBuf>,
}

/// The message to an unpacking process, over its standard input. File descriptor: the node's user namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnpackInit {
    /// Where to; exists and belongs to the first id.
    pub(crate) into: PathBuf,
    /// The layers, lowest first.
    pub(crate) layers: Vec<LayerRef>,
    /// First id in the node's user namespace.
    pub(crate) first_id: u32,
    /// Count of ids.
    pub(crate) ids: u32,
}

/// What the agent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Whether the server is there, and which program it is.
    Hello,
    /// Set up the pod network; known parts stay.
    Network(NetworkConfig),
    /// Connect a pod: its namespace is that of process `pid`. Without an address only loopback comes up.
    Attach { pid: i32, ip: Option<Ipv4Addr>, gateway: Ipv4Addr },
    /// Disconnect a pod.
    Detach { ip: Ipv4Addr },
    /// Forward to these services, and no others.
    Services(ServiceTable),
    /// Answer these names, and no others, in the cluster's domain.
    Names(DnsTable),
    /// Connect to a pod; the socket comes as a file descriptor.
    Dial { ip: Ipv4Addr, port: u16 },
    /// Make a directory that belongs to `uid`, group the agent's.
    MakeDirectory { path: PathBuf, uid: u32, mode: u32 },
    /// Give a tree to ids of the node's user namespace.
    Own { path: PathBuf, uid: u32, gid: u32 },
    /// Delete a tree, whoever owns what is in it.
    RemoveTree { path: PathBuf },
    /// Tell how much of the disk a tree takes.
    Measure { path: PathBuf },
    /// Make a control group and give it to `uid`.
    Group { name: String, uid: u32 },
    /// Delete a control group.
    RemoveGroup { name: String },
    /// End.
    Shutdown,
}

/// What a keeper answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    /// It is done.
    Done,
    /// A tree takes so much.
    Measured { bytes: u64 },
    /// It is there.
    Hello { pid: i32 },
    /// It failed, and why.
    Failed { message: String },
}
