//! How much a tree takes of the disk. A pod may change it at the same time, and may have built it to be in the way: no
//! step follows a link, at most three directories are open at a time however deep it goes, and there is an end.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use super::tree::{open_directory, open_parent};

/// A walk ends after this, with what it has counted; the agent waits for an answer a little longer.
const LONGEST: Duration = Duration::from_secs(20);

/// Names of directories that wait for their turn, and files with several names that were counted: each costs the pod
/// an inode, and the keeper a hundred bytes.
const MOST_REMEMBERED: usize = 1 << 20;

/// The bytes on disk that `path` below `root` takes, with everything in it; nothing if it isn't there. A file with
/// several names counts once. What can't be walked through in time is not counted, so it's the least that it takes.
pub(super) fn measure(root: &Path, path: &Path) -> io::Result<u64> {
    let (parent, name) = open_parent(root, path)?;
    let top = match open_directory(&parent, Path::new(&name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let place = place(&fstat(top.as_raw_fd())?);
    let mut walk =
        Walk { device: place.0, bytes: 0, known: HashSet::new(), remembered: 0, end: Instant::now() + LONGEST };
    walk.run(top)?;
    Ok(walk.bytes)
}

/// Device and inode: which file it is.
type Place = (u64, u64);

fn place(status: &FileStat) -> Place {
    (status.st_dev, status.st_ino)
}

struct Walk {
    device: u64,
    bytes: u64,
    /// Files with several names.
    known: HashSet<Place>,
    remembered: usize,
    end: Instant,
}

/// A directory on the way down.
struct Level {
    place: Place,
    name: OsString,
    /// Directories in it that were not entered yet.
    waiting: Vec<OsString>,
}

impl Walk {
    fn run(&mut self, top: OwnedFd) -> io::Result<()> {
        let mut current = top.try_clone()?;
        let waiting = self.list(&current);
        let mut levels = vec![Level { place: place(&fstat(top.as_raw_fd())?), name: OsString::new(), waiting }];
        while let Some(level) = levels.last_mut().filter(|_| Instant::now() < self.end) {
            if let Some(name) = level.waiting.pop() {
                self.remembered -= 1;
                // What has gone, or is a link by now, is not entered.
                let Ok(below) = open_directory(&current, Path::new(&name)) else { continue };
                let Ok(status) = fstat(below.as_raw_fd()) else { continue };
                let waiting = self.list(&below);
                levels.push(Level { place: place(&status), name, waiting });
                current = below;
            } else {
                levels.pop();
                match up(&top, &current, &mut levels) {
                    Some(above) => current = above,
                    None => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Counts what is in a directory; returns the names of directories in it.
    fn list(&mut self, directory: &OwnedFd) -> Vec<OsString> {
        let mut inner = Vec::new();
        let copy = directory.try_clone().map(std::os::fd::IntoRawFd::into_raw_fd);
        let Some(mut entries) = copy.ok().and_then(|raw| Dir::from_fd(raw).ok()) else { return inner };
        for entry in entries.iter().flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || Instant::now() >= self.end {
                continue;
            }
            let status = fstatat(Some(directory.as_raw_fd()), Path::new(name), AtFlags::AT_SYMLINK_NOFOLLOW);
            let Ok(status) = status else { continue };
            let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
            let is_directory = kind == SFlag::S_IFDIR;
            if status.st_dev != self.device || (!is_directory && status.st_nlink > 1 && !self.is_new(&status)) {
                continue;
            }
            // POSIX counts in blocks of 512 bytes, whatever the file system's are.
            self.bytes = self.bytes.saturating_add(u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512));
            if is_directory && self.remembered < MOST_REMEMBERED {
                self.remembered += 1;
                inner.push(name.to_owned());
            }
        }
        inner
    }

    fn is_new(&mut self, status: &FileStat) -> bool {
        self.known.len() < MOST_REMEMBERED && self.known.insert(place(status))
    }
}

/// The directory of the last level, from one below it; of an earlier one, if it was moved away meanwhile.
fn up(top: &OwnedFd, from: &OwnedFd, levels: &mut Vec<Level>) -> Option<OwnedFd> {
    let wanted = levels.last()?.place;
    let is_wanted = |fd: &OwnedFd| fstat(fd.as_raw_fd()).is_ok_and(|status| place(&status) == wanted);
    if let Some(above) = open_directory(from, Path::new("..")).ok().filter(is_wanted) {
        return Some(above);
    }
    let mut found = top.try_clone().ok()?;
    let mut known = 1;
    for level in levels.iter().skip(1) {
        match open_directory(&found, Path::new(&level.name)) {
            Ok(next) if fstat(next.as_raw_fd()).is_ok_and(|status| place(&status) == level.place) => found = next,
            Ok(_) | Err(_) => break,
        }
        known += 1;
    }
    levels.truncate(known);
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn written(path: &Path, bytes: u64) {
        fs::write(path, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
    }

    fn mebibytes(root: &Path, path: &Path) -> u64 {
        measure(root, path).unwrap() / MIB
    }

    #[test]
    fn what_lies_in_a_tree_is_counted_once_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        written(&tree.join("a/b/file"), 2 * MIB);
        written(&tree.join("file"), MIB);
        fs::hard_link(tree.join("file"), tree.join("a/again")).unwrap();
        written(&root.path().join("outside"), 8 * MIB);
        std::os::unix::fs::symlink("../outside", tree.join("link")).unwrap();
        std::os::unix::fs::symlink("..", tree.join("up")).unwrap();
        // A hole takes nothing.
        fs::File::create(tree.join("hole")).unwrap().set_len(64 * MIB).unwrap();
        assert_eq!(mebibytes(root.path(), &tree), 3);
        assert_eq!(mebibytes(root.path(), &root.path().join("none")), 0);
        assert!(measure(root.path(), &root.path().join("tree/../..")).is_err());
        assert!(measure(root.path(), &tree.join("up")).is_err(), "a link is no tree");
    }

    #[test]
    fn depth_hides_nothing_and_holds_nothing_open() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut deepest = OwnedFd::from(fs::File::open(&tree).unwrap());
        // Deeper than a path can name, and than a process may hold open.
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(Some(deepest.as_raw_fd()), "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            deepest = open_directory(&deepest, Path::new("d")).unwrap();
        }
        let file = nix::fcntl::openat(
            Some(deepest.as_raw_fd()),
            "file",
            nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY,
            nix::sys::stat::Mode::S_IRWXU,
        );
        let mut file = fs::File::from(crate::sys::inherited_fd(file.unwrap()).unwrap());
        io::Write::write_all(&mut file, &vec![1; 3 << 20]).unwrap();
        written(&tree.join("beside"), MIB);
        assert!(mebibytes(root.path(), &tree) >= 4);
    }

    #[test]
    fn one_who_moves_directories_meanwhile_does_not_end_the_walk() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a/b/c")).unwrap();
        let open = |path: &str| OwnedFd::from(fs::File::open(at(path)).unwrap());
        let level = |path: &str, name: &str| {
            let place = place(&fstat(open(path).as_raw_fd()).unwrap());
            Level { place, name: name.into(), waiting: Vec::new() }
        };
        let (top, below) = (open("a"), open("a/b/c"));
        let mut levels = vec![level("a", ""), level("a/b", "b")];
        let same = |fd: &OwnedFd, path: &str| {
            place(&fstat(fd.as_raw_fd()).unwrap()) == place(&fstat(open(path).as_raw_fd()).unwrap())
        };
        assert!(same(&up(&top, &below, &mut levels).unwrap(), "a/b"));
        fs::rename(at("a/b/c"), at("moved")).unwrap();
        assert!(same(&up(&top, &below, &mut levels).unwrap(), "a/b"));
        assert_eq!(levels.len(), 2);
        fs::rename(at("a/b"), at("gone")).unwrap();
        assert!(same(&up(&top, &below, &mut levels).unwrap(), "a"));
        assert_eq!(levels.len(), 1, "goes on where it can");
    }
}
