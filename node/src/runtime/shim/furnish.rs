//! The pod's namespaces and the directories in them, made once at the shim's start.

use std::os::fd::{AsFd, OwnedFd};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::container::Rooms;
use super::protocol::Init;
use super::{Attempt, ShimError, files, volumes};
use crate::sys;

/// Makes a mount namespace in which the layers belong to this slot's ids, and returns it with its user namespace.
pub(super) fn attach_layers(init: &Init, layers: &OwnedFd) -> Result<[OwnedFd; 2], ShimError> {
    unshare(CloneFlags::CLONE_NEWNS).attempt("make the slot's mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).attempt("part from the node's mounts")?;
    sys::attach_mount(layers.as_fd(), &init.layers).attempt("attach the layers")?;
    let open = |kind: &str| {
        let file = std::fs::File::open(format!("/proc/self/ns/{kind}")).attempt("open the slot's namespaces")?;
        Ok(OwnedFd::from(file))
    };
    Ok([open("user")?, open("mnt")?])
}

/// Makes the pod's namespaces and the directories that only the shim sees.
pub(super) fn furnish(init: &Init) -> Result<Rooms, ShimError> {
    let namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).attempt("make the pod's namespaces")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).attempt("part from the node's mounts")?;
    nix::unistd::sethostname(&init.spec.hostname).attempt("set the host name")?;
    for (name, value) in &init.spec.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).attempt(format!("set {name}"))?;
    }
    let directory = &init.directory;
    let rooms = Rooms {
        run: directory.join("run"),
        containers: directory.join("containers"),
        logs: directory.join("logs"),
        layers: init.layers.clone(),
    };
    for path in [&rooms.run, &rooms.containers, &rooms.logs] {
        std::fs::create_dir_all(path).attempt(format!("make {}", path.display()))?;
    }
    // The agent's group is inherited by logs and state, but the containers' files are the pod's alone.
    std::os::unix::fs::chown(&rooms.containers, Some(0), Some(0)).attempt("own the containers' directory")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(&rooms.containers, mode).attempt("close the containers' directory")?;
    let private = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &rooms.run, Some("tmpfs"), private, Some("mode=0711,size=16m")).attempt("mount a tmpfs")?;
    volumes::mount_memory(&rooms.run, &init.spec.memory_volumes)?;
    if init.cgroup.is_none() {
        // libcontainer insists on control groups. Without any that are ours it gets an empty place to write to.
        mount(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), private, none).attempt("hide the control groups")?;
    }
    files::write(&rooms.run.join("etc"), &init.spec, None).attempt("write the pod's files")?;
    std::env::set_current_dir("/").attempt("go to the root")?;
    Ok(rooms)
}
