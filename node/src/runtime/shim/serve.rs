//! The life of a shim inside its pod: one loop over the control socket, the containers' streams and their ends.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use martello_api::clock;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::{Container, Rooms};
use super::cri_log::Stream;
use super::protocol::{Init, Request, Response};
use super::state::{self, State};
use super::{Attempt, ShimError, enter, files};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::spec::{ContainerStatus, Exit, PodEvent};
use crate::{sys, wire};

/// Connections at a time: more than the agent opens (one for events, one per exec session, one per stop).
const MAX_CONNECTIONS: usize = 256;

/// Bytes read from a stream before others get their turn.
const CHUNK: usize = 64 * 1024;

/// Rounds of reading from a stream whose process has ended.
const MAX_DRAIN: usize = 1024;

/// Enters the remaining namespaces, reports to the agent and serves until it is told to end.
pub(super) fn serve(count: &str) -> Result<(), ShimError> {
    let (init, agent, listener, layers) = enter::inherited(count)?;
    let slot = layers.map(|layers| attach_layers(&init, &layers)).transpose()?;
    let rooms = furnish(&init)?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        mask.add(signal);
    }
    mask.thread_block().attempt("block signals")?;
    let signals =
        SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).attempt("await signals")?;
    nix::sys::prctl::set_child_subreaper(true).attempt("become the pod's reaper")?;

    let groups = match &init.cgroup {
        Some(_) => Some(Hierarchies::detect().attempt("find the control groups")?),
        None => None,
    };
    let mut shim = Shim {
        init,
        rooms,
        groups,
        containers: BTreeMap::new(),
        connections: BTreeMap::new(),
        next: 0,
        execs: BTreeMap::new(),
        ended: BTreeMap::new(),
        last: false,
    };
    shim.save()?;
    let namespaces: Vec<BorrowedFd<'_>> = slot.iter().flatten().map(AsFd::as_fd).collect();
    let ready = Response::Ready { pid: std::process::id().cast_signed() };
    wire::send(&agent, &ready, &namespaces).attempt("report")?;
    drop((agent, slot));
    shim.run(&UnixListener::from(listener), &signals)
}

/// Makes a mount namespace in which the layers belong to this slot's ids, and returns it with its user namespace.
fn attach_layers(init: &Init, layers: &OwnedFd) -> Result<[OwnedFd; 2], ShimError> {
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
fn furnish(init: &Init) -> Result<Rooms, ShimError> {
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
    if init.cgroup.is_none() {
        // libcontainer insists on control groups. Without any that are ours it gets an empty place to write to.
        mount(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), private, none).attempt("hide the control groups")?;
    }
    files::write(&rooms.run.join("etc"), &init.spec, None).attempt("write the pod's files")?;
    std::env::set_current_dir("/").attempt("go to the root")?;
    Ok(rooms)
}

struct Shim {
    init: Init,
    rooms: Rooms,
    groups: Option<Hierarchies>,
    containers: BTreeMap<String, Container>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Exec'd processes and who awaits their end.
    execs: BTreeMap<Pid, u64>,
    /// Ends of children that were noticed before it was known what they are.
    ended: BTreeMap<Pid, Exit>,
    last: bool,
}

struct Connection {
    stream: UnixStream,
    awaits: Awaits,
}

enum Awaits {
    Request,
    End(String),
    Exec,
    Events,
}

/// What a ready descriptor belongs to.
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Output(String, Stream),
}

impl Shim {
    fn run(&mut self, listener: &UnixListener, signals: &SignalFd) -> Result<(), ShimError> {
        while !self.last || self.containers.values().any(Container::is_running) {
            for source in self.wait(listener, signals)? {
                match source {
                    Source::Listener => self.accept(listener),
                    Source::Signals => while let Ok(Some(_)) = signals.read_signal() {},
                    Source::Connection(number) => self.serve_connection(number),
                    Source::Output(id, stream) => self.copy_output(&id, stream),
                }
            }
            self.reap();
            self.kill_overdue();
        }
        self.farewell();
        Ok(())
    }

    /// Waits until something is ready, or a grace period is over.
    fn wait(&self, listener: &UnixListener, signals: &SignalFd) -> Result<Vec<Source>, ShimError> {
        let mut fds: Vec<(Source, BorrowedFd<'_>)> =
            vec![(Source::Listener, listener.as_fd()), (Source::Signals, signals.as_fd())];
        for (number, connection) in &self.connections {
            fds.push((Source::Connection(*number), connection.stream.as_fd()));
        }
        for (id, container) in &self.containers {
            for (stream, fd) in &container.outputs {
                fds.push((Source::Output(id.clone(), *stream), fd.as_fd()));
            }
        }
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, self.timeout()) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).attempt("wait for events"),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        Ok(fds.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|((source, _), _)| source).collect())
    }

    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let nearest = self.containers.values().filter_map(|container| container.kill_at).min();
        nearest.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    fn accept(&mut self, listener: &UnixListener) {
        let Ok((stream, _)) = listener.accept() else { return };
        let timed = stream.set_read_timeout(Some(wire::MESSAGE_TIME)).is_ok()
            && stream.set_write_timeout(Some(wire::MESSAGE_TIME)).is_ok();
        if timed && self.connections.len() < MAX_CONNECTIONS && is_from_the_node(&stream) {
            self.connections.insert(self.next, Connection { stream, awaits: Awaits::Request });
            self.next += 1;
        }
    }

    fn serve_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else { return };
        if !matches!(connection.awaits, Awaits::Request) {
            // Nothing more is asked on such a connection: the agent has closed it, or is out of its mind.
            self.connections.remove(&number);
            return;
        }
        let answer = match wire::receive::<Request>(&connection.stream) {
            Ok(Some((request, fds))) => self.handle(number, request, fds),
            Ok(None) | Err(_) => {
                self.connections.remove(&number);
                return;
            }
        };
        match answer {
            Ok(None) => {}
            Ok(Some((response, fds))) => self.answer(number, &response, &fds),
            Err(error) => self.answer(number, &Response::Failed { message: error.to_string() }, &[]),
        }
    }

    fn handle(&mut self, number: u64, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, ShimError> {
        match request {
            Request::Configure { ip } => {
                files::write(&self.rooms.run.join("etc"), &self.init.spec, ip).attempt("write the pod's files")?;
                done()
            }
            Request::Start(spec) => self.start(*spec),
            Request::Stop { id, grace_millis } => self.stop(number, id, Duration::from_millis(grace_millis)),
            Request::Remove { id } => self.remove(&id),
            Request::List => one(Response::Containers(self.statuses())),
            Request::Exec { id, spec } => {
                let container = running(&self.containers, &id)?;
                let (pid, terminal) = container.exec(&self.rooms, &spec, fds)?;
                self.execs.insert(pid, number);
                self.set_awaits(number, Awaits::Exec);
                Ok(Some((Response::Running, terminal.into_iter().collect())))
            }
            Request::Attach { id } => {
                let container = self.containers.get_mut(&id).filter(|container| container.is_running());
                let container = container.ok_or_else(|| not_running(&id))?;
                container.followers.extend([Stream::Stdout, Stream::Stderr].into_iter().zip(fds));
                let input = container.input.as_ref().map(OwnedFd::try_clone).transpose().attempt("copy the input")?;
                self.set_awaits(number, Awaits::End(id));
                Ok(Some((Response::Running, input.into_iter().collect())))
            }
            Request::Subscribe => {
                self.set_awaits(number, Awaits::Events);
                one(Response::Containers(self.statuses()))
            }
            Request::Dial { port } => {
                let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
                let stream = std::net::TcpStream::connect_timeout(&address, wire::MESSAGE_TIME)
                    .attempt(format!("connect to port {port} in the pod"))?;
                Ok(Some((Response::Done, vec![stream.into()])))
            }
            Request::Usage => {
                let usage =
                    |(id, container): (&String, &Container)| (id.clone(), container.usage(self.groups.as_ref()));
                one(Response::Usage(self.containers.iter().map(usage).collect()))
            }
            Request::Shutdown => {
                self.last = true;
                for container in self.containers.values().filter(|container| container.is_running()) {
                    kill(container.pid, Signal::SIGKILL).ok();
                }
                done()
            }
        }
    }

    fn start(&mut self, spec: crate::runtime::spec::ContainerSpec) -> Result<Answer, ShimError> {
        if self.containers.contains_key(&spec.id) || self.last {
            return Err(ShimError::Refused(format!("container {} can't be made: it exists or the pod ends", spec.id)));
        }
        let id = spec.id.clone();
        let container = Container::start(&self.init, &self.rooms, self.groups.as_ref(), spec, clock::now())?;
        let status = container.status.clone();
        self.containers.insert(id, container);
        self.save()?;
        self.tell(&status);
        one(Response::Container(status))
    }

    fn stop(&mut self, number: u64, id: String, grace: Duration) -> Result<Answer, ShimError> {
        let container = self.containers.get_mut(&id).ok_or_else(|| unknown(&id))?;
        if !container.is_running() {
            return one(Response::Container(container.status.clone()));
        }
        let first = if grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM };
        kill(container.pid, first).ok();
        let at = Instant::now() + grace;
        container.kill_at = Some(container.kill_at.map_or(at, |before| before.min(at)));
        self.set_awaits(number, Awaits::End(id));
        Ok(None)
    }

    fn remove(&mut self, id: &str) -> Result<Answer, ShimError> {
        match self.containers.get(id) {
            Some(container) if container.is_running() => {
                return Err(ShimError::Refused(format!("container {id} still runs: stop it first")));
            }
            Some(container) => container.remove(&self.rooms, self.groups.as_ref())?,
            None => return done(),
        }
        self.containers.remove(id);
        self.save()?;
        done()
    }

    fn kill_overdue(&mut self) {
        let now = Instant::now();
        for container in self.containers.values_mut() {
            if container.kill_at.is_some_and(|at| at <= now) {
                kill(container.pid, Signal::SIGKILL).ok();
                // Once more in a while, in case the signal was lost on a process that could not die.
                container.kill_at = Some(now + Duration::from_secs(5));
            }
        }
    }

    /// Collects every ended child and draws the consequences.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, exit) = match status {
                WaitStatus::Exited(pid, code) => (pid, Exit { code, signal: None, oom_killed: false }),
                WaitStatus::Signaled(pid, signal, _) => {
                    let number = signal as i32;
                    (pid, Exit { code: 128 + number, signal: Some(number), oom_killed: false })
                }
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            self.ended.insert(pid, exit);
        }
        for (pid, exit) in std::mem::take(&mut self.ended) {
            if let Some(number) = self.execs.remove(&pid) {
                self.answer(number, &Response::Exited(exit), &[]);
                self.connections.remove(&number);
                continue;
            }
            let found = self.containers.iter().find(|(_, it)| it.pid == pid && it.is_running());
            if let Some(id) = found.map(|(id, _)| id.clone()) {
                self.container_ended(&id, exit);
            }
        }
    }

    fn container_ended(&mut self, id: &str, exit: Exit) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..MAX_DRAIN {
                if !self.read_some(id, stream) {
                    break;
                }
            }
        }
        let place = self.rooms.containers.join(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.ended(&place, self.groups.as_ref(), exit, clock::now());
        let status = container.status.clone();
        if let Err(error) = self.save() {
            super::complain(&error);
        }
        self.tell(&status);
        let waiting = self.connections.iter().filter(|(_, it)| matches!(&it.awaits, Awaits::End(end) if end == id));
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.answer(number, &Response::Container(status.clone()), &[]);
            self.connections.remove(&number);
        }
    }

    fn copy_output(&mut self, id: &str, stream: Stream) {
        self.read_some(id, stream);
    }

    /// Reads once from a stream into the log; false when there is nothing (more) to read.
    fn read_some(&mut self, id: &str, stream: Stream) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return false };
        let Some(position) = container.outputs.iter().position(|(which, _)| *which == stream) else { return false };
        let mut buffer = [0_u8; CHUNK];
        let result = match container.outputs.get(position) {
            Some((_, fd)) => fd.try_clone().and_then(|fd| std::fs::File::from(fd).read(&mut buffer)),
            None => return false,
        };
        match result {
            Ok(count) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                // A full disk must not stop the container; what can't be logged is lost, as upstream has it.
                drop(container.log.write(stream, bytes, clock::now()));
                container.followers.retain(|(which, fd)| *which != stream || forward(fd, bytes));
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            _ => {
                container.outputs.remove(position);
                false
            }
        }
    }

    /// Tells a changed status to all who listen.
    fn tell(&mut self, status: &ContainerStatus) {
        let listeners = self.connections.iter().filter(|(_, it)| matches!(it.awaits, Awaits::Events));
        for number in listeners.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.answer(number, &Response::Event(PodEvent::Container(status.clone())), &[]);
        }
    }

    fn answer(&mut self, number: u64, response: &Response, fds: &[OwnedFd]) {
        let Some(connection) = self.connections.get(&number) else { return };
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        if wire::send(&connection.stream, response, &fds).is_err() {
            self.connections.remove(&number);
        }
    }

    fn set_awaits(&mut self, number: u64, awaits: Awaits) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.awaits = awaits;
        }
    }

    fn statuses(&self) -> Vec<ContainerStatus> {
        self.containers.values().map(|container| container.status.clone()).collect()
    }

    fn save(&self) -> Result<(), ShimError> {
        state::save(&self.init.directory, &State { containers: self.statuses() })
    }

    fn farewell(&mut self) {
        for container in self.containers.values() {
            if let Err(error) = container.remove(&self.rooms, self.groups.as_ref()) {
                super::complain(&error);
            }
        }
    }
}

type Answer = Option<(Response, Vec<OwnedFd>)>;

fn one(response: Response) -> Result<Answer, ShimError> {
    Ok(Some((response, Vec::new())))
}

fn done() -> Result<Answer, ShimError> {
    one(Response::Done)
}

fn running<'a>(containers: &'a BTreeMap<String, Container>, id: &str) -> Result<&'a Container, ShimError> {
    containers.get(id).filter(|container| container.is_running()).ok_or_else(|| not_running(id))
}

fn unknown(id: &str) -> ShimError {
    ShimError::Refused(format!("there is no container {id}"))
}

fn not_running(id: &str) -> ShimError {
    ShimError::Refused(format!("container {id} is not running"))
}

/// Passes output on to one who follows; one who does not read loses it, and one who has gone is forgotten.
fn forward(fd: &OwnedFd, bytes: &[u8]) -> bool {
    match fd.try_clone().and_then(|fd| std::fs::File::from(fd).write_all(bytes)) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// The agent's user has no id in the pod's user namespace, so it appears as the overflow id; a process of the pod
/// that somehow reached the socket would appear as itself.
fn is_from_the_node(stream: &UnixStream) -> bool {
    let overflow = std::fs::read_to_string("/proc/sys/fs/overflowuid").ok().and_then(|id| id.trim().parse().ok());
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == overflow.unwrap_or(65_534))
}
