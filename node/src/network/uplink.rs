//! The way out of the pod network: a tap device served by an unprivileged process (pasta) in the node's own network.

use std::fs::OpenOptions;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::keeper::anchor::{Anchor, start_time};

/// Name of the tap device.
pub(crate) const UPLINK: &str = "uplink";

/// The tap's network: 192.0.0.0/29 is set aside for such translations inside a machine (RFC 7335).
pub(crate) const NETWORK: &str = "192.0.0.0/29";

/// This side of the tap.
const ADDRESS: &str = "192.0.0.2";

/// The other side: pasta hands what goes there to the node's loopback. Pods can't reach it but through the API
/// server's service address.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);

/// Whether the process that serves the tap is alive.
pub(crate) fn is_served(state_dir: &Path) -> bool {
    let running: Option<Anchor> =
        std::fs::read(record(state_dir)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    running.is_some_and(Anchor::is_alive)
}

fn record(state_dir: &Path) -> PathBuf {
    state_dir.join("keeper/uplink.json")
}

/// Makes sure that the tap is served; a process that runs already is kept.
pub(crate) fn ensure(state_dir: &Path, anchor: Anchor) -> io::Result<()> {
    if is_served(state_dir) {
        return Ok(());
    }
    let log = OpenOptions::new().create(true).append(true).open(state_dir.join("keeper/uplink.log"))?;
    let pid_file = state_dir.join("keeper/uplink.pid");
    drop(std::fs::remove_file(&pid_file));
    let namespace = |kind: &str| format!("/proc/{}/ns/{kind}", anchor.pid);
    let status = Command::new("pasta")
        .args(["--ipv4-only", "--config-net", "--no-dhcp", "--no-ndp", "--no-ra", "--no-dhcpv6", "--quiet"])
        .args(["--address", ADDRESS, "--netmask", "29", "--gateway", &GATEWAY.to_string()])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--ns-ifname", UPLINK])
        .arg("--pid")
        .arg(&pid_file)
        .args(["--userns", &namespace("user"), "--netns", &namespace("net")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()?;
    let pid = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
    let started = pid.and_then(|pid| Some(Anchor { pid, started: start_time(pid)? }));
    match started {
        Some(process) if status.success() => std::fs::write(record(state_dir), serde_json::to_vec(&process)?),
        _ => Err(io::Error::other("pasta did not start: see keeper/uplink.log (is the package passt installed?)")),
    }
}
