//! Layers onto the disk, one directory per layer, ready to be stacked by overlayfs with `userxattr`.
//!
//! [`unpack`] uses nothing but its arguments and the calling process's own user namespace: run inside
//! the namespace of a pod's id range, files get the owners that the image names as that namespace counts
//! them, whiteouts are made as character devices 0:0 (allowed there since Linux 5.8), and opaque
//! directories bear `user.overlay.opaque=y`. Every name is opened beneath the layer's directory with
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`; no link of an image is ever followed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::layers::{self, Budget, LayerError, LayerPath, Limits, Meta, Op, View};
use crate::{Digest, LayerRef};

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Whom the layer names, counted in the caller's user namespace. Needs `CAP_CHOWN` in it.
    AsInLayer,
    /// The caller: for machines that grant one id only, and for tests.
    Caller,
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// One directory per layer, lowest first.
    pub directories: Vec<PathBuf>,
    /// How many of them were made now; the others were there.
    pub made: usize,
}

/// Why an image could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A layer was refused.
    #[error("unpacking layer {layer} failed")]
    Layer {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer's blob or the target directory failed.
    #[error("{doing} {path} failed")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why one operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path:?} failed{hint}")]
struct OpError {
    doing: &'static str,
    path: LayerPath,
    hint: String,
    #[source]
    source: io::Error,
}

/// A layer with its blob, opened while the process may still read the store.
#[derive(Debug)]
pub struct Source {
    layer: LayerRef,
    blob: File,
}

impl Source {
    /// Opens the layer's blob. The store belongs to the agent's user and is closed to everybody else, the
    /// ids of pods included: open first, then enter the pod's user namespace.
    ///
    /// # Errors
    /// If the blob can't be opened.
    pub fn open(layer: &LayerRef) -> Result<Self, UnpackError> {
        let blob = File::open(&layer.blob).map_err(failed("opening", &layer.blob))?;
        Ok(Self { layer: layer.clone(), blob })
    }
}

/// [`unpack_open`] for a process that may read the store itself.
///
/// # Errors
/// As [`unpack_open`], and if a blob can't be opened.
pub fn unpack(layers: &[LayerRef], into: &Path, limits: &Limits, owners: Owners) -> Result<Unpacked, UnpackError> {
    unpack_open(layers.iter().map(Source::open).collect::<Result<_, _>>()?, into, limits, owners)
}

/// Unpacks the layers of an image, lowest first, below `into`, each into the directory that bears its
/// chain id's hexadecimal digits; a directory that is there already is complete and left alone. A lock
/// file keeps processes that unpack into the same place apart; one that is killed leaves only a directory
/// whose name starts with `.unpacking-`, which the next call clears away.
///
/// # Errors
/// If a layer is refused or the system fails; the failed layer leaves nothing behind.
pub fn unpack_open(
    sources: Vec<Source>,
    into: &Path,
    limits: &Limits,
    owners: Owners,
) -> Result<Unpacked, UnpackError> {
    std::fs::create_dir_all(into).map_err(failed("making", into))?;
    let directories: Vec<PathBuf> = sources.iter().map(|source| directory_of(&source.layer, into)).collect();
    if directories.iter().all(|directory| directory.is_dir()) {
        return Ok(Unpacked { directories, made: 0 });
    }
    let lock_path = into.join(".lock");
    let lock = File::options().create(true).append(true).open(&lock_path).map_err(failed("opening", &lock_path))?;
    lock.lock().map_err(failed("locking", &lock_path))?;
    clear_leftovers(into).map_err(failed("clearing", into))?;

    let mut view = View::new();
    let mut budget = Budget::new(limits.clone());
    let mut made = 0;
    // Layers above the last missing one need not be read.
    let missing = directories.iter().rposition(|directory| !directory.is_dir()).map_or(0, |last| last + 1);
    for (Source { layer, blob }, directory) in sources.into_iter().zip(&directories).take(missing) {
        let refused = |source| UnpackError::Layer { layer: layer.digest, source };
        view.next_layer();
        if directory.is_dir() {
            // Only the tree that the layers above need.
            layers::read(blob, layer.compression, &layer.diff_id, &mut budget, &mut |entry, _| {
                view.apply(entry).map(drop)
            })
            .map_err(refused)?;
            continue;
        }
        let unfinished = into.join(format!(".unpacking-{}", layer.chain_id.hex()));
        if let Err(error) = unpack_layer(&layer, blob, &unfinished, &mut view, &mut budget, owners) {
            // The error is what matters; a leftover is cleared by the next call.
            std::fs::remove_dir_all(&unfinished).ok();
            return Err(error);
        }
        // A power cut must not leave a published directory with half of its content.
        fs::syncfs(&lock).map_err(|errno| failed("flushing", &unfinished)(errno.into()))?;
        std::fs::rename(&unfinished, directory).map_err(failed("publishing", directory))?;
        made += 1;
    }
    Ok(Unpacked { directories, made })
}

/// Where [`unpack`] puts a layer.
pub fn directory_of(layer: &LayerRef, into: &Path) -> PathBuf {
    into.join(layer.chain_id.hex())
}

fn unpack_layer(
    layer: &LayerRef,
    blob: File,
    directory: &Path,
    view: &mut View,
    budget: &mut Budget,
    owners: Owners,
) -> Result<(), UnpackError> {
    std::fs::create_dir(directory).map_err(failed("making", directory))?;
    let mut writer = Writer::open(directory, owners, view.root().clone()).map_err(failed("opening", directory))?;
    layers::read(blob, layer.compression, &layer.diff_id, budget, &mut |entry, content| {
        let ops = view.apply(entry)?;
        writer.perform(ops, content)
    })
    .and_then(|()| writer.finish())
    .map_err(|source| UnpackError::Layer { layer: layer.digest, source })
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError + use<> {
    let path = path.to_owned();
    move |source| UnpackError::Io { doing, path, source }
}

fn clear_leftovers(into: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(into)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(b".unpacking-") {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Performs operations in one layer's directory.
struct Writer {
    root: OwnedFd,
    owners: Owners,
    /// The directory of the last operation: entries come in clusters.
    parent: Option<(LayerPath, OwnedFd)>,
    /// Metadata of directories, set last: a read-only one must still be filled, and filling changes times.
    directories: BTreeMap<LayerPath, Meta>,
}

impl Writer {
    fn open(directory: &Path, owners: Owners, root_meta: Meta) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = fs::open(directory, flags, Mode::empty())?;
        let directories = BTreeMap::from([(LayerPath::root(), root_meta)]);
        Ok(Self { root, owners, parent: None, directories })
    }

    fn perform(&mut self, ops: Vec<Op>, content: &mut dyn Read) -> Result<(), LayerError> {
        for op in ops {
            self.one(op, content)?;
        }
        Ok(())
    }

    fn one(&mut self, op: Op, content: &mut dyn Read) -> Result<(), LayerError> {
        match op {
            Op::Dir { path, meta, opaque } => {
                if !path.is_root() {
                    self.at(&path, "making directory", |dir, name, _| match fs::mkdirat(dir, name, Mode::RWXU) {
                        Err(Errno::EXIST) => Ok(()),
                        other => other,
                    })?;
                }
                if opaque {
                    let attempt = open_dir(&self.root, &path).and_then(|dir| {
                        let own =
                            fs::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                        fs::fsetxattr(&own, "user.overlay.opaque", b"y", XattrFlags::empty())
                    });
                    attempt.map_err(|errno| sink_error("marking opaque", &path, errno.into()))?;
                }
                self.directories.insert(path, meta);
                Ok(())
            }
            Op::File { path, meta } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = self
                    .at(&path, "making file", |dir, name, _| fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))?;
                let mut file = File::from(fd);
                io::copy(content, &mut file).map_err(|error| match error.kind() {
                    io::ErrorKind::StorageFull => sink_error("writing", &path, error),
                    _ => layers::unreadable(error),
                })?;
                self.owners_of_open_file(&file, &meta).map_err(|errno| owner_error(&path, &meta, errno))
            }
            Op::Symlink { path, target, meta } => self.at(&path, "making link", |dir, name, owners| {
                fs::symlinkat(OsStr::from_bytes(&target), dir, name)?;
                chown_at(dir, name, owners, &meta)?;
                fs::utimensat(dir, name, &times(&meta), AtFlags::SYMLINK_NOFOLLOW)
            }),
            Op::Hardlink { path, to } => {
                let (to_parent, to_name) = to.split_last().unwrap_or_default();
                let from =
                    open_dir(&self.root, &to_parent).map_err(|errno| sink_error("opening", &to, errno.into()))?;
                let to_name = OsStr::from_bytes(to_name);
                self.at(&path, "making hard link", |dir, name, _| {
                    fs::linkat(&from, to_name, dir, name, AtFlags::empty())
                })
            }
            Op::Fifo { path, meta } => self.at(&path, "making pipe", |dir, name, owners| {
                fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(meta.mode & 0o777), 0)?;
                chown_at(dir, name, owners, &meta)?;
                // Just made by us, so no link; and the process's umask may have taken bits away.
                fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
            }),
            Op::Whiteout { path } => self.at(&path, "making whiteout", |dir, name, _| {
                fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
            }),
            Op::Remove { path } => {
                self.at(&path, "replacing", |dir, name, _| fs::unlinkat(dir, name, AtFlags::empty()))
            }
        }
    }

    /// Runs `act` on the directory and the name of `path`.
    fn at<T>(
        &mut self,
        path: &LayerPath,
        doing: &'static str,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr, Owners) -> rustix::io::Result<T>,
    ) -> Result<T, LayerError> {
        let failed = |errno: Errno| sink_error(doing, path, errno.into());
        let (parent, name) = path.split_last().ok_or_else(|| failed(Errno::INVAL))?;
        if self.parent.as_ref().is_none_or(|(open, _)| *open != parent) {
            let fd = open_dir(&self.root, &parent).map_err(failed)?;
            self.parent = Some((parent, fd));
        }
        let Some((_, dir)) = &self.parent else { return Err(failed(Errno::NOENT)) };
        act(dir.as_fd(), OsStr::from_bytes(name), self.owners).map_err(failed)
    }

    fn owners_of_open_file(&self, file: &File, meta: &Meta) -> rustix::io::Result<()> {
        if self.owners == Owners::AsInLayer {
            fs::fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        }
        for (name, value) in &meta.xattrs {
            fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
        }
        // After the owner: changing it clears setuid and setgid.
        fs::fchmod(file, Mode::from_raw_mode(meta.mode))?;
        fs::futimens(file, &times(meta))
    }

    fn finish(mut self) -> Result<(), LayerError> {
        self.parent = None;
        // Deepest first, so that no directory is closed to us before what it holds is done.
        for (path, meta) in self.directories.iter().rev() {
            let attempt = open_dir(&self.root, path).and_then(|dir| {
                let own = fs::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                self.owners_of_open_file(&File::from(own), meta)
            });
            attempt.map_err(|errno| owner_error(path, meta, errno))?;
        }
        Ok(())
    }
}

fn open_dir(root: &OwnedFd, path: &LayerPath) -> rustix::io::Result<OwnedFd> {
    let name = if path.is_root() { b"." } else { path.as_bytes() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(root, OsStr::from_bytes(name), flags, Mode::empty(), resolve)
}

fn chown_at(dir: BorrowedFd<'_>, name: &OsStr, owners: Owners, meta: &Meta) -> rustix::io::Result<()> {
    if owners == Owners::Caller {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn sink_error(doing: &'static str, path: &LayerPath, source: io::Error) -> LayerError {
    LayerError::Sink(Box::new(OpError { doing, path: path.clone(), hint: String::new(), source }))
}

/// An id that the user namespace does not map is "invalid argument", which alone explains nothing.
fn owner_error(path: &LayerPath, meta: &Meta, errno: Errno) -> LayerError {
    let hint = match errno {
        Errno::INVAL => format!(": it belongs to {}:{}, beyond the ids of this pod's range", meta.uid, meta.gid),
        _ => String::new(),
    };
    LayerError::Sink(Box::new(OpError {
        doing: "giving owner and mode to",
        path: path.clone(),
        hint,
        source: errno.into(),
    }))
}
