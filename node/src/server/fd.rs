//! Pipes, sockets and terminals that the runtime hands over, for asynchronous use.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe::{Receiver, Sender},
};

/// The readable end of what a process writes.
#[derive(Debug)]
pub struct Output(Receiver);

impl Output {
    /// Takes over a descriptor of any kind that can be waited for.
    ///
    /// # Errors
    /// If it can't be made non-blocking or can't be waited for.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        Receiver::from_owned_fd_unchecked(fd).map(Self)
    }
}

/// The writable end of what a process reads.
///
/// # Errors
/// If it can't be made non-blocking or can't be waited for.
pub fn input(fd: OwnedFd) -> io::Result<Sender> {
    set_nonblocking(&fd)?;
    Sender::from_owned_fd_unchecked(fd)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // The other side of a terminal has gone: its end.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_at_one_end_is_read_at_the_other() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let (mut read, mut write) = (Output::new(read).unwrap(), input(write).unwrap());
        let big = vec![7u8; 300_000];
        let sent = big.clone();
        let writer = tokio::spawn(async move { write.write_all(&sent).await });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap().unwrap();
        assert_eq!(got, big);
    }
}
