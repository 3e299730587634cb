//! The operating system's calls that need `unsafe`, each behind a small safe function.
#![allow(unsafe_code, reason = "the one module that may; each block says why it is sound")]

mod mount;
mod process;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid};

pub use self::mount::{attach_mount, clone_mount, idmapped_clone};
pub use self::process::{Process, signal};

/// Most file descriptors that one message carries (a process's three streams and one to spare).
pub const MAX_FDS: usize = 4;

/// Forks and runs `child` in the new process, which ends with the code that `child` returns.
///
/// Refuses in a process with several threads: the child would hold copies of locks that nobody will ever release.
pub fn fork_child(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads may not fork"));
    }
    // SAFETY: the process has one thread, so the child is a complete copy; it leaves through `_exit` and so runs no
    // destructor or exit handler of its parent.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = child();
            // SAFETY: `_exit` takes any code and never returns.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Takes over a file descriptor that the parent process left open under this number by agreement.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl only reads the flags; a number that is not open gives an error.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and by agreement with the parent nothing else in this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    close_on_exec(fd.as_fd(), true)?;
    Ok(fd)
}

/// Moves `fd` to exactly `number` and leaves it open over `exec`.
pub fn place_fd(fd: OwnedFd, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        close_on_exec(fd.as_fd(), false)?;
        std::mem::forget(fd);
        return Ok(());
    }
    nix::unistd::dup2(fd.as_raw_fd(), number)?;
    Ok(())
}

/// Sets or clears the close-on-exec flag.
pub fn close_on_exec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flag = if on { nix::fcntl::FdFlag::FD_CLOEXEC } else { nix::fcntl::FdFlag::empty() };
    nix::fcntl::fcntl(fd.as_raw_fd(), nix::fcntl::FcntlArg::F_SETFD(flag))?;
    Ok(())
}

/// Sends `bytes`, the file descriptors with the first of them; returns how many bytes were taken.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(sent)
}

/// Receives into `buffer`; the file descriptors that came along are appended to `fds`. Zero bytes mean the end.
pub fn receive_with_fds(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

/// Undoes what this process and its ancestors did about signals, for a program that is about to replace it: none is
/// blocked, and none ignored (Rust's startup ignores the broken pipe, shells ignore the keyboard for what they start
/// in the background).
pub fn reset_signals() -> io::Result<()> {
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of this process. The numbers that can't be set, KILL and STOP and
        // those that the C library keeps for itself, give an error that changes nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    Ok(())
}

/// Sets the size of a terminal.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives until the call returns.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
