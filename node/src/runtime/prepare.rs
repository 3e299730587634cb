//! What only root can do for the node, done once before root is given up for good; and what a node started without
//! root does instead.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};

use super::cgroup::Hierarchies;
use super::ids::{self, Layout, Range};
use crate::keeper::anchor::{self, Anchor};
use crate::sys;

/// Bytes of the tmpfs for secrets and tokens of all pods: 110 pods with 2 MiB each.
const VOLATILE_SIZE: &str = "mode=0711,size=256m";

/// How the node is prepared.
#[derive(Clone, Debug)]
pub struct PrepareConfig {
    /// Where the node keeps everything. Every directory above it must let others pass (`o+x`).
    pub state_dir: PathBuf,
    /// The system user that the agent becomes when it is started as root; made if it is missing.
    pub user: String,
    /// The program that is also the helpers: `secctl`. Others must be able to read and execute it.
    pub executable: PathBuf,
}

/// A prepared machine.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) state_dir: PathBuf,
    pub(crate) executable: PathBuf,
    pub(crate) anchor: Anchor,
    pub(crate) layout: Layout,
    /// Name of the node's group in every hierarchy; the reason if there is none.
    pub(crate) cgroup: Result<String, String>,
    pub(crate) volatile_dir: PathBuf,
    /// The layers as each slot sees them (index 0 is slot 1); empty if the kernel or the lack of root forbid it.
    pub(crate) layer_mounts: Vec<OwnedFd>,
}

/// What went wrong while preparing.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// An operation failed.
    #[error("could not {attempt}")]
    Io {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {message}")]
    Program {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// There are no subordinate ids.
    #[error("user {user} has no ids in {file}: start the node as root once, or add a line \"{user}:{start}:{count}\"")]
    NoIds {
        /// The user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// A free range.
        start: u32,
        /// Its length.
        count: u32,
    },
    /// Others can't pass.
    #[error("{path} must be passable for other users (chmod o+x), since each pod runs as a user of its own")]
    Impassable {
        /// The directory.
        path: PathBuf,
    },
}

/// Prepares this machine. Must be called before the process has a second thread. As root it makes what is missing
/// and then becomes `config.user`, without any way back; otherwise it uses what it finds.
pub fn prepare(config: &PrepareConfig) -> Result<Prepared, PrepareError> {
    if Uid::effective().is_root() { as_root(config) } else { as_user(config) }
}

fn as_root(config: &PrepareConfig) -> Result<Prepared, PrepareError> {
    let user = system_user(&config.user)?;
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let uids = register_range("/etc/subuid", &config.user, uid)?;
    let gids = register_range("/etc/subgid", &config.user, uid)?;
    let layout = Layout::new(uids.count.min(gids.count));
    make_directories(&config.state_dir, Some((uid, gid)))?;
    require_passable(&config.state_dir)?;
    open_tap();
    let cgroup = delegate(&config.state_dir, uid, gid);
    let volatile_dir = mount_volatile(&config.state_dir, uid, gid)?;
    let layers = config.state_dir.join("layers/0");
    make_directory(&layers, 0o755, Some((uids.start, gids.start)))?;
    let layer_mounts = layer_mounts(&layers, uids, gids, layout);
    let anchor = anchor::find_or_start(config, uid, gid, uids, gids)?;
    drop_privileges(user.uid, user.gid)?;
    Ok(Prepared {
        state_dir: config.state_dir.clone(),
        executable: config.executable.clone(),
        anchor,
        layout,
        cgroup,
        volatile_dir,
        layer_mounts,
    })
}

fn as_user(config: &PrepareConfig) -> Result<Prepared, PrepareError> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let uids = own_range("/etc/subuid", &name, uid.as_raw())?;
    let gids = own_range("/etc/subgid", &name, uid.as_raw())?;
    make_directories(&config.state_dir, None)?;
    require_passable(&config.state_dir)?;
    let group = group_name(&config.state_dir);
    let cgroup = Hierarchies::detect().map_err(|error| error.to_string());
    let cgroup = cgroup.and_then(|groups| groups.can_limit(&group).map(|()| group));
    let volatile_dir = PathBuf::from("/dev/shm").join(format!("martello-{uid}-{}", short_hash(&config.state_dir)));
    make_directory(&volatile_dir, 0o711, None)?;
    let anchor = anchor::find_or_start(config, uid.as_raw(), gid.as_raw(), uids, gids)?;
    Ok(Prepared {
        state_dir: config.state_dir.clone(),
        executable: config.executable.clone(),
        anchor,
        layout: Layout::new(uids.count.min(gids.count)),
        cgroup,
        volatile_dir,
        layer_mounts: Vec::new(),
    })
}

/// The system user of this name, which is made if it is missing.
pub fn system_user(name: &str) -> Result<User, PrepareError> {
    let find = || User::from_name(name).map_err(io::Error::from).attempt(format!("look up user {name}"));
    if let Some(user) = find()? {
        return Ok(user);
    }
    let arguments = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name];
    run("useradd", &arguments)?;
    find()?.ok_or_else(|| PrepareError::Program {
        program: "useradd".to_owned(),
        message: format!("it made no user {name}"),
    })
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), PrepareError> {
    let output = Command::new(program).args(arguments).output().attempt(format!("run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PrepareError::Program { program: program.to_owned(), message })
}

fn register_range(file: &'static str, user: &str, uid: u32) -> Result<Range, PrepareError> {
    let text = read_or_empty(file)?;
    if let Some(range) = ids::largest(&text, user, uid).filter(|range| range.count >= 2 * ids::SLOT_IDS) {
        return Ok(range);
    }
    let other = read_or_empty(if file == "/etc/subuid" { "/etc/subgid" } else { "/etc/subuid" })?;
    // The same range in both files, unless the other file already has one for this user.
    let range = ids::largest(&other, user, uid).filter(|range| range.count >= 2 * ids::SLOT_IDS);
    let range = range.or_else(|| ids::free(&[&text, &other])).ok_or_else(|| no_ids(file, user, &text))?;
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{separator}{user}:{}:{}\n", range.start, range.count);
    fs::write(file, text).attempt(format!("add ids to {file}"))?;
    Ok(range)
}

fn own_range(file: &'static str, user: &str, uid: u32) -> Result<Range, PrepareError> {
    let text = read_or_empty(file)?;
    ids::largest(&text, user, uid).ok_or_else(|| no_ids(file, user, &text))
}

fn no_ids(file: &'static str, user: &str, text: &str) -> PrepareError {
    let free = ids::free(&[text]).unwrap_or(Range { start: 0, count: 0 });
    PrepareError::NoIds { user: user.to_owned(), file, start: free.start, count: free.count }
}

fn read_or_empty(file: &str) -> Result<String, PrepareError> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.attempt(format!("read {file}")),
    }
}

fn make_directories(state_dir: &Path, owner: Option<(u32, u32)>) -> Result<(), PrepareError> {
    make_directory(state_dir, 0o711, owner)?;
    for (name, mode) in [("pods", 0o711), ("layers", 0o711), ("volumes", 0o711), ("keeper", 0o700)] {
        make_directory(&state_dir.join(name), mode, owner)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), PrepareError> {
    let attempt = || format!("make {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).attempt(attempt())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).attempt(attempt())?;
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)).attempt(attempt()),
        None => Ok(()),
    }
}

fn require_passable(path: &Path) -> Result<(), PrepareError> {
    for above in path.ancestors() {
        let mode = fs::metadata(above).attempt(format!("look at {}", above.display()))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Err(PrepareError::Impassable { path: above.to_owned() });
        }
    }
    Ok(())
}

/// Lets every user open the tap device, as distributions do: what it makes stays in the opener's network namespace.
fn open_tap() {
    if let Err(error) = fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666)) {
        tracing::warn!(%error, "could not open /dev/net/tun: pods will not reach out of this node");
    }
}

/// Name of the control group of a node with this state directory.
pub(crate) fn group_name(state_dir: &Path) -> String {
    format!("martello-{}", short_hash(state_dir))
}

pub(crate) fn short_hash(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    // FNV-1a: a name, not a secret.
    let hash = path
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", hash >> 32)
}

fn delegate(state_dir: &Path, uid: u32, gid: u32) -> Result<String, String> {
    let group = group_name(state_dir);
    let groups = Hierarchies::detect().map_err(|error| format!("could not read the mounts: {error}"))?;
    groups.delegate(&group, uid, gid).map_err(|error| format!("could not delegate a control group: {error}"))?;
    groups.can_limit(&group)?;
    Ok(group)
}

fn mount_volatile(state_dir: &Path, uid: u32, gid: u32) -> Result<PathBuf, PrepareError> {
    let path = state_dir.join("volatile");
    let is_tmpfs =
        || nix::sys::statfs::statfs(&path).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    make_directory(&path, 0o711, None)?;
    if !is_tmpfs() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("martello"), &path, Some("tmpfs"), flags, Some(VOLATILE_SIZE))
            .map_err(io::Error::from)
            .attempt(format!("mount a tmpfs at {}", path.display()))?;
    }
    chown(&path, Some(uid), Some(gid)).attempt(format!("give {} away", path.display()))?;
    Ok(path)
}

/// For each slot a mount of the layers in which the files of images belong to that slot's ids, so that an image is
/// unpacked once for all pods. Needs root, and a file system that knows such mounts; without them each slot unpacks
/// for itself.
fn layer_mounts(layers: &Path, uids: Range, gids: Range, layout: Layout) -> Vec<OwnedFd> {
    let mount = |slot: u32| -> io::Result<OwnedFd> {
        let offset = slot * ids::SLOT_IDS;
        let map = |range: Range| format!("{} {} {}", range.start, range.start + offset, layout.ids());
        let namespace = anchor::user_namespace(&map(uids), &map(gids))?;
        sys::idmapped_clone(layers, namespace.as_fd())
    };
    let mounts: io::Result<Vec<OwnedFd>> = (1..=layout.pod_slots()).map(mount).collect();
    mounts.unwrap_or_else(|error| {
        tracing::warn!(%error, "layers can't be shared between id ranges: each range will unpack its own");
        Vec::new()
    })
}

fn drop_privileges(uid: Uid, gid: Gid) -> Result<(), PrepareError> {
    let failed = |error: caps::errors::CapsError| PrepareError::Program {
        program: "capset".to_owned(),
        message: error.to_string(),
    };
    caps::clear(None, caps::CapSet::Ambient).map_err(failed)?;
    for capability in caps::all() {
        // Those that were not there can't be dropped and need not be.
        caps::drop(None, caps::CapSet::Bounding, capability).ok();
    }
    setgroups(&[]).map_err(io::Error::from).attempt("leave root's groups")?;
    setresgid(gid, gid, gid).map_err(io::Error::from).attempt("leave root's group")?;
    setresuid(uid, uid, uid).map_err(io::Error::from).attempt("stop being root")?;
    for set in [caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::clear(None, set).map_err(failed)?;
    }
    // A process that changed its user hides its /proc entries from itself; the node reads its own.
    nix::sys::prctl::set_dumpable(true).map_err(io::Error::from).attempt("own this process's /proc entries")
}

/// Adds what was attempted to an error.
pub(crate) trait Attempt<T> {
    /// `attempt` completes "could not …".
    fn attempt(self, attempt: impl Into<String>) -> Result<T, PrepareError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: impl Into<String>) -> Result<T, PrepareError> {
        self.map_err(|source| PrepareError::Io { attempt: attempt.into(), source })
    }
}
