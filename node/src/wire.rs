//! Messages between the agent and its helper processes: a length, JSON, and file descriptors beside it.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;

/// Bytes of one message at most: a table of 10,000 services is about 2 MB.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How long the rest of a message that has begun may take; both ends write whole messages.
pub(crate) const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// Sends one message.
pub(crate) fn send(socket: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("message is too long"))?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    let sent = sys::send_with_fds(socket.as_fd(), &bytes, fds)?;
    let mut writer = socket;
    writer.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Receives one message; `None` is the orderly end.
pub(crate) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut fds = Vec::new();
    let mut head = [0_u8; 4];
    if !fill(socket, &mut head, &mut fds)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("message is too long"));
    }
    let mut body = vec![0_u8; length];
    if !fill(socket, &mut body, &mut fds)? && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

/// Receives one message that carries no file descriptors, without holding a thread.
pub(crate) async fn receive_async<T: DeserializeOwned>(socket: &mut tokio::net::UnixStream) -> io::Result<Option<T>> {
    use tokio::io::AsyncReadExt;
    let length = match socket.read_u32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => usize::try_from(other?).unwrap_or(usize::MAX),
    };
    if length > MAX_MESSAGE {
        return Err(io::Error::other("message is too long"));
    }
    let mut body = vec![0_u8; length];
    socket.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Fills `buffer`; false if the stream ended before its first byte.
fn fill(socket: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match sys::receive_with_fds(socket.as_fd(), rest, fds) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_message_carries_its_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send(&left, &"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let (text, fds) = receive::<String>(&right).unwrap().unwrap();
        assert_eq!(text, "hello");
        let mut file = std::fs::File::from(fds.into_iter().next().unwrap());
        file.write_all(b"x").unwrap();
        drop(file);
        let mut got = String::new();
        std::fs::File::from(reader).read_to_string(&mut got).unwrap();
        assert_eq!(got, "x");
    }

    #[test]
    fn an_ended_stream_is_no_message() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert!(receive::<String>(&right).unwrap().is_none());
    }

    #[test]
    fn a_message_that_claims_to_be_huge_is_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        (&left).write_all(&[0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(receive::<String>(&right).is_err());
    }
}
