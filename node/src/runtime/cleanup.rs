//! Ending everything that a node left running.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Hierarchies;
use super::local::{RECORD, Record};
use super::prepare;
use super::shim::state::{FILE, State};
use super::spec::ContainerState;
use crate::keeper::anchor::{self, Anchor};

/// How long killed processes have to vanish.
const VANISH_TIME: Duration = Duration::from_secs(5);

/// Ends every process of the node with this state directory, its mounts, control groups and namespaces, and deletes
/// what the runtime keeps below the directory. Only processes that the records name are touched, and only if they
/// are still the recorded ones. Returns what could not be removed.
pub fn cleanup(state_dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let mut ended = Vec::new();
    for entry in std::fs::read_dir(state_dir.join("pods")).into_iter().flatten().flatten() {
        let record = std::fs::read(entry.path().join(RECORD)).ok();
        let record: Option<Record> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(shim) = record.and_then(|record| record.shim) {
            end(shim, &mut ended);
        }
        kill_left(&entry.path());
    }
    for name in ["server.json", "uplink.json", "anchor.json"] {
        let bytes = std::fs::read(state_dir.join("keeper").join(name)).ok();
        if let Some(process) = bytes.and_then(|bytes| serde_json::from_slice::<Anchor>(&bytes).ok()) {
            end(process, &mut ended);
        }
    }
    let deadline = Instant::now() + VANISH_TIME;
    for process in ended {
        while process.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if process.is_alive() {
            left.push(format!("process {}", process.pid));
        }
    }
    if let Ok(groups) = Hierarchies::detect() {
        let group = prepare::group_name(state_dir);
        groups.remove(&group);
        let remaining = groups.directories(&group).into_iter().filter(|directory| directory.exists());
        left.extend(remaining.map(|directory| format!("control group {}", directory.display())));
    }
    // Not mounted is what is wanted; what is still mounted fails to be deleted below.
    umount2(&state_dir.join("volatile"), MntFlags::MNT_DETACH).ok();
    for name in ["pods", "layers", "volumes", "volatile", "keeper"] {
        match std::fs::remove_dir_all(state_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                left.push(format!("{}: {error}", state_dir.join(name).display()));
            }
            _ => {}
        }
    }
    left
}

fn end(process: Anchor, ended: &mut Vec<Anchor>) {
    if process.is_alive() {
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
        ended.push(process);
    }
}

/// Kills containers whose shim died without ending them: those that the shim's last state calls running and that are
/// in a process namespace of their own below another user namespace than this process's.
pub(super) fn kill_left(pod_dir: &Path) {
    let state = std::fs::read(pod_dir.join("shim").join(FILE)).ok();
    let state: Option<State> = state.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    for status in state.into_iter().flat_map(|state| state.containers) {
        let ContainerState::Running { pid, started, .. } = status.state else { continue };
        if anchor::start_time(pid) == Some(started) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}
