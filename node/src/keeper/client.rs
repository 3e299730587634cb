//! The agent's side of the keeper.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::anchor::Anchor;
use super::protocol::{Request, Response, ServeInit, UnpackInit};
use super::serve::SERVE;
use super::unpack::UNPACK;
use super::{NAME, anchor};
use crate::wire;

/// How long an answer may take: the longest is a connection to a pod that does not answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long unpacking an image may take.
const UNPACK_TIME: Duration = Duration::from_secs(600);

/// A handle on the keeper of this node. Its calls block.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    socket: PathBuf,
    executable: PathBuf,
    state_dir: PathBuf,
    volatile_dir: PathBuf,
    anchor: Anchor,
}

impl Keeper {
    /// Finds the running server or starts one.
    pub(crate) fn connect(
        state_dir: &Path,
        volatile_dir: &Path,
        executable: &Path,
        anchor: Anchor,
    ) -> io::Result<Keeper> {
        let keeper = Keeper {
            socket: state_dir.join("keeper/socket"),
            executable: executable.to_owned(),
            state_dir: state_dir.to_owned(),
            volatile_dir: volatile_dir.to_owned(),
            anchor,
        };
        if keeper.ask(&Request::Hello, "say hello").is_err() {
            keeper.start()?;
        }
        Ok(keeper)
    }

    /// Starts another server if the one that ran has died; answers whether it had.
    pub(crate) fn revive(&self) -> io::Result<bool> {
        let record = std::fs::read(self.state_dir.join("keeper/server.json")).ok();
        let server: Option<Anchor> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if server.is_some_and(Anchor::is_alive) {
            return Ok(false);
        }
        self.start().map(|()| true)
    }

    /// The node's directory.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What holds the node's namespaces.
    pub(crate) fn anchor(&self) -> Anchor {
        self.anchor
    }

    fn start(&self) -> io::Result<()> {
        drop(std::fs::remove_file(&self.socket));
        let listener = UnixListener::bind(&self.socket)?;
        std::fs::set_permissions(&self.socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let init = ServeInit { roots: vec![self.state_dir.clone(), self.volatile_dir.clone()] };
        let fds = [listener.into(), self.anchor.namespace("user")?, self.anchor.namespace("net")?];
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.state_dir.join("keeper/log"))?;
        let (socket, process) = spawn(&self.executable, &[NAME, SERVE], &init, &fds, log)?;
        socket.set_read_timeout(Some(ANSWER_TIME))?;
        answer(&socket)?;
        let pid = process.id().cast_signed();
        let record = Anchor { pid, started: anchor::start_time(pid).unwrap_or_default() };
        std::fs::write(self.state_dir.join("keeper/server.json"), serde_json::to_vec(&record)?)
    }

    /// The bytes on disk that a tree takes.
    pub(crate) fn measure(&self, path: PathBuf) -> io::Result<u64> {
        match self.answer_to(&Request::Measure { path }, "measure what a pod stores")? {
            (Response::Measured { bytes }, _) => Ok(bytes),
            (other, _) => Err(io::Error::other(format!("the keeper answered {other:?}"))),
        }
    }

    /// Asks and waits for the answer; `attempt` completes "could not …".
    pub(crate) fn ask(&self, request: &Request, attempt: &str) -> io::Result<Vec<OwnedFd>> {
        self.answer_to(request, attempt).map(|(_, fds)| fds)
    }

    fn answer_to(&self, request: &Request, attempt: &str) -> io::Result<(Response, Vec<OwnedFd>)> {
        let result = UnixStream::connect(&self.socket).and_then(|socket| {
            socket.set_read_timeout(Some(ANSWER_TIME))?;
            wire::send(&socket, request, &[])?;
            answer(&socket)
        });
        result.map_err(super::context(attempt))
    }

    /// Opens a namespace of the node.
    pub(crate) fn namespace(&self, kind: &str) -> io::Result<OwnedFd> {
        self.anchor.namespace(kind)
    }

    /// Unpacks an image in a process of its own.
    pub(crate) fn unpack(&self, init: &UnpackInit) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.state_dir.join("keeper/log"))?;
        let fds = [self.anchor.namespace("user")?];
        let (socket, mut process) = spawn(&self.executable, &[NAME, UNPACK], init, &fds, log)?;
        socket.set_read_timeout(Some(UNPACK_TIME))?;
        let result = answer(&socket).map(drop);
        process.wait()?;
        result
    }
}

/// Starts a helper with its message on standard input.
pub(crate) fn spawn(
    executable: &Path,
    arguments: &[&str],
    init: &impl serde::Serialize,
    fds: &[OwnedFd],
    log: std::fs::File,
) -> io::Result<(UnixStream, std::process::Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let process = Command::new(executable)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(super::context(format!("start {}", executable.display())))?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    wire::send(&ours, init, &fds)?;
    Ok((ours, process))
}

fn answer(socket: &UnixStream) -> io::Result<(Response, Vec<OwnedFd>)> {
    match wire::receive::<Response>(socket)? {
        Some((Response::Failed { message }, _)) => Err(io::Error::other(message)),
        Some(answer) => Ok(answer),
        None => Err(io::Error::other("the keeper ended; its log is in the keeper directory")),
    }
}
