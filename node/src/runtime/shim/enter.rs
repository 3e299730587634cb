//! The way in: from the agent's user, through the node's user namespace, into the pod's own.

use std::ffi::CString;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use nix::unistd::{Gid, Pid, Uid, pipe2, setgroups, setresgid, setresuid, setsid};

use super::protocol::{Init, Slot};
use super::{Attempt, ShimError};
use crate::sys;
use crate::wire;

/// File descriptors of the second stage, by agreement: the message, the agent, the control socket, the layers.
pub(super) const MESSAGE_FD: i32 = 3;
pub(super) const AGENT_FD: i32 = 4;
pub(super) const LISTENER_FD: i32 = 5;
pub(super) const LAYERS_FD: i32 = 6;

/// The first stage: becomes root of the node's user namespace, forks, and gives the child a namespace of its own.
///
/// The child executes the program anew from inside, so that its `/proc` entries belong to the pod's user namespace;
/// this process ends as soon as the child has its ids.
pub(super) fn enter() -> Result<(), ShimError> {
    let agent = UnixStream::from(sys::inherited_fd(0).attempt("take over the agent's socket")?);
    let (init, fds) = wire::receive::<Init>(&agent).attempt("read the pod's description")?.ok_or(ShimError::Gone)?;
    let mut fds = fds.into_iter();
    let (Some(listener), Some(node)) = (fds.next(), fds.next()) else { return Err(ShimError::Gone) };
    setns(node, CloneFlags::CLONE_NEWUSER).attempt("enter the node's user namespace")?;
    let mut message = memfd_create(c"pod", MemFdCreateFlag::empty()).map(std::fs::File::from).attempt("make a file")?;
    serde_json::to_writer(&mut message, &init).map_err(std::io::Error::from).attempt("keep the pod's description")?;
    message.rewind().attempt("rewind the pod's description")?;
    let luggage = Luggage { message: message.into(), agent: agent.into(), listener, layers: None };
    match init.slot {
        Slot::Again => {
            let (Some(user), Some(mounts)) = (fds.next(), fds.next()) else { return Err(ShimError::Gone) };
            setns(user, CloneFlags::CLONE_NEWUSER).attempt("enter the slot's user namespace")?;
            setns(mounts, CloneFlags::CLONE_NEWNS).attempt("enter the slot's mount namespace")?;
            sys::fork_child(move || never(become_root().and_then(|()| luggage.go_inside()))).attempt("fork").map(drop)
        }
        Slot::Own | Slot::First => make_namespace(&init, Luggage { layers: fds.next(), ..luggage }),
    }
}

fn make_namespace(init: &Init, luggage: Luggage) -> Result<(), ShimError> {
    let (unshared_reader, unshared_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).attempt("make a pipe")?;
    let (mapped_reader, mapped_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).attempt("make a pipe")?;
    let parents = [unshared_reader.as_raw_fd(), mapped_writer.as_raw_fd()];
    let child = sys::fork_child(move || {
        for fd in parents {
            // The child's copies of the parent's ends: with them open it would never notice the parent's death.
            nix::unistd::close(fd).ok();
        }
        never(second_stage(unshared_writer, mapped_reader).and_then(|()| luggage.go_inside()))
    })
    .attempt("fork")?;
    await_byte(unshared_reader).attempt("wait for the pod's user namespace")?;
    map_ids(child, init)?;
    std::fs::File::from(mapped_writer).write_all(b"x").attempt("release the shim")
}

fn never(result: Result<std::convert::Infallible, ShimError>) -> i32 {
    match result {
        Ok(never) => match never {},
        Err(error) => super::complain(&error),
    }
}

fn second_stage(unshared: OwnedFd, mapped: OwnedFd) -> Result<(), ShimError> {
    unshare(CloneFlags::CLONE_NEWUSER).attempt("make the pod's user namespace")?;
    std::fs::File::from(unshared).write_all(b"x").attempt("ask for ids")?;
    await_byte(mapped).attempt("wait for ids")?;
    become_root()
}

fn become_root() -> Result<(), ShimError> {
    setsid().attempt("leave the agent's session")?;
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group).attempt("become the pod's root group")?;
    setresuid(root, root, root).attempt("become the pod's root")?;
    setgroups(&[]).attempt("leave every group")
}

/// What the second stage takes along.
struct Luggage {
    message: OwnedFd,
    agent: OwnedFd,
    listener: OwnedFd,
    layers: Option<OwnedFd>,
}

impl Luggage {
    fn go_inside(self) -> Result<std::convert::Infallible, ShimError> {
        let Luggage { message, agent, listener, layers } = self;
        let count = if layers.is_some() { "4" } else { "3" };
        // The numbers wanted may be in use by one another: first out of the way, then into place.
        let mut aside = Vec::new();
        for fd in [Some(message), Some(agent), Some(listener), layers].into_iter().flatten() {
            let high = nix::fcntl::fcntl(fd.as_raw_fd(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(LAYERS_FD + 1));
            let high = high.attempt("move a descriptor")?;
            aside.push(sys::inherited_fd(high).attempt("move a descriptor")?);
        }
        for (fd, number) in aside.into_iter().zip([MESSAGE_FD, AGENT_FD, LISTENER_FD, LAYERS_FD]) {
            sys::place_fd(fd, number).attempt("place a descriptor")?;
        }
        let arguments = ["secctl", super::NAME, super::INSIDE, count].map(CString::new);
        let arguments = arguments.into_iter().collect::<Result<Vec<_>, _>>().map_err(|_| ShimError::Gone)?;
        nix::unistd::execve(c"/proc/self/exe", &arguments, &[] as &[CString]).attempt("start inside the pod")
    }
}

fn map_ids(child: Pid, init: &Init) -> Result<(), ShimError> {
    for map in ["uid_map", "gid_map"] {
        let line = format!("0 {} {}", init.first_id, init.ids);
        std::fs::write(format!("/proc/{child}/{map}"), line)
            .attempt("map the pod's ids (are there enough in /etc/subuid and /etc/subgid?)")?;
    }
    Ok(())
}

fn await_byte(reader: OwnedFd) -> std::io::Result<()> {
    std::fs::File::from(reader).read_exact(&mut [0])
}

/// Takes over what the first stage left open.
pub(super) fn inherited(count: &str) -> Result<(Init, UnixStream, OwnedFd, Option<OwnedFd>), ShimError> {
    let message = std::fs::File::from(sys::inherited_fd(MESSAGE_FD).attempt("take over the pod's description")?);
    let init = serde_json::from_reader(std::io::BufReader::new(message))
        .map_err(std::io::Error::from)
        .attempt("read the pod's description")?;
    let agent = UnixStream::from(sys::inherited_fd(AGENT_FD).attempt("take over the agent's socket")?);
    let listener = sys::inherited_fd(LISTENER_FD).attempt("take over the control socket")?;
    let layers = match count {
        "4" => Some(sys::inherited_fd(LAYERS_FD).attempt("take over the layers")?),
        _ => None,
    };
    sys::close_on_exec(agent.as_fd(), true).attempt("guard the agent's socket")?;
    Ok((init, agent, listener, layers))
}
