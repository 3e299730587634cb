//! Directories and trees that change their owner. A pod may write to them at the same time, so no step follows a link.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

/// Depth of a tree at most: the stack of this function, and more than any volume needs.
const MAX_DEPTH: usize = 64;

/// Gives `path`, and everything below it, to `uid` and `gid`. `path` must lie below `root`.
pub(super) fn own(root: &Path, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
    let (parent, name) = open_parent(root, path)?;
    own_entry(&parent, Path::new(&name), owner, 0)
}

fn own_entry(parent: &OwnedFd, name: &Path, (uid, gid): (Uid, Gid), depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the tree is too deep"));
    }
    let status = match fstatat(Some(parent.as_raw_fd()), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(nix::errno::Errno::ENOENT) if depth > 0 => return Ok(()),
        other => other?,
    };
    fchownat(Some(parent.as_raw_fd()), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        return Ok(());
    }
    let directory = open_directory(parent, name)?;
    let mut entries = Dir::from_fd(directory.try_clone().map(std::os::fd::IntoRawFd::into_raw_fd)?)?;
    let names: Vec<_> = entries.iter().collect::<Result<Vec<_>, _>>()?;
    for entry in names {
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            own_entry(&directory, Path::new(name), (uid, gid), depth + 1)?;
        }
    }
    Ok(())
}

/// Makes the directory `path` below `root` (its parent exists), for `uid`, with exactly `mode`.
pub(super) fn make_directory(root: &Path, path: &Path, uid: u32, mode: u32) -> io::Result<()> {
    let (parent, name) = open_parent(root, path)?;
    match nix::sys::stat::mkdirat(Some(parent.as_raw_fd()), Path::new(&name), Mode::S_IRWXU) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_directory(&parent, Path::new(&name))?;
    // Group 0 here is the agent's group on the node.
    nix::unistd::fchown(directory.as_raw_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(0)))?;
    // After the owner, since changing that clears the set-group-id bit.
    nix::sys::stat::fchmod(directory.as_raw_fd(), Mode::from_bits_truncate(mode))?;
    Ok(())
}

/// Deletes `path` below `root` with everything in it.
pub(super) fn remove(root: &Path, path: &Path) -> io::Result<()> {
    open_parent(root, path)?;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn open_parent(root: &Path, path: &Path) -> io::Result<(OwnedFd, std::ffi::OsString)> {
    let outside = || io::Error::other(format!("{} is not below {}", path.display(), root.display()));
    let below = path.strip_prefix(root).map_err(|_| outside())?;
    let mut parts: Vec<_> = below.components().collect();
    let Some(Component::Normal(last)) = parts.pop() else { return Err(outside()) };
    let mut directory = OwnedFd::from(std::fs::File::open(root)?);
    for part in parts {
        let Component::Normal(name) = part else { return Err(outside()) };
        directory = open_directory(&directory, Path::new(name))?;
    }
    Ok((directory, last.to_owned()))
}

pub(super) fn open_directory(parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let raw = openat(Some(parent.as_raw_fd()), name, flags, Mode::empty())?;
    crate::sys::inherited_fd(raw)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn links_are_not_followed() {
        if !Uid::effective().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("file"), "").unwrap();
        let tree = root.path().join("tree");
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        std::fs::write(tree.join("deep/file"), "").unwrap();
        symlink(outside.path(), tree.join("link")).unwrap();
        own(root.path(), &tree, 1234, 1235).unwrap();
        assert_eq!(std::fs::metadata(tree.join("deep/file")).unwrap().uid(), 1234);
        assert_eq!(std::fs::metadata(outside.path()).unwrap().uid(), 0);
        assert!(own(root.path(), &tree.join("link/file"), 1, 1).is_err());
        assert_eq!(std::fs::metadata(outside.path().join("file")).unwrap().uid(), 0);
    }

    #[test]
    fn nothing_outside_the_state_directory_is_touched() {
        let root = tempfile::tempdir().unwrap();
        assert!(remove(root.path(), Path::new("/etc/nothing")).is_err());
        assert!(remove(root.path(), &root.path().join("../x")).is_err());
        assert!(remove(root.path(), root.path()).is_err());
    }
}
