//! Signals to processes: to one of a number, and to one that can't be mistaken for a later one of the same number.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::unistd::Pid;

/// Sends a signal by its number, which may be a real-time one.
pub fn signal(process: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory of this process; an unknown number gives an error.
    if unsafe { libc::kill(process.as_raw(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A handle on one process (`pidfd_open(2)`): once it has ended, signals to it reach nobody.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process that has this number now.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: the call takes two numbers and returns a new descriptor or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made this descriptor for this process; nothing else owns it.
            Ok(fd) if fd >= 0 => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Kills it.
    pub fn kill(&self) -> io::Result<()> {
        let nothing: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: no signal information is passed (a null pointer is allowed); the descriptor is open.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, nothing, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
