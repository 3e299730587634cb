//! The root file system of a container: read-only layers and a writable one that dies with it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};

use super::users::open_in;
use super::{Attempt, ShimError};

/// Layers of one image at most, as in other engines.
const MAX_LAYERS: usize = 127;

/// Mounts `layers` (lowest first, names below `store`) with a new writable layer in `directory`; returns the root.
pub(super) fn mount_root(store: &Path, layers: &[String], directory: &Path) -> Result<PathBuf, ShimError> {
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return Err(ShimError::Refused(format!("an image has 1 to {MAX_LAYERS} layers, this one {}", layers.len())));
    }
    let [upper, work, root] = ["upper", "work", "root"].map(|name| directory.join(name));
    for path in [&upper, &work, &root] {
        std::fs::create_dir_all(path).attempt(format!("make {}", path.display()))?;
    }
    let mut lower = OsString::new();
    for layer in layers.iter().rev() {
        if !is_plain_name(layer) {
            return Err(ShimError::Refused(format!("\"{layer}\" is no layer's name")));
        }
        if !lower.is_empty() {
            lower.push(":");
        }
        lower.push(layer);
    }
    // The names are relative to the store: the kernel takes one page of options at most.
    let before = std::env::current_dir().attempt("find the working directory")?;
    std::env::set_current_dir(store).attempt(format!("go to {}", store.display()))?;
    let mut options = OsString::from("userxattr,volatile,lowerdir=");
    options.push(lower);
    for (name, path) in [(",upperdir=", &upper), (",workdir=", &work)] {
        options.push(name);
        options.push(path);
    }
    let result = mount(Some("overlay"), &root, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_os_str()));
    std::env::set_current_dir(before).attempt("go back")?;
    result.attempt(format!("mount the layers at {}", root.display()))?;
    Ok(root)
}

/// Unmounts and deletes what [`mount_root`] made.
pub(super) fn remove_root(directory: &Path) -> Result<(), ShimError> {
    // Not mounted is what is wanted.
    umount2(&directory.join("root"), MntFlags::MNT_DETACH).ok();
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).attempt(format!("delete {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a directory of the container and its parents, where they are missing.
pub(super) fn make_directory(root: &Path, path: &Path) -> Result<(), ShimError> {
    let mut done = PathBuf::from("/");
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let parent = open_in(root, &done, nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY)
            .attempt(format!("open {} of the container", done.display()))?;
        match mkdirat(Some(std::os::fd::AsRawFd::as_raw_fd(&parent)), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => done.push(name),
            Err(error) => return Err(error).attempt(format!("make {} in the container", path.display())),
        }
    }
    Ok(())
}

pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
