//! Ending everything that a node left running.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MntFlags, umount2};

use super::cgroup::Hierarchies;
use super::ids::Range;
use super::local::{RECORD, Record};
use super::owners::{Owners, kill_of};
use super::prepare;
use super::shim::state::{FILE, State};
use super::spec::ContainerState;
use crate::keeper::anchor::Anchor;

/// How long killed processes have to vanish.
const VANISH_TIME: Duration = Duration::from_secs(5);

/// A shim writes a few hundred bytes about each container that was not removed.
const MAX_STATE: u64 = 16 << 20;

/// Ends every process of the node with this state directory, its mounts, control groups and namespaces, and deletes
/// what the runtime keeps below the directory. Only processes that the records name are touched, and only if they
/// are still the recorded ones and run as users of this node. Returns what could not be removed.
pub fn cleanup(state_dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let mut ended = Vec::new();
    let owners = Owners::of(state_dir);
    for entry in std::fs::read_dir(state_dir.join("pods")).into_iter().flatten().flatten() {
        let record = std::fs::read(entry.path().join(RECORD)).ok();
        let record: Option<Record> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let users = owners.of_slot(record.as_ref().map(|record| record.slot));
        if let Some(shim) = record.and_then(|record| record.shim) {
            end(shim, &users, &mut ended);
        }
        ended.extend(kill_left(&entry.path(), &users));
    }
    for name in ["server.json", "uplink.json", "anchor.json"] {
        let bytes = std::fs::read(state_dir.join("keeper").join(name)).ok();
        if let Some(process) = bytes.and_then(|bytes| serde_json::from_slice::<Anchor>(&bytes).ok()) {
            end(process, &owners.all(), &mut ended);
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
        let remaining = loop {
            groups.remove(&group);
            let remaining: Vec<_> =
                groups.directories(&group).into_iter().filter(|directory| directory.exists()).collect();
            // A process that has ended leaves its groups a moment later.
            if remaining.is_empty() || Instant::now() >= deadline {
                break remaining;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        left.extend(remaining.into_iter().map(|directory| format!("control group {}", directory.display())));
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

fn end(process: Anchor, users: &[Range], ended: &mut Vec<Anchor>) {
    if process.is_alive() {
        if !kill_of(process, users) {
            tracing::warn!(pid = process.pid, "a recorded process is none of this node's users' and is left alone");
        }
        ended.push(process);
    }
}

/// Kills containers whose shim died without ending them: those that the shim's last state calls running, that are
/// still the same, and that run as users of the pod. What the state says is the pod's word: whoever breaks out of a
/// container into the shim may name any process of the machine. Returns those that were killed.
pub(super) fn kill_left(pod_dir: &Path, users: &[Range]) -> Vec<Anchor> {
    let containers = last_state(pod_dir).into_iter().flat_map(|state| state.containers);
    let running = containers.filter_map(|status| match status.state {
        ContainerState::Running { pid, started, .. } => Some(Anchor { pid, started }),
        ContainerState::Exited { .. } => None,
    });
    running.filter(|process| kill_of(*process, users)).collect()
}

/// What the shim wrote last. The directory is the pod's: what lies there may be a link, a pipe, or without end.
fn last_state(pod_dir: &Path) -> Option<State> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(pod_dir.join("shim").join(FILE)).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_STATE).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};

    use super::*;
    use crate::keeper::anchor::start_time;

    /// A user that nobody is, of a range that no machine grants.
    const USER: u32 = 0x7000_1234;
    const USERS: [Range; 1] = [Range { start: 0x7000_0000, count: 65_536 }];

    fn sleeper(uid: u32) -> Child {
        Command::new("/bin/sleep").arg("1000").uid(uid).spawn().unwrap()
    }

    fn told(pod_dir: &Path, pid: i32, started: u64) {
        let running = serde_json::json!({"state": "running", "started_at": "2026-01-01T00:00:00Z", "pid": pid,
            "started": started, "uid": 0});
        let one = serde_json::json!({"id": "a-0", "name": "a", "attempt": 0, "state": running, "log_path": "/l"});
        std::fs::create_dir_all(pod_dir.join("shim")).unwrap();
        std::fs::write(pod_dir.join("shim").join(FILE), serde_json::json!({"containers": [one]}).to_string()).unwrap();
        assert_eq!(last_state(pod_dir).unwrap().containers.len(), 1);
    }

    #[test]
    fn only_what_the_pods_users_run_is_killed_whatever_its_state_says() {
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (mut own, mut foreign) = (sleeper(USER), sleeper(0));
        let id = |child: &Child| child.id().cast_signed();
        let started = |child: &Child| start_time(id(child)).unwrap();
        told(dir.path(), id(&foreign), started(&foreign));
        assert!(kill_left(dir.path(), &USERS).is_empty());
        told(dir.path(), id(&own), started(&own) + 1);
        assert!(kill_left(dir.path(), &USERS).is_empty());
        assert!(foreign.try_wait().unwrap().is_none(), "a process of another user lives on");
        assert!(own.try_wait().unwrap().is_none(), "a later process of the same number lives on");
        told(dir.path(), id(&own), started(&own));
        assert_eq!(kill_left(dir.path(), &USERS).len(), 1);
        assert_eq!(own.wait().unwrap().signal(), Some(libc::SIGKILL));
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }

    #[test]
    fn a_state_that_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let shim = dir.path().join("shim");
        std::fs::create_dir(&shim).unwrap();
        nix::unistd::mkfifo(&shim.join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(last_state(dir.path()).is_none());
        std::fs::remove_file(shim.join(FILE)).unwrap();
        std::fs::write(dir.path().join("elsewhere"), r#"{"containers": []}"#).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), shim.join(FILE)).unwrap();
        assert!(last_state(dir.path()).is_none());
    }
}
