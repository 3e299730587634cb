//! The new mount calls, which nix lacks: a copy of a mount whose owners are translated.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// A detached copy of the mount at `path` in which the owners of files appear as `user_namespace` maps them
/// (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`), read-only, without devices and set-user-id programs of the host.
pub fn idmapped_clone(path: &Path, user_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a terminated string that outlives the call; the call returns a new descriptor or an error.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = owned(tree)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).unwrap_or(0),
    };
    // SAFETY: the path is empty (`AT_EMPTY_PATH` names the descriptor itself), and the attributes live until the
    // call returns and are passed with their exact size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(tree) }
}

/// A detached copy of what `part`, opened with `O_PATH`, is: a file or directory, with what is mounted below.
pub fn clone_mount(part: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let beside = u32::try_from(libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).unwrap_or(0);
    // SAFETY: the path is empty (`AT_EMPTY_PATH` names the descriptor itself, which lives until the call returns);
    // the call returns a new descriptor or an error.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, part.as_raw_fd(), c"".as_ptr(), flags | beside) };
    owned(tree)
}

/// Attaches a detached mount at `target`.
pub fn attach_mount(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both paths are terminated strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for this process; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
