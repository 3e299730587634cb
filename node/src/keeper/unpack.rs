//! Unpacks one image with the owners of one id range.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use martello_scanner::layers::Limits;
use martello_scanner::unpack::{Owners, Source, UnpackError, unpack_open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, pipe2, setgroups, setresgid, setresuid};

use super::context;
use super::protocol::{Response, UnpackInit};
use crate::{sys, wire};

/// The word after `secctl keeper` that makes the process unpack.
pub(crate) const UNPACK: &str = "unpack";

/// Enters the node's user namespace, and a child of it with the range's ids, and unpacks there.
pub(super) fn unpack() -> io::Result<()> {
    let agent = UnixStream::from(sys::inherited_fd(0)?);
    let Some((init, fds)) = wire::receive::<UnpackInit>(&agent)? else { return Ok(()) };
    let node = fds.into_iter().next().ok_or_else(|| io::Error::other("there is no user namespace"))?;
    // The store is closed to the ids of pods: its blobs are opened while this is still the agent's user.
    let sources: Result<Vec<Source>, UnpackError> = init.layers.iter().map(Source::open).collect();
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => return wire::send(&agent, &Response::Failed { message: martello_scanner::explain(&error) }, &[]),
    };
    setns(node, CloneFlags::CLONE_NEWUSER)?;
    let (unshared_reader, unshared_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (mapped_reader, mapped_writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mapped_writer_raw = std::os::fd::AsRawFd::as_raw_fd(&mapped_writer);
    let line = format!("0 {} {}", init.first_id, init.ids);
    let child = sys::fork_child(move || {
        nix::unistd::close(mapped_writer_raw).ok();
        let result =
            become_root(unshared_writer.into(), mapped_reader.into()).and_then(|()| unpack_image(sources, &init));
        let response = match &result {
            Ok(()) => Response::Done,
            Err(error) => Response::Failed { message: error.to_string() },
        };
        i32::from(wire::send(&agent, &response, &[]).is_err())
    })?;
    std::fs::File::from(unshared_reader).read_exact(&mut [0])?;
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{child}/{map}"), &line).map_err(context("map ids for unpacking"))?;
    }
    std::fs::File::from(mapped_writer).write_all(b"x")?;
    nix::sys::wait::waitpid(child, None)?;
    Ok(())
}

fn become_root(mut unshared: std::fs::File, mut mapped: std::fs::File) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    unshared.write_all(b"x")?;
    mapped.read_exact(&mut [0])?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    setgroups(&[])?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

fn unpack_image(sources: Vec<Source>, init: &UnpackInit) -> io::Result<()> {
    let unpacked = unpack_open(sources, &init.into, &Limits::default(), Owners::AsInLayer);
    unpacked.map(drop).map_err(|error| io::Error::other(martello_scanner::explain(&error)))
}
