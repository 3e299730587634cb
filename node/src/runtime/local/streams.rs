//! The streams of a process in a container, and connections that others have opened for us.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::runtime::link::{into_async, unexpected};
use crate::runtime::shim::protocol::Response;
use crate::runtime::{ContainerState, ContainerStatus, ExecSession, Exit, RuntimeError};
use crate::wire;

/// Our ends of a process's streams.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Streams {
    /// Pipes; also the other ends: stdin, stdout, stderr.
    pub(super) fn pipes(stdin: bool) -> io::Result<(Streams, Vec<OwnedFd>)> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        let (their_in, our_in) = if stdin {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let streams = Streams { stdin: our_in, stdout: Some(out_reader), stderr: Some(err_reader), terminal: None };
        Ok((streams, vec![their_in, out_writer, err_writer]))
    }

    /// A terminal: one descriptor for reading, writing and resizing.
    pub(super) fn terminal(fds: Vec<OwnedFd>, stdin: bool) -> io::Result<Streams> {
        let Some(terminal) = fds.into_iter().next() else { return Ok(Streams::default()) };
        let stdin = stdin.then(|| terminal.try_clone()).transpose()?;
        Ok(Streams { stdin, stdout: Some(terminal.try_clone()?), stderr: None, terminal: Some(terminal) })
    }
}

/// The session of a process that runs, with these streams; `stream` tells its end.
pub(super) fn session(
    attempt: &str,
    response: Response,
    streams: Streams,
    stream: UnixStream,
) -> Result<ExecSession, RuntimeError> {
    if !matches!(response, Response::Running) {
        return Err(unexpected(attempt, response));
    }
    let failed = |attempt: String| move |source| RuntimeError::Io { attempt, source };
    let mut stream = into_async(stream).map_err(failed(attempt.to_owned()))?;
    let attempt = attempt.to_owned();
    let exit = async move {
        match wire::receive_async(&mut stream).await {
            Ok(Some(Response::Exited(exit))) => Ok(exit),
            Ok(Some(Response::Container(status))) => Ok(exit_of(&status)),
            Ok(Some(other)) => Err(unexpected(&attempt, other)),
            Ok(None) => Err(RuntimeError::Refused { attempt, message: "the pod's shim ended".to_owned() }),
            Err(source) => Err(RuntimeError::Io { attempt, source }),
        }
    };
    let Streams { stdin, stdout, stderr, terminal } = streams;
    Ok(ExecSession { stdin, stdout, stderr, terminal, exit: Box::pin(exit) })
}

fn exit_of(status: &ContainerStatus) -> Exit {
    match status.state {
        ContainerState::Exited { exit, .. } => exit,
        ContainerState::Running { .. } => Exit { code: 0, signal: None, oom_killed: false },
    }
}

/// The connection that came as a descriptor.
pub(super) fn tcp(fds: Vec<OwnedFd>, attempt: String) -> Result<tokio::net::TcpStream, RuntimeError> {
    let made = fds.into_iter().next().ok_or_else(|| io::Error::other("no connection came")).and_then(|fd| {
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    });
    made.map_err(|source| RuntimeError::Io { attempt, source })
}
