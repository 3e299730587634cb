//! What the agent asks of a shim.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use martello_api::clock;
use nix::sys::signal::{Signal, kill};

use super::{Awaits, Shim};
use crate::runtime::shim::container::{Container, nonblocking};
use crate::runtime::shim::cri_log::Stream;
use crate::runtime::shim::protocol::{Request, Response};
use crate::runtime::shim::{Attempt, ShimError, files, volumes};
use crate::wire;

/// What is answered at once, with descriptors; none where the answer comes later.
pub(super) type Answer = Option<(Response, Vec<OwnedFd>)>;

impl Shim {
    pub(super) fn handle(&mut self, number: u64, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, ShimError> {
        match request {
            Request::Configure { ip } => {
                files::write(&self.rooms.run.join("etc"), &self.init.spec, ip).attempt("write the pod's files")?;
                done()
            }
            Request::Start(spec) => self.start(*spec),
            Request::Stop { id, grace_millis } => self.stop(number, id, Duration::from_millis(grace_millis)),
            Request::Remove { id } => self.remove(&id),
            Request::EmptyVolumes => self.empty_volumes(),
            Request::List => one(Response::Containers(self.statuses())),
            Request::Exec { id, spec } => {
                let container = running(&self.containers, &id)?;
                let (pid, terminal) = container.exec(&self.rooms, &spec, fds)?;
                self.execs.insert(pid, number);
                self.set_awaits(number, Awaits::Exec);
                Ok(Some((Response::Running, terminal.into_iter().collect())))
            }
            Request::Attach { id, stdin } => {
                let container = self.containers.get_mut(&id).filter(|container| container.is_running());
                let container = container.ok_or_else(|| not_running(&id))?;
                // One who doesn't read must not hold up the others (see `forward`).
                fds.iter().try_for_each(nonblocking)?;
                container.followers.extend([Stream::Stdout, Stream::Stderr].into_iter().zip(fds));
                let input = if stdin { container.input_for_a_caller().attempt("copy the input")? } else { None };
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
        let first = if grace.is_zero() { Signal::SIGKILL as i32 } else { container.spec.stop_signal };
        // A process that has just ended needs no signal.
        crate::sys::signal(container.pid, first).ok();
        let at = Instant::now() + grace;
        container.kill_at = Some(container.kill_at.map_or(at, |before| before.min(at)));
        self.set_awaits(number, Awaits::End(id));
        Ok(None)
    }

    fn empty_volumes(&self) -> Result<Answer, ShimError> {
        if self.containers.values().any(Container::is_running) {
            return Err(ShimError::Refused("a container still runs: its volumes stay".to_owned()));
        }
        for id in self.containers.keys() {
            volumes::release(&self.rooms.run, id)?;
        }
        volumes::unmount_memory(&self.rooms.run)?;
        done()
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
}

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
