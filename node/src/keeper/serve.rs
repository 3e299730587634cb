//! The keeper's server: root of the node's user namespace, inside the pod network.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;

use super::measure;
use super::protocol::{Request, Response, ServeInit};
use super::{context, tree};
use crate::network::dns::Dns;
use crate::network::{DnsTable, NetworkConfig, ServiceTable, link, rules, uplink};
use crate::runtime::cgroup::Hierarchies;
use crate::{sys, wire};

/// The word after `secctl keeper` that makes the process the server.
pub(crate) const SERVE: &str = "serve";

/// How long a connection to a pod may take to be made.
const DIAL_TIME: Duration = Duration::from_secs(20);

/// Enters the node's user namespace and pod network, and serves until it is told to end.
pub(super) fn serve() -> io::Result<()> {
    let agent = UnixStream::from(sys::inherited_fd(0)?);
    let Some((init, fds)) = wire::receive::<ServeInit>(&agent)? else { return Ok(()) };
    let [listener, user, network] =
        <[OwnedFd; 3]>::try_from(fds).map_err(|_| io::Error::other("three descriptors are needed"))?;
    setns(user, CloneFlags::CLONE_NEWUSER).map_err(io::Error::from).map_err(context("enter the user namespace"))?;
    setns(network, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(context("enter the pod network"))?;
    nix::unistd::setsid()?;
    let groups = Hierarchies::detect()?;
    let server = Arc::new(Server { roots: init.roots, groups, state: Mutex::default() });
    let pid = std::process::id().cast_signed();
    wire::send(&agent, &Response::Hello { pid }, &[])?;
    drop(agent);
    let listener = UnixListener::from(listener);
    loop {
        let (stream, _) = listener.accept()?;
        let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
        // The agent's user is 0 here.
        if peer.is_ok_and(|peer| peer.uid() == 0) {
            let server = Arc::clone(&server);
            thread::Builder::new().name("request".to_owned()).spawn(move || server.serve_one(&stream))?;
        }
    }
}

struct Server {
    roots: Vec<PathBuf>,
    groups: Hierarchies,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: Option<NetworkConfig>,
    services: ServiceTable,
    names: DnsTable,
    dns: Option<Arc<Dns>>,
}

impl Server {
    fn serve_one(&self, stream: &UnixStream) {
        let request = stream.set_read_timeout(Some(wire::MESSAGE_TIME)).and_then(|()| wire::receive(stream));
        let Ok(Some((request, _))) = request else { return };
        let last = matches!(request, Request::Shutdown);
        let (response, fds) = match self.handle(request) {
            Ok((response, fds)) => (response, fds),
            Err(error) => (Response::Failed { message: error.to_string() }, Vec::new()),
        };
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        // An agent that has gone needs no answer.
        wire::send(stream, &response, &fds).ok();
        if last {
            std::process::exit(0);
        }
    }

    fn handle(&self, request: Request) -> io::Result<(Response, Vec<OwnedFd>)> {
        match request {
            Request::Hello => return Ok((Response::Hello { pid: std::process::id().cast_signed() }, Vec::new())),
            Request::Network(config) => self.set_up(config)?,
            Request::Attach { pid, ip, gateway } => attach(pid, ip, gateway)?,
            Request::Detach { ip } => link::detach(ip)?,
            Request::Services(table) => {
                let mut state = self.state.lock();
                state.services = table;
                load(&state)?;
            }
            Request::Names(table) => {
                let mut state = self.state.lock();
                if let Some(dns) = &state.dns {
                    dns.table.store(Arc::new(table.clone()));
                }
                state.names = table;
            }
            Request::Dial { ip, port } => {
                let stream = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), DIAL_TIME)?;
                return Ok((Response::Done, vec![stream.into()]));
            }
            Request::MakeDirectory { path, uid, mode } => tree::make_directory(self.root_of(&path)?, &path, uid, mode)?,
            Request::Own { path, uid, gid } => tree::own(self.root_of(&path)?, &path, uid, gid)?,
            Request::Measure { path } => {
                let bytes = measure::measure(self.root_of(&path)?, &path)?;
                return Ok((Response::Measured { bytes }, Vec::new()));
            }
            Request::RemoveTree { path } => tree::remove(self.root_of(&path)?, &path)?,
            Request::Group { name, uid } => self.groups.delegate(&name, uid, 0)?,
            Request::RemoveGroup { name } => self.groups.remove(&name),
            Request::Shutdown => {}
        }
        Ok((Response::Done, Vec::new()))
    }

    fn root_of(&self, path: &Path) -> io::Result<&Path> {
        let root = self.roots.iter().find(|root| path.starts_with(root));
        root.map(PathBuf::as_path)
            .ok_or_else(|| io::Error::other(format!("{} is none of the node's directories", path.display())))
    }

    fn set_up(&self, config: NetworkConfig) -> io::Result<()> {
        let mut state = self.state.lock();
        let new = state.config.as_ref() != Some(&config);
        if new {
            link::set_up(config.dns_ip)?;
        }
        let upstream = Arc::new(upstream(&config));
        match &state.dns {
            Some(dns) => dns.upstream.store(upstream),
            None => {
                let dns = Arc::new(Dns {
                    table: ArcSwap::from_pointee(state.names.clone()),
                    upstream: ArcSwap::from(upstream),
                });
                start_dns(Arc::clone(&dns), config.dns_ip)?;
                state.dns = Some(dns);
            }
        }
        state.config = Some(config);
        if new { load(&state) } else { Ok(()) }
    }
}

fn load(state: &State) -> io::Result<()> {
    match &state.config {
        Some(config) => rules::load(&rules::script(config, &state.services)),
        None => Ok(()),
    }
}

/// The node's own resolvers, as they are reached from here.
fn upstream(config: &NetworkConfig) -> Vec<SocketAddr> {
    let mut servers = config.upstream_dns.clone();
    if servers.is_empty() {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        servers = lines.filter_map(|server| server.trim().parse().ok()).collect();
    }
    let reached = servers.into_iter().map(|ip| if ip.is_loopback() { uplink::GATEWAY } else { ip });
    reached.map(|ip| SocketAddr::from((ip, 53))).collect()
}

fn start_dns(dns: Arc<Dns>, ip: std::net::Ipv4Addr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::Builder::new().name("dns".to_owned()).spawn(move || {
        let result = runtime.block_on(async {
            let serving = tokio::spawn(dns.serve(ip));
            // Binding fails at once or not at all.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            if serving.is_finished() {
                return serving.await.map_err(io::Error::other)?;
            }
            sender.send(Ok(())).ok();
            serving.await.map_err(io::Error::other)?
        });
        sender.send(result).ok();
    })?;
    receiver.recv().map_err(io::Error::other)?
}

/// Connects a pod; the thread that enters its namespace ends with it.
fn attach(pid: i32, ip: Option<std::net::Ipv4Addr>, gateway: std::net::Ipv4Addr) -> io::Result<()> {
    let namespace: OwnedFd = std::fs::File::open(format!("/proc/{pid}/ns/net"))
        .map_err(context(format!("open the network namespace of process {pid}")))?
        .into();
    if let Some(ip) = ip {
        link::attach(&namespace, ip, gateway)?;
    }
    let inside = thread::Builder::new().name("pod".to_owned()).spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(context("enter the pod"))?;
        link::set_up_pod(ip, gateway)
    })?;
    inside.join().map_err(|_| io::Error::other("setting up the pod's side failed"))?
}
