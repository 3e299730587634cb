//! The agent's end of a shim: requests over its control socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RuntimeError;
use super::shim::protocol::{Request, Response};
use crate::wire;

/// How long a shim may take for anything that it does at once: making a container of a hundred layers on a busy disk.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A shim's control socket.
#[derive(Clone, Debug)]
pub(super) struct ShimLink {
    socket: PathBuf,
}

impl ShimLink {
    /// The shim of the pod with this directory.
    pub(super) fn new(pod_dir: &Path) -> ShimLink {
        ShimLink { socket: pod_dir.join("socket") }
    }

    /// Path of the socket.
    pub(super) fn path(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and waits for its (first) answer. Blocks.
    pub(super) fn ask(&self, request: &Request, fds: Vec<OwnedFd>) -> io::Result<(Response, Vec<OwnedFd>, UnixStream)> {
        let stream = self.send(request, &fds)?;
        drop(fds);
        match wire::receive(&stream)? {
            Some((response, fds)) => Ok((response, fds, stream)),
            None => Err(io::Error::other("the pod's shim ended")),
        }
    }

    /// Sends a request; its answers are read from the stream. Blocks for as long as the shim takes to listen.
    pub(super) fn send(&self, request: &Request, fds: &[OwnedFd]) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        wire::send(&stream, request, &fds)?;
        Ok(stream)
    }

    /// Sends a request without holding a thread while it is answered.
    pub(super) async fn begin(
        &self,
        request: Request,
        attempt: String,
    ) -> Result<tokio::net::UnixStream, RuntimeError> {
        let link = self.clone();
        blocking(attempt, move || into_async(link.send(&request, &[])?)).await
    }
}

/// For waiting without a thread.
pub(super) fn into_async(stream: UnixStream) -> io::Result<tokio::net::UnixStream> {
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    attempt: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(io::Error::other).and_then(|result| result).map_err(|source| RuntimeError::Io { attempt, source })
}

/// What a shim refused, as an error.
pub(super) fn unexpected(attempt: &str, response: Response) -> RuntimeError {
    let message = match response {
        Response::Failed { message } => message,
        Response::Unprepared { message } => return RuntimeError::Unprepared { message },
        other => format!("the shim answered {other:?}"),
    };
    RuntimeError::Refused { attempt: attempt.to_owned(), message }
}
