//! What the agent asks the runtime to run: pods and containers, free of Kubernetes types.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One pod: the namespaces its containers share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSandboxSpec {
    /// The pod's UID; it names the pod's directories, so it may hold only `[A-Za-z0-9-]`.
    pub uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Host name inside the pod (at most 64 bytes).
    pub hostname: String,
    /// Content of `/etc/resolv.conf` of every container.
    pub dns: DnsConfig,
    /// Additional lines of `/etc/hosts` (`hostAliases`): address and names.
    pub host_aliases: Vec<(String, Vec<String>)>,
    /// Kernel parameters of the pod's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the containers see each other's processes.
    pub share_process_namespace: bool,
    /// Whether the pod gets an address on the node's pod network.
    pub network: PodNetwork,
    /// Its volumes in memory.
    pub memory_volumes: Vec<MemoryVolume>,
}

/// How a pod is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodNetwork {
    /// An own address on the node's pod network.
    Pod,
    /// Only a loopback device.
    None,
}

/// The resolver configuration of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub nameservers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// One container of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in its pod, over restarts: by custom `<name>-<attempt>`; `[a-z0-9-]`, at most 100 bytes.
    pub id: String,
    /// Name of the container in the pod's spec.
    pub name: String,
    /// Count of restarts before this one.
    pub attempt: u32,
    /// The file system.
    pub rootfs: Rootfs,
    /// Program and arguments; the first is looked up in `PATH`.
    pub args: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// Working directory; made if it is missing.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: ContainerUser,
    /// What is mounted, besides the system's own mounts.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: Resources,
    /// Capabilities above the default set, without `CAP_`.
    pub capabilities_add: Vec<String>,
    /// Capabilities taken from the default set, without `CAP_`; `ALL` takes each.
    pub capabilities_drop: Vec<String>,
    /// No writable layer.
    pub read_only_root: bool,
    /// The spec says in so many words that set-user-id programs may raise privileges.
    pub allow_privilege_escalation: bool,
    /// A terminal instead of three pipes.
    pub terminal: bool,
    /// Standard input stays open (otherwise it is `/dev/null`).
    pub stdin: bool,
    /// Standard input ends with the first caller who was attached to it; a terminal's doesn't.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where the log goes: a file name or relative path below the pod's log directory.
    pub log_path: PathBuf,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Which filter of system calls applies.
    pub seccomp: Seccomp,
    /// Preference of the kernel's killer, -1000 to 1000; lowered only where the kernel lets us.
    pub oom_score_adj: i32,
    /// File below `/` of the container whose content becomes the status's message (bind-mounted from the pod's
    /// directory, so that it can be read after the container has gone).
    pub termination_message_path: Option<PathBuf>,
}

/// The file system of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rootfs {
    /// Names of unpacked layers as [`super::Runtime::unpack_image`] returned them, lowest first.
    pub layers: Vec<String>,
}

/// Who runs a container's process. Names are looked up in the container's own `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerUser {
    /// The image's `User`: empty, `name`, `uid`, `name:group` or `uid:gid`.
    pub image_user: String,
    /// `runAsUser`; outranks the image's.
    pub uid: Option<u32>,
    /// `runAsGroup`; outranks the image's.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub additional_gids: Vec<u32>,
    /// `runAsNonRoot`: the start is refused if the user is 0.
    pub must_not_be_root: bool,
}

/// One mount in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Name of the volume, for people.
    pub name: String,
    /// What is seen.
    pub source: Source,
    /// Which part of it; all of it if there is none.
    pub sub_path: Option<SubPath>,
    /// Absolute path in the container; missing parents are made.
    pub target: PathBuf,
    /// No writes through this mount.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A file or directory on the node, at a path that no pod can change.
    Path(PathBuf),
    /// A volume in memory: one of [`PodSandboxSpec::memory_volumes`], by name.
    Memory(String),
}

/// A part of a volume. Containers may change what lies at its path at any time, so the shim looks it up when it mounts
/// it, and never leaves the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubPath {
    /// Relative to the volume's root, without `..`.
    pub path: PathBuf,
    /// Where nothing is there, directories like the volume's root are made; otherwise an empty directory is seen.
    pub make: bool,
}

/// A volume in memory, which lives as long as its pod's shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryVolume {
    /// Name of the volume.
    pub name: String,
    /// What it holds at most.
    pub size_bytes: u64,
    /// The group that owns it, in the pod; what is made in it belongs to that group too.
    pub gid: Option<u32>,
}

/// Limits of a container. Those without a value are not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor at most.
    pub cpu_limit_millis: Option<u64>,
    /// Share relative to others, in thousandths of a processor (the request).
    pub cpu_request_millis: Option<u64>,
    /// Bytes of memory at most.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads at most.
    pub pids_limit: Option<u64>,
}

/// Which filter of system calls a container runs under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Martello's own profile.
    #[default]
    RuntimeDefault,
    /// None, because the pod asks for `Unconfined` in so many words.
    Unconfined,
}

/// A process to run in a running container. It is confined as the container is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// A terminal instead of three pipes.
    pub terminal: bool,
    /// Whether standard input is connected.
    pub stdin: bool,
}

/// A made pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The pod's UID.
    pub uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Its address, if it has one.
    pub ip: Option<Ipv4Addr>,
    /// Directory of its logs.
    pub log_dir: PathBuf,
}

/// A container as the shim knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// [`ContainerSpec::id`].
    pub id: String,
    /// [`ContainerSpec::name`].
    pub name: String,
    /// [`ContainerSpec::attempt`].
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// [`ContainerSpec::log_path`], absolute.
    pub log_path: PathBuf,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ContainerState {
    /// Its process runs.
    Running {
        /// When it started.
        started_at: jiff::Timestamp,
        /// Process on the node.
        pid: i32,
        /// When that process started, in clock ticks since boot: tells it from a later one with the same number.
        started: u64,
        /// The user it runs as, in the container.
        uid: u32,
    },
    /// Its process has ended.
    Exited {
        /// When it started.
        started_at: jiff::Timestamp,
        /// When it ended.
        finished_at: jiff::Timestamp,
        /// How.
        exit: Exit,
        /// Content of the termination message file (at most 4096 bytes).
        message: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its code; 128 + signal for a killed one, as Kubernetes reports it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the memory limit killed it or one of its processes.
    pub oom_killed: bool,
}

/// What happened to a container; sent to whoever listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuntimeEvent {
    /// UID of the pod.
    pub pod_uid: String,
    /// What happened.
    pub event: PodEvent,
}

/// What happened in a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PodEvent {
    /// A container has a new status.
    Container(ContainerStatus),
    /// The shim has gone: whatever ran in the pod is lost.
    Lost,
}

/// Use of resources at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time so far.
    pub cpu_nanos: u64,
    /// Memory now.
    pub memory_bytes: u64,
}
