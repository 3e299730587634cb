//! The anchor: a process that does nothing but hold the node's user namespace and its pod network, so that no crash
//! and no update of anything else ends them.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Pid, Uid, pipe2, setgroups, setresgid, setresuid, setsid};

use crate::runtime::ids::Range;
use crate::runtime::prepare::{Attempt, PrepareConfig, PrepareError, run};
use crate::sys;

/// The word after `secctl keeper` that makes the process the anchor.
pub(crate) const ANCHOR: &str = "anchor";

/// A running anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Anchor {
    /// Process on the node.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot: tells it from a later process with the same number.
    pub(crate) started: u64,
}

impl Anchor {
    /// Whether this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Opens one of its namespaces (`user`, `net`).
    pub(crate) fn namespace(self, kind: &str) -> io::Result<OwnedFd> {
        let file = File::open(format!("/proc/{}/ns/{kind}", self.pid))?;
        if self.is_alive() { Ok(file.into()) } else { Err(io::Error::other("the node's namespaces have gone")) }
    }
}

/// The kernel's mark of a process that is on its way out (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// When a process started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so count from its closing parenthesis: state is field 3, flags field 9, start time 22.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let started = fields.nth(12)?.parse().ok()?;
    // It has left its groups already, and is a zombie only a moment later.
    (flags & PF_EXITING == 0).then_some(started)
}

fn record(state_dir: &Path) -> PathBuf {
    state_dir.join("keeper/anchor.json")
}

/// The anchor of a node with this state directory, if it runs.
pub(crate) fn find(state_dir: &Path) -> Option<Anchor> {
    let anchor: Anchor = serde_json::from_slice(&fs::read(record(state_dir)).ok()?).ok()?;
    anchor.is_alive().then_some(anchor)
}

/// Finds the running anchor or starts one with these ids.
pub(crate) fn find_or_start(
    config: &PrepareConfig,
    uid: u32,
    gid: u32,
    uids: Range,
    gids: Range,
) -> Result<Anchor, PrepareError> {
    if let Some(anchor) = find(&config.state_dir) {
        return Ok(anchor);
    }
    let pid = start(config, uid, gid, uids, gids)?;
    let started = start_time(pid.as_raw()).ok_or_else(|| io::Error::other("it ended at once"));
    let anchor = Anchor { pid: pid.as_raw(), started: started.attempt("start the node's anchor")? };
    let path = record(&config.state_dir);
    let text = serde_json::to_vec(&anchor).map_err(io::Error::from).attempt("encode the anchor's record")?;
    fs::write(&path, text).attempt(format!("write {}", path.display()))?;
    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).attempt(format!("give {} away", path.display()))?;
    Ok(anchor)
}

/// The kernel's reasons: `user.max_user_namespaces` is 0, or the process is inside a chroot.
const NO_NAMESPACE: &str =
    "make the node's user namespace (user.max_user_namespaces must not be 0, and a chroot has none)";

fn start(config: &PrepareConfig, uid: u32, gid: u32, uids: Range, gids: Range) -> Result<Pid, PrepareError> {
    let pipe = || pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from).attempt("make a pipe");
    let (unshared_reader, unshared_writer) = pipe()?;
    let (mapped_reader, mapped_writer) = pipe()?;
    // Closed by the execution of the anchor, which ends this step; or holds what went wrong.
    let (started_reader, started_writer) = pipe()?;
    let parents = [unshared_reader.as_raw_fd(), mapped_writer.as_raw_fd(), started_reader.as_raw_fd()];
    let child = sys::fork_child(move || {
        for fd in parents {
            nix::unistd::close(fd).ok();
        }
        match become_anchor(config, uid, gid, unshared_writer, mapped_reader) {
            Ok(never) => match never {},
            Err(error) => {
                File::from(started_writer).write_all(error.to_string().as_bytes()).ok();
                1
            }
        }
    })
    .attempt("fork the node's anchor")?;
    if File::from(unshared_reader).read_exact(&mut [0]).is_err() {
        return Err(failure(started_reader)).attempt(NO_NAMESPACE);
    }
    map(child, "uid", uid, uids)?;
    map(child, "gid", gid, gids)?;
    let mut release = File::from(mapped_writer);
    release.write_all(b"x").attempt("release the node's anchor")?;
    let mut told = String::new();
    File::from(started_reader).read_to_string(&mut told).attempt("wait for the node's anchor")?;
    match told.is_empty() {
        true => Ok(child),
        false => Err(io::Error::other(told)).attempt("start the node's anchor"),
    }
}

/// What the anchor said before it ended.
fn failure(started: OwnedFd) -> io::Error {
    let mut told = String::new();
    match File::from(started).read_to_string(&mut told) {
        Ok(0) => io::Error::other("the process that holds it ended without a word"),
        Ok(_) => io::Error::other(told),
        Err(error) => error,
    }
}

/// Maps the agent's id to 0 and its subordinate ids to those after.
fn map(child: Pid, kind: &str, own: u32, range: Range) -> Result<(), PrepareError> {
    let Range { start, count } = range;
    if Uid::effective().is_root() {
        let text = format!("0 {own} 1\n1 {start} {count}\n");
        return fs::write(format!("/proc/{child}/{kind}_map"), text).attempt("map the node's ids");
    }
    let numbers = [0, own, 1, 1, start, count].map(|number| number.to_string());
    let child = child.to_string();
    let mut arguments = vec![child.as_str()];
    arguments.extend(numbers.iter().map(String::as_str));
    run(&format!("new{kind}map"), &arguments)
}

fn become_anchor(
    config: &PrepareConfig,
    uid: u32,
    gid: u32,
    unshared: OwnedFd,
    mapped: OwnedFd,
) -> io::Result<std::convert::Infallible> {
    setsid()?;
    if Uid::effective().is_root() {
        setgroups(&[])?;
        setresgid(Gid::from_raw(gid), Gid::from_raw(gid), Gid::from_raw(gid))?;
        setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
        nix::sys::prctl::set_dumpable(true)?;
    }
    unshare(CloneFlags::CLONE_NEWUSER)?;
    File::from(unshared).write_all(b"x")?;
    File::from(mapped).read_exact(&mut [0])?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    setgroups(&[])?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    std::env::set_current_dir("/")?;
    detach_streams()?;
    let program = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(config.executable.as_os_str()))?;
    let arguments = ["secctl", super::NAME, ANCHOR].map(CString::new).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(nix::unistd::execve(&program, &arguments, &[] as &[CString])?)
}

/// Lets go of the terminal or pipes of whoever started the node: this process outlives them.
fn detach_streams() -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for number in 0..3 {
        nix::unistd::dup2(null.as_raw_fd(), number)?;
    }
    Ok(())
}

/// Waits until it is told to end.
pub(super) fn hold() -> i32 {
    let mut mask = nix::sys::signal::SigSet::empty();
    mask.add(nix::sys::signal::Signal::SIGTERM);
    if mask.thread_block().is_err() {
        return 1;
    }
    match mask.wait() {
        Ok(_) => 0,
        Err(_) => 1,
    }
}

/// A user namespace with these maps and no process in it, for mounts. Needs root.
pub(crate) fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let (ready_reader, ready_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (done_reader, done_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let parents = [ready_reader.as_raw_fd(), done_writer.as_raw_fd()];
    let child = sys::fork_child(move || {
        for fd in parents {
            nix::unistd::close(fd).ok();
        }
        let result = unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(io::Error::from)
            .and_then(|()| File::from(ready_writer).write_all(b"x"))
            .and_then(|()| File::from(done_reader).read(&mut [0]));
        i32::from(result.is_err())
    })?;
    let result = File::from(ready_reader)
        .read_exact(&mut [0])
        .and_then(|()| fs::write(format!("/proc/{child}/uid_map"), uid_map))
        .and_then(|()| fs::write(format!("/proc/{child}/gid_map"), gid_map))
        .and_then(|()| File::open(format!("/proc/{child}/ns/user")));
    drop(done_writer);
    nix::sys::wait::waitpid(child, None)?;
    Ok(result?.into())
}
