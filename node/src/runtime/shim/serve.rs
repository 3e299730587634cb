//! The life of a shim inside its pod: one loop over the control socket, the containers' streams and their ends.

mod children;
mod requests;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::container::{Container, Rooms};
use super::cri_log::Stream;
use super::furnish::{attach_layers, furnish};
use super::protocol::{Init, Request, Response};
use super::state::{self, State};
use super::{Attempt, ShimError, enter};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::spec::{ContainerStatus, Exit, PodEvent};
use crate::wire;

/// Connections at a time: more than the agent opens (one for events, one per exec session, one per stop).
const MAX_CONNECTIONS: usize = 256;

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
            Err(ShimError::Unprepared(message)) => self.answer(number, &Response::Unprepared { message }, &[]),
            Err(error) => self.answer(number, &Response::Failed { message: error.to_string() }, &[]),
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

/// The agent's user has no id in the pod's user namespace, so it appears as the overflow id; a process of the pod
/// that somehow reached the socket would appear as itself.
fn is_from_the_node(stream: &UnixStream) -> bool {
    let overflow = std::fs::read_to_string("/proc/sys/fs/overflowuid").ok().and_then(|id| id.trim().parse().ok());
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == overflow.unwrap_or(65_534))
}
