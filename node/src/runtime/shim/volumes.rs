//! The pod's volumes as its containers see them: those in memory, and the parts that mounts name by a path.
//!
//! The containers of a pod share volumes and change them as they like, so a path in a volume means nothing from one
//! moment to the next. A part is looked up once, by a call that never leaves the volume, and what was found is mounted
//! by its descriptor at a place that no container sees; containers get their mounts from there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};

use super::overlay::is_plain_name;
use super::{Attempt, ShimError};
use crate::runtime::spec::{ContainerSpec, MemoryVolume, Mount, Source, SubPath};

/// A look-up is begun again this often where something was moved meanwhile: whoever moves things all the time gets no
/// mount, and nobody else notices.
const TRIES: usize = 64;

/// The least size of a volume in memory: for the kernel, no size means no limit.
const LEAST_BYTES: u64 = 4096;

/// Mounts the pod's volumes in memory below `run`.
pub(super) fn mount_memory(run: &Path, volumes: &[MemoryVolume]) -> Result<(), ShimError> {
    for volume in volumes {
        let target = memory(run, &volume.name)?;
        fs::create_dir_all(&target).attempt(format!("make {}", target.display()))?;
        let mode = if volume.gid.is_some() { 0o2777 } else { 0o777 };
        let (gid, size) = (volume.gid.unwrap_or(0), volume.size_bytes.max(LEAST_BYTES));
        let options = format!("mode={mode:o},uid=0,gid={gid},size={size}");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &target, Some("tmpfs"), flags, Some(options.as_str()))
            .attempt(format!("mount volume {} in memory", volume.name))?;
    }
    Ok(())
}

/// Lets go of the pod's volumes in memory, and so of what they hold.
pub(super) fn unmount_memory(run: &Path) -> Result<(), ShimError> {
    take_away(&run.join("memory"))
}

/// Where what the mounts of a container show is, in their order. What is mounted for that is there until
/// [`release`], also if this fails.
pub(super) fn sources(run: &Path, spec: &ContainerSpec) -> Result<Vec<PathBuf>, ShimError> {
    let places = parts(run, &spec.id);
    let one = |(number, mount): (usize, &Mount)| {
        let whole = match &mount.source {
            Source::Path(path) => path.clone(),
            Source::Memory(name) => memory(run, name)?,
        };
        let Some(part) = &mount.sub_path else { return Ok(whole) };
        let place = places.join(number.to_string());
        fs::create_dir_all(&places).attempt("make the place of volumes' parts")?;
        attach(&whole, part, &place).map_err(|failure| {
            let (doing, error) = match &failure {
                Failure::Make(error) => ("create subPath directory", error),
                Failure::Find(error) => ("prepare subPath", error),
            };
            let path = part.path.display();
            super::complain(&ShimError::Refused(format!(
                "{path} of volume {}: could not {doing}: {error}",
                mount.name
            )));
            ShimError::Unprepared(format!(
                "failed to {doing} for volumeMount {:?} of container {:?}",
                mount.name, spec.name
            ))
        })?;
        Ok(place)
    };
    spec.mounts.iter().enumerate().map(one).collect()
}

/// Takes away what [`sources`] mounted for a container.
pub(super) fn release(run: &Path, id: &str) -> Result<(), ShimError> {
    take_away(&parts(run, id))
}

/// Unmounts and removes what is in a directory, and the directory.
fn take_away(places: &Path) -> Result<(), ShimError> {
    let entries = match fs::read_dir(places) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.attempt(format!("list {}", places.display()))?,
    };
    for entry in entries {
        let place = entry.attempt(format!("list {}", places.display()))?.path();
        // Nothing is mounted at an empty directory that stands for a missing part.
        umount2(&place, MntFlags::MNT_DETACH).ok();
        // Never with what is in it: if it were still mounted, that would be the volume.
        let is_directory = fs::symlink_metadata(&place).is_ok_and(|data| data.is_dir());
        let removed = if is_directory { fs::remove_dir(&place) } else { fs::remove_file(&place) };
        removed.attempt(format!("remove {}", place.display()))?;
    }
    fs::remove_dir(places).attempt(format!("remove {}", places.display()))
}

fn parts(run: &Path, id: &str) -> PathBuf {
    run.join("parts").join(id)
}

fn memory(run: &Path, name: &str) -> Result<PathBuf, ShimError> {
    if !is_plain_name(name) {
        return Err(ShimError::Refused(format!("\"{name}\" is no volume's name")));
    }
    Ok(run.join("memory").join(name))
}

/// What failed of a part.
#[derive(Debug)]
enum Failure {
    /// To make it.
    Make(io::Error),
    /// To find it, or to mount what was found.
    Find(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Find(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Find(error.into())
    }
}

/// Mounts a part of the volume at `whole` at `place`; an empty directory where it's missing and must not be made.
fn attach(whole: &Path, part: &SubPath, place: &Path) -> Result<(), Failure> {
    let volume = OwnedFd::from(fs::File::open(whole)?);
    let found = match look_up(&volume, &part.path) {
        Err(Errno::ENOENT) if part.make => make(&volume, &part.path).map_err(|error| Failure::Make(error.into()))?,
        Err(Errno::ENOENT) => return Ok(fs::create_dir(place)?),
        found => found?,
    };
    if is_directory(&found)? {
        fs::create_dir(place)?;
    } else {
        fs::File::create_new(place)?;
    }
    let tree = crate::sys::clone_mount(found.as_fd())?;
    Ok(crate::sys::attach_mount(tree.as_fd(), place)?)
}

fn is_directory(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(fd.as_raw_fd())?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// What lies at `path` in the volume now. Links are followed as long as they stay inside; one that leads out, be it for
/// a step, is an error (`EXDEV`), an absolute one always.
fn look_up(volume: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut last = Errno::EAGAIN;
    for _ in 0..TRIES {
        match openat2(volume.as_raw_fd(), path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => last = Errno::EAGAIN,
            Err(error) => return Err(error),
            Ok(raw) => return crate::sys::inherited_fd(raw).map_err(|_| Errno::EBADF),
        }
    }
    Err(last)
}

/// Makes the directories of `path` that are missing, each with the mode of the volume's root, and returns the last.
fn make(volume: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    // The set-group-id bit is inherited from directory to directory, with the group.
    let mode = Mode::from_bits_truncate(fstat(volume.as_raw_fd())?.st_mode & 0o1777);
    let before = umask(Mode::empty());
    let made = make_with(volume, path, mode);
    umask(before);
    made
}

fn make_with(volume: &OwnedFd, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let mut done = PathBuf::new();
    let mut parent: Option<OwnedFd> = None;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Errno::EXDEV),
        };
        done.push(name);
        let found = match look_up(volume, &done) {
            Err(Errno::ENOENT) => {
                let at = parent.as_ref().unwrap_or(volume).as_raw_fd();
                match mkdirat(Some(at), name, mode) {
                    // A container was faster, or a link leads to nothing: that is found out by looking again.
                    Ok(()) | Err(Errno::EEXIST) => look_up(volume, &done)?,
                    Err(error) => return Err(error),
                }
            }
            found => found?,
        };
        parent = Some(found);
    }
    parent.ok_or(Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn volume() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2777)).unwrap();
        let fd = fs::File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    fn inode(fd: &OwnedFd) -> u64 {
        fstat(fd.as_raw_fd()).unwrap().st_ino
    }

    #[test]
    fn links_are_followed_inside_the_volume_and_never_out_of_it() {
        let (dir, volume) = volume();
        fs::create_dir_all(dir.path().join("real/deep")).unwrap();
        fs::write(dir.path().join("real/file"), "").unwrap();
        for (target, link) in [
            ("real", "link"),
            ("../real/deep", "real/up"),
            ("..data/x", "key"),
            ("real", "..data"),
            ("/etc", "absolute"),
            ("../../../../../../etc", "out"),
            ("..", "real/above"),
            ("/proc/self/root", "magic"),
            ("loop", "loop"),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        fs::write(dir.path().join("real/x"), "").unwrap();
        let at = |path: &str| fs::metadata(dir.path().join(path)).unwrap().ino();
        for (path, leads_to) in [
            ("link/deep", "real/deep"),
            ("real/up", "real/deep"),
            ("key", "real/x"),
            ("link/file", "real/file"),
            ("./link", "real"),
            ("real/above/link", "real"),
        ] {
            assert_eq!(inode(&look_up(&volume, Path::new(path)).unwrap()), at(leads_to), "{path}");
        }
        for path in ["absolute", "absolute/passwd", "out", "out/passwd", "magic/etc", "..", "real/../../x", "/etc"] {
            assert_eq!(look_up(&volume, Path::new(path)).unwrap_err(), Errno::EXDEV, "{path}");
            assert!(make(&volume, Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(look_up(&volume, Path::new("loop")).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn what_is_made_is_as_open_as_the_volume() {
        let (dir, volume) = volume();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        fs::create_dir(dir.path().join("there")).unwrap();
        symlink("there", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for path in ["new/deep", "link/inner", "./there/./other/"] {
            make(&volume, Path::new(path)).unwrap();
            let mode = fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o2777, "{path}");
        }
        assert_eq!(make(&volume, Path::new("dangling/x")).unwrap_err(), Errno::ENOENT);
        assert_eq!(make(&volume, Path::new("file/x")).unwrap_err(), Errno::ENOTDIR);
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn a_name_that_is_a_path_is_no_volume() {
        assert!(memory(Path::new("/run"), "../x").is_err());
        assert!(memory(Path::new("/run"), "cache").is_ok());
    }
}
