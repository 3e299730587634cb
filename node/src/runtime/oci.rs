//! From a [`ContainerSpec`] to the OCI runtime spec that libcontainer runs: pure.
//!
//! The spec names no user, network, ipc or uts namespace: the shim is inside those of the pod already, so that
//! everything it starts is too.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::capabilities::{self, UnknownCapability};
use super::seccomp;
use super::spec::{ContainerSpec, ExecSpec, Seccomp};

/// Who runs the process, after names were looked up in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ResolvedUser {
    /// User id in the pod.
    pub(crate) uid: u32,
    /// Group id in the pod.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) additional_gids: Vec<u32>,
    /// Home directory, if the container's `/etc/passwd` names one.
    pub(crate) home: Option<String>,
}

/// Where the shim has put what belongs to a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    /// The mounted root file system.
    pub(crate) rootfs: &'a Path,
    /// Directory of the pod's `hosts`, `hostname` and `resolv.conf`.
    pub(crate) etc: &'a Path,
    /// Path of the container's cgroup, the same below every hierarchy.
    pub(crate) cgroup: &'a str,
    /// The file that becomes the termination message.
    pub(crate) termination_message: &'a Path,
    /// Where what each of its mounts shows is, in their order.
    pub(crate) sources: &'a [PathBuf],
    /// The pod's process namespace, if the containers share one.
    pub(crate) pid_namespace: Option<&'a Path>,
}

/// Where programs are looked for when an image names no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of `/dev/shm`, as container engines have it.
const SHM_SIZE: &str = "size=67108864";

/// Parts of `/proc` and `/sys` that tell about the node or change it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Parts of `/proc` that may be read only.
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

/// The whole spec of a container.
pub(crate) fn spec(
    container: &ContainerSpec,
    user: &ResolvedUser,
    places: Places<'_>,
) -> Result<Value, UnknownCapability> {
    let mut pid = json!({"type": "pid"});
    if let (Some(path), Some(pid)) = (places.pid_namespace, pid.as_object_mut()) {
        pid.insert("path".to_owned(), json!(path));
    }
    let mut linux = json!({
        "namespaces": [pid, {"type": "mount"}, {"type": "cgroup"}],
        "cgroupsPath": places.cgroup,
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    });
    if let (Seccomp::RuntimeDefault, Some(linux)) = (container.seccomp, linux.as_object_mut()) {
        linux.insert("seccomp".to_owned(), seccomp::profile());
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": {"path": places.rootfs, "readonly": container.read_only_root},
        "process": process(container, user, &container.args, container.terminal, !container.allow_privilege_escalation)?,
        "mounts": mounts(container, places),
        "linux": linux,
    }))
}

/// The process of an exec: confined as the container is, and always without new privileges, since libcontainer
/// gives up the right to install a filter before the executor can install it.
pub(crate) fn exec_process(
    container: &ContainerSpec,
    user: &ResolvedUser,
    exec: &ExecSpec,
) -> Result<Value, UnknownCapability> {
    process(container, user, &exec.args, exec.terminal, true)
}

fn process(
    container: &ContainerSpec,
    user: &ResolvedUser,
    args: &[String],
    terminal: bool,
    no_new_privileges: bool,
) -> Result<Value, UnknownCapability> {
    let granted = capabilities::granted(&container.capabilities_add, &container.capabilities_drop)?;
    let mut process = json!({
        "terminal": terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "args": args,
        "env": environment(container, user, terminal),
        "cwd": if container.cwd.is_absolute() { container.cwd.as_path() } else { Path::new("/") },
        "capabilities": {
            "bounding": granted, "effective": granted, "permitted": granted, "inheritable": [], "ambient": [],
        },
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
    });
    // Absent and `false` differ for libcontainer: only when it is absent is the filter installed early enough.
    if let (true, Some(process)) = (no_new_privileges, process.as_object_mut()) {
        process.insert("noNewPrivileges".to_owned(), json!(true));
    }
    Ok(process)
}

fn environment(container: &ContainerSpec, user: &ResolvedUser, terminal: bool) -> Vec<String> {
    let has = |name: &str| container.env.iter().any(|(key, _)| key == name);
    let mut env = Vec::with_capacity(container.env.len() + 3);
    if !has("PATH") {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    if terminal && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    if let (false, Some(home)) = (has("HOME"), &user.home) {
        env.push(format!("HOME={home}"));
    }
    env.extend(container.env.iter().map(|(key, value)| format!("{key}={value}")));
    env
}

fn mounts(container: &ContainerSpec, places: Places<'_>) -> Vec<Value> {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
               "options": ["nosuid", "noexec", "nodev", "mode=1777", SHM_SIZE]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
               "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
               "options": ["nosuid", "noexec", "nodev", "ro"]}),
    ];
    let own = |target: &str| container.mounts.iter().any(|mount| mount.target == Path::new(target));
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !own(&target) {
            mounts.push(bind(&places.etc.join(name), Path::new(&target), container.read_only_root));
        }
    }
    if let Some(target) = &container.termination_message_path {
        mounts.push(bind(places.termination_message, target, false));
    }
    let own = container.mounts.iter().zip(places.sources);
    mounts.extend(own.map(|(mount, source)| bind(source, &mount.target, mount.read_only)));
    mounts
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    json!({"destination": target, "type": "bind", "source": source,
           "options": ["rbind", "rprivate", "nosuid", "nodev", access]})
}
