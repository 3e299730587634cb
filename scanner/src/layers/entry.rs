//! One entry of a layer, with everything about it that is kept.

use super::pax::Pax;
use super::{LayerError, LayerPath};

/// Longest target of a symbolic link: `PATH_MAX` with its final NUL.
const MAX_TARGET: usize = 4095;
/// Bytes of extended attributes of one entry: what ext4 holds in a block.
const MAX_XATTRS: usize = 4096;
/// Largest id that is an id: `u32::MAX` means "unchanged" to `chown`.
const MAX_ID: u64 = u32::MAX as u64 - 1;

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Owner, mode, time and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner, as the image counts users.
    pub uid: u32,
    /// The group, as the image counts groups.
    pub gid: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// `user.*` extended attributes; every other name space is left out.
    pub xattrs: Xattrs,
}

impl Meta {
    /// What a directory gets that no layer describes.
    pub(super) const fn implicit_dir() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A regular file of `size` bytes.
    File {
        /// Its length.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, uninterpreted.
        target: Vec<u8>,
    },
    /// Another name of a file of the same layer.
    Hardlink {
        /// The file's first name.
        to: LayerPath,
    },
    /// A named pipe.
    Fifo,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, as written (symbolic links not followed).
    pub path: LayerPath,
    /// What it is.
    pub kind: EntryKind,
    /// Owner, mode, time and attributes.
    pub meta: Meta,
}

impl Entry {
    /// Judges one tar header with the extensions that preceded it.
    pub(super) fn judge(
        header: &tar::Header,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Self, LayerError> {
        let raw = one_of(long_name, pax.path, || header.path_bytes().into_owned())?;
        let path = LayerPath::parse(&raw)?;
        let refuse = |why: String| LayerError::refused(&raw, why);
        let number = |value: std::io::Result<u64>, what: &str| {
            value.map_err(|_| refuse(format!("the header's {what} is malformed")))
        };
        let size = number(header.entry_size(), "size")?;
        if pax.size.is_some_and(|s| s != size) {
            return Err(refuse(
                "its size differs between header and extension; files of 8 GiB and more are refused".into(),
            ));
        }
        let link = || one_of(long_link, pax.linkpath, || header.link_name_bytes().unwrap_or_default().into_owned());
        // Old archives mark a directory by a slash at the end of a regular file's name.
        let dir_by_name = raw.ends_with(b"/");
        let kind = match header.entry_type().as_byte() {
            b'5' => EntryKind::Dir,
            b'0' | b'\0' | b'7' if dir_by_name => EntryKind::Dir,
            b'0' | b'\0' | b'7' => EntryKind::File { size },
            b'2' => EntryKind::Symlink { target: symlink_target(&raw, link()?)? },
            b'1' => EntryKind::Hardlink { to: hardlink_target(&raw, &link()?)? },
            b'6' => EntryKind::Fifo,
            b'3' | b'4' => {
                return Err(refuse("device nodes are not accepted; containers get their devices from the node".into()));
            }
            b'S' => return Err(refuse("sparse files are not accepted".into())),
            other => return Err(refuse(format!("unknown entry type {:?}", char::from(other)))),
        };
        if size != 0 && !matches!(kind, EntryKind::File { .. }) {
            return Err(refuse("only a regular file may have content".into()));
        }
        let id = |value: u64, what: &str| match u32::try_from(value) {
            Ok(id) if value <= MAX_ID => Ok(id),
            _ => Err(refuse(format!("{what} {value} is no id"))),
        };
        let uid = pax.uid.map_or_else(|| number(header.uid(), "uid"), Ok)?;
        let gid = pax.gid.map_or_else(|| number(header.gid(), "gid"), Ok)?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => i64::try_from(number(header.mtime(), "mtime")?)
                .map_err(|_| refuse("its time is out of range".into()))?,
        };
        let mode = header.mode().map_err(|_| refuse("the header's mode is malformed".into()))? & 0o7777;
        let meta =
            Meta { mode, uid: id(uid, "uid")?, gid: id(gid, "gid")?, mtime, xattrs: kept_xattrs(&raw, pax.xattrs)? };
        Ok(Self { path, kind, meta })
    }
}

/// The name from GNU's long entry, from pax, or from the header; two extensions that disagree are refused.
fn one_of(long: Option<Vec<u8>>, pax: Option<Vec<u8>>, short: impl Fn() -> Vec<u8>) -> Result<Vec<u8>, LayerError> {
    match (long, pax) {
        (Some(long), Some(pax)) if long != pax => Err(LayerError::refused(&long, "two extensions name it differently")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(short()),
    }
}

fn symlink_target(path: &[u8], target: Vec<u8>) -> Result<Vec<u8>, LayerError> {
    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
        return Err(LayerError::refused(path, "its target is empty, longer than 4095 bytes, or holds a NUL byte"));
    }
    Ok(target)
}

fn hardlink_target(path: &[u8], target: &[u8]) -> Result<LayerPath, LayerError> {
    match LayerPath::parse(target) {
        Ok(to) if !to.is_root() => Ok(to),
        Ok(_) => Err(LayerError::refused(path, "a hard link to nothing")),
        Err(LayerError::Refused { path: target, why }) => {
            Err(LayerError::refused(path, format!("a hard link to {target:?}: {why}")))
        }
        Err(other) => Err(other),
    }
}

/// Keeps `user.*`; refuses what overlayfs would read as its own; leaves out the rest (`security.*`,
/// `trusted.*`, `system.*` have no power in a container that may gain no privileges).
fn kept_xattrs(path: &[u8], xattrs: Xattrs) -> Result<Xattrs, LayerError> {
    if xattrs.iter().any(|(name, _)| name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.")) {
        return Err(LayerError::refused(path, "it bears attributes that steer the overlay file system"));
    }
    let kept: Vec<_> =
        xattrs.into_iter().filter(|(name, _)| name.starts_with(b"user.") && !name.contains(&0)).collect();
    if kept.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_XATTRS {
        return Err(LayerError::refused(path, "it bears more than 4096 bytes of extended attributes"));
    }
    Ok(kept)
}
