//! How a pod's sandbox is made and taken away: its id range, address, control group, directory and shim.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Inner, RECORD, Record, SlotFds, plain_name};
use crate::keeper::anchor::{Anchor, start_time};
use crate::keeper::protocol::Request as Ask;
use crate::keeper::spawn;
use crate::pods::spec;
use crate::runtime::link::ShimLink;
use crate::runtime::owners::Owners;
use crate::runtime::shim::protocol::{Init, Request, Response, Slot};
use crate::runtime::{ContainerStatus, PodNetwork, PodSandboxSpec, RuntimeError, Sandbox, cleanup, shim, slots};
use crate::wire;

/// How long a shim has for its end.
const END_TIME: Duration = Duration::from_secs(10);

/// How long a new shim has until its namespaces exist.
const START_TIME: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) fn directory(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(uid)
    }

    /// A shim's word on a container, with the log where it must be: what a shim says may be a pod's word, and the
    /// agent reads other places than its pods.
    pub(super) fn placed(&self, uid: &str, status: ContainerStatus) -> ContainerStatus {
        let name = if plain_name(&status.name) { status.name.as_str() } else { "nameless" };
        let log = spec::log_path(name, status.attempt);
        ContainerStatus { log_path: self.directory(uid).join("shim/logs").join(log), ..status }
    }

    pub(super) fn link(&self, uid: &str) -> ShimLink {
        ShimLink::new(&self.directory(uid))
    }

    pub(super) fn known(&self, uid: &str) -> Result<ShimLink, RuntimeError> {
        let known = self.pods.lock().by_uid.get(uid).is_some_and(|record| record.shim.is_some());
        if known { Ok(self.link(uid)) } else { Err(RuntimeError::NoPod { uid: uid.to_owned() }) }
    }

    pub(super) fn slot(&self, uid: &str) -> Result<u32, RuntimeError> {
        let slot = self.pods.lock().by_uid.get(uid).map(|record| record.slot);
        slot.ok_or_else(|| RuntimeError::NoPod { uid: uid.to_owned() })
    }

    /// The slot whose owners the layers on disk have, for a pod in `slot`.
    pub(super) fn layer_slot(&self, slot: u32) -> u32 {
        if self.slots.lock().contains_key(&slot) { 0 } else { slot }
    }

    pub(super) fn layers_dir(&self, slot: u32) -> PathBuf {
        self.state_dir.join("layers").join(self.layer_slot(slot).to_string())
    }

    pub(super) fn group(&self, uid: &str) -> Option<String> {
        self.cgroup.as_ref().ok().map(|node| format!("/{node}/pod{uid}"))
    }

    /// Takes a free id range and address for a new pod.
    pub(super) fn reserve(&self, spec: &PodSandboxSpec) -> io::Result<Record> {
        let mut pods = self.pods.lock();
        if pods.by_uid.contains_key(&spec.uid) {
            return Err(io::Error::other("the pod exists already"));
        }
        let used: BTreeSet<u32> = pods.by_uid.values().map(|record| record.slot).collect();
        let slot = match self.layout.pod_slots() {
            0 => 0,
            count => {
                // Without shared layers a range is used again soon, since its layers are unpacked already.
                let last = if self.slots.lock().is_empty() { 0 } else { pods.last_slot };
                slots::next_slot(count, &used, last).ok_or_else(|| io::Error::other("all id ranges are in use"))?
            }
        };
        let used = pods.by_uid.values().filter_map(|record| record.sandbox.ip).collect();
        let ip = match spec.network {
            PodNetwork::None => None,
            PodNetwork::Pod => {
                let free = slots::next_ip(self.told.network.pod_cidr, &used, pods.last_ip);
                Some(free.ok_or_else(|| io::Error::other("all addresses of this node are in use"))?)
            }
        };
        let sandbox = Sandbox {
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            ip,
            log_dir: self.directory(&spec.uid).join("shim/logs"),
        };
        let record = Record { sandbox, slot, shim: None };
        pods.by_uid.insert(spec.uid.clone(), record.clone());
        pods.last_slot = slot;
        pods.last_ip = ip.or(pods.last_ip);
        Ok(record)
    }

    /// The directories of a pod's volumes: those that may reach a disk, and those that must not.
    pub(super) fn volumes_of(&self, uid: &str) -> [PathBuf; 2] {
        [self.volumes_dir().join(uid), self.volatile_dir.join(uid)]
    }

    /// Where volumes lie that may reach a disk.
    pub(super) fn volumes_dir(&self) -> PathBuf {
        self.state_dir.join("volumes")
    }

    pub(super) fn make_pod(&self, spec: PodSandboxSpec, record: &Record) -> io::Result<Anchor> {
        let uid = spec.uid.clone();
        let first = self.layout.first(record.slot);
        let directory = self.directory(&uid);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, mode)?;
        let shim_dir = directory.join("shim");
        let make = |path: &Path, mode: u32| {
            let request = Ask::MakeDirectory { path: path.to_owned(), uid: first, mode };
            self.keeper.ask(&request, "make the pod's directory").map(drop)
        };
        make(&shim_dir, 0o2770)?;
        // Its volumes hold Secrets: on this machine nobody else passes.
        for volumes in self.volumes_of(&uid) {
            make(&volumes, 0o770)?;
        }
        if self.layer_slot(record.slot) == record.slot {
            make(&self.layers_dir(record.slot), 0o755)?;
        }
        if let Some(name) = self.group(&uid) {
            self.keeper.ask(&Ask::Group { name, uid: first }, "make the pod's control group")?;
        }
        let link = self.link(&uid);
        drop(std::fs::remove_file(link.path()));
        let listener = UnixListener::bind(link.path())?;
        std::fs::set_permissions(link.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;

        let mut fds = vec![listener.into(), self.keeper.namespace("user")?];
        let slot = self.add_slot(record.slot, &mut fds)?;
        let init = Init {
            first_id: first,
            ids: self.layout.ids(),
            directory: shim_dir,
            layers: self.layers_dir(record.slot),
            slot,
            cgroup: self.group(&uid),
            spec,
        };
        let (pid, namespaces) = start_shim(&self.executable, &init, &fds, &directory)?;
        if let Ok([user, mounts]) = <[OwnedFd; 2]>::try_from(namespaces) {
            self.slots.lock().insert(record.slot, SlotFds::Namespaces(user, mounts));
        }
        let started = start_time(pid).ok_or_else(|| io::Error::other("the pod's shim ended at once"))?;
        let request = Ask::Attach { pid, ip: record.sandbox.ip, gateway: self.told.network.gateway() };
        self.keeper.ask(&request, "connect the pod")?;
        link.ask(&Request::Configure { ip: record.sandbox.ip }, Vec::new())?;
        Ok(Anchor { pid, started })
    }

    /// Adds what a shim needs to know of its slot.
    pub(super) fn add_slot(&self, slot: u32, fds: &mut Vec<OwnedFd>) -> io::Result<Slot> {
        match self.slots.lock().get(&slot) {
            None => Ok(Slot::Own),
            Some(SlotFds::Mount(mount)) => {
                fds.push(mount.try_clone()?);
                Ok(Slot::First)
            }
            Some(SlotFds::Namespaces(user, mounts)) => {
                fds.extend([user.try_clone()?, mounts.try_clone()?]);
                Ok(Slot::Again)
            }
        }
    }

    pub(super) fn save(&self, record: &Record) -> io::Result<()> {
        let directory = self.directory(&record.sandbox.uid);
        let new = directory.join("pod.new");
        std::fs::write(&new, serde_json::to_vec(record)?)?;
        std::fs::rename(new, directory.join(RECORD))
    }

    /// Ends a pod's shim and deletes whatever is left of the pod.
    pub(super) fn end_pod(&self, uid: &str, record: &Record) {
        if let Some(shim) = record.shim.filter(|shim| shim.is_alive()) {
            let asked = self.link(uid).ask(&Request::Shutdown, Vec::new()).and_then(|(_, _, stream)| {
                stream.set_read_timeout(Some(END_TIME))?;
                wire::receive::<Response>(&stream).map(drop)
            });
            if asked.is_err() || shim.is_alive() {
                std::thread::sleep(Duration::from_millis(20));
            }
            if shim.is_alive() {
                tracing::warn!(uid, "the pod's shim does not end: killing it");
                kill(Pid::from_raw(shim.pid), Signal::SIGKILL).ok();
            }
        }
        cleanup::kill_left(&self.directory(uid), &Owners::of(&self.state_dir).of_slot(Some(record.slot)));
        self.clear(uid, record.sandbox.ip);
    }

    /// Deletes what a pod without processes has left.
    pub(super) fn clear(&self, uid: &str, ip: Option<Ipv4Addr>) {
        let mut requests = vec![Ask::RemoveTree { path: self.directory(uid) }];
        requests.extend(self.group(uid).map(|name| Ask::RemoveGroup { name }));
        requests.extend(ip.map(|ip| Ask::Detach { ip }));
        for request in requests {
            if let Err(error) = self.keeper.ask(&request, "clear up after a pod") {
                tracing::warn!(uid, %error, "something of a pod is left");
            }
        }
    }
}

fn start_shim(executable: &Path, init: &Init, fds: &[OwnedFd], directory: &Path) -> io::Result<(i32, Vec<OwnedFd>)> {
    let log_path = directory.join("shim.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let (socket, mut first_stage) = spawn(executable, &[shim::NAME], init, fds, log)?;
    socket.set_read_timeout(Some(START_TIME))?;
    let answer = wire::receive::<Response>(&socket);
    first_stage.wait()?;
    match answer {
        Ok(Some((Response::Ready { pid }, namespaces))) => Ok((pid, namespaces)),
        _ => {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            Err(io::Error::other(format!("the pod's shim did not start: {}", log.trim())))
        }
    }
}
