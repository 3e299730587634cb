//! One container of the pod: how it is made, how a process is added to it, how it ends.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use super::cri_log::{CriLog, Stream};
use super::executor::Confined;
use super::protocol::Init;
use super::{Attempt, ShimError, overlay, users, volumes};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::oci::{self, Places, ResolvedUser};
use crate::runtime::spec::{ContainerSpec, ContainerState, ContainerStatus, ExecSpec, Exit, Seccomp};
use crate::sys;

/// Bytes of a termination message at most, as upstream has it.
const MAX_MESSAGE: u64 = 4096;

/// Where the shim keeps things, all below the pod's directory.
pub(super) struct Rooms {
    /// A tmpfs that only this shim sees: specs with environment (and so secrets), sockets, `/etc` files.
    pub(super) run: PathBuf,
    /// Writable layers, on disk.
    pub(super) containers: PathBuf,
    /// Logs.
    pub(super) logs: PathBuf,
    /// Unpacked layers.
    pub(super) layers: PathBuf,
}

/// A container that exists.
pub(super) struct Container {
    pub(super) spec: ContainerSpec,
    pub(super) status: ContainerStatus,
    pub(super) user: ResolvedUser,
    pub(super) pid: Pid,
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    pub(super) input: Option<OwnedFd>,
    pub(super) log: CriLog,
    /// Others who follow the streams.
    pub(super) followers: Vec<(Stream, OwnedFd)>,
    /// When to kill, and whether that was done.
    pub(super) kill_at: Option<Instant>,
    cgroup: Option<String>,
    started_at: Timestamp,
}

/// The three streams, or the terminal, of a process to be made: the child's ends and ours.
struct Streams {
    child: [OwnedFd; 3],
    outputs: Vec<(Stream, OwnedFd)>,
    input: Option<OwnedFd>,
}

impl Container {
    /// Makes and starts a container. When it fails, nothing is left.
    pub(super) fn start(
        init: &Init,
        rooms: &Rooms,
        groups: Option<&Hierarchies>,
        spec: ContainerSpec,
        now: Timestamp,
    ) -> Result<Container, ShimError> {
        check_names(&spec)?;
        let place = rooms.containers.join(&spec.id);
        let cgroup = init.cgroup.as_ref().map(|pod| format!("{pod}/{}", spec.id));
        let result = Container::make(init, rooms, groups, &spec, &place, cgroup.clone(), now);
        if result.is_err() {
            kill_strangers();
            if let Err(error) = volumes::release(&rooms.run, &spec.id) {
                super::complain(&error);
            }
            drop(overlay::remove_root(&place));
            drop(std::fs::remove_dir_all(rooms.run.join(&spec.id)));
            drop(std::fs::remove_dir_all(rooms.run.join("state").join(&spec.id)));
            if let (Some(groups), Some(cgroup)) = (groups, &cgroup) {
                groups.remove(cgroup);
            }
        }
        result
    }

    fn make(
        init: &Init,
        rooms: &Rooms,
        groups: Option<&Hierarchies>,
        spec: &ContainerSpec,
        place: &Path,
        cgroup: Option<String>,
        now: Timestamp,
    ) -> Result<Container, ShimError> {
        let root = overlay::mount_root(&rooms.layers, &spec.rootfs.layers, place)?;
        let user = users::resolve(&spec.user, &root)?;
        overlay::make_directory(&root, &spec.cwd)?;
        let message = place.join("termination-log");
        std::fs::write(&message, "").attempt("make the termination message")?;
        std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666)).attempt("open the message")?;
        if let (Some(groups), Some(cgroup)) = (groups, &cgroup) {
            groups.limit(cgroup, &spec.resources).attempt(format!("limit {cgroup}"))?;
        }

        let bundle = rooms.run.join(&spec.id);
        std::fs::create_dir_all(&bundle).attempt("make the bundle")?;
        let unlimited = format!("/{}", spec.id);
        let sources = volumes::sources(&rooms.run, spec)?;
        let places = Places {
            rootfs: &root,
            etc: &rooms.run.join("etc"),
            cgroup: cgroup.as_deref().unwrap_or(&unlimited),
            termination_message: &message,
            sources: &sources,
            pid_namespace: None,
        };
        let oci = oci::spec(spec, &user, places).map_err(|error| ShimError::Refused(error.to_string()))?;
        std::fs::write(bundle.join("config.json"), oci.to_string()).attempt("write the bundle")?;

        let log = CriLog::open(&rooms.logs.join(&spec.log_path)).attempt("open the log")?;
        let (pid, outputs, input) = launch(rooms, spec, &bundle)?;
        if let (Some(groups), Some(cgroup)) = (groups, &cgroup)
            && let Err(outside) = groups.verify(pid.as_raw(), cgroup)
        {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            return Err(ShimError::Refused(format!("limits are not in force: {outside}")));
        }
        adjust_oom_score(pid, spec.oom_score_adj);
        let started = crate::keeper::anchor::start_time(pid.as_raw()).unwrap_or_default();
        let status = ContainerStatus {
            id: spec.id.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            state: ContainerState::Running { started_at: now, pid: pid.as_raw(), started, uid: user.uid },
            log_path: init.directory.join("logs").join(&spec.log_path),
        };
        Ok(Container {
            spec: spec.clone(),
            status,
            user,
            pid,
            outputs,
            input,
            log,
            followers: Vec::new(),
            kill_at: None,
            cgroup,
            started_at: now,
        })
    }

    /// Whether its process still runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status.state, ContainerState::Running { .. })
    }

    /// Its standard input, for a caller who writes to it. Where it is for one caller only, the caller gets the pipe
    /// itself, and closes it; a terminal stays open.
    pub(super) fn input_for_a_caller(&mut self) -> std::io::Result<Option<OwnedFd>> {
        if self.spec.stdin_once && !self.spec.terminal {
            return Ok(self.input.take());
        }
        self.input.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// Runs a process in it; returns it, and the terminal if it has one.
    pub(super) fn exec(
        &self,
        rooms: &Rooms,
        exec: &ExecSpec,
        streams: Vec<OwnedFd>,
    ) -> Result<(Pid, Option<OwnedFd>), ShimError> {
        let process = oci::exec_process(&self.spec, &self.user, exec);
        let process = process.map_err(|error| ShimError::Refused(error.to_string()))?;
        let file = rooms.run.join(&self.spec.id).join("exec.json");
        std::fs::write(&file, process.to_string()).attempt("write the process")?;
        let seccomp = match self.spec.seccomp {
            Seccomp::Unconfined => None,
            Seccomp::RuntimeDefault => Some(
                serde_json::from_value(crate::runtime::seccomp::profile())
                    .map_err(io::Error::from)
                    .attempt("read the system call filter")?,
            ),
        };
        let console = exec.terminal.then(|| Console::open(&rooms.run)).transpose()?;
        let mut builder = builder(rooms, &self.spec.id)?.with_executor(Confined { seccomp });
        if let Some(console) = &console {
            builder = builder.with_console_socket(Some(&console.path));
        } else {
            let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(streams)
                .map_err(|_| ShimError::Refused("an exec without a terminal needs three streams".to_owned()))?;
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        let result = builder.as_tenant().with_detach(true).with_process(Some(&file)).build();
        after_build();
        drop(std::fs::remove_file(&file));
        let pid = result.map_err(|error| refused(&error)).inspect_err(|_| kill_strangers())?;
        Ok((pid, console.map(Console::terminal).transpose()?))
    }

    /// Its process has ended.
    pub(super) fn ended(&mut self, place: &Path, groups: Option<&Hierarchies>, exit: Exit, now: Timestamp) {
        let oom = match (groups, &self.cgroup) {
            (Some(groups), Some(cgroup)) => groups.oom_kills(cgroup) > 0,
            _ => false,
        };
        // Neither a full disk nor a strange message file may keep the end from being known.
        drop(self.log.finish(now));
        let mut message = String::new();
        if let Ok(file) = std::fs::File::open(place.join("termination-log")) {
            let mut bytes = Vec::new();
            drop(file.take(MAX_MESSAGE).read_to_end(&mut bytes));
            message = String::from_utf8_lossy(&bytes).into_owned();
        }
        self.status.state = ContainerState::Exited {
            started_at: self.started_at,
            finished_at: now,
            exit: Exit { oom_killed: oom && exit.code != 0, ..exit },
            message,
        };
        self.outputs.clear();
        self.followers.clear();
        self.input = None;
        self.kill_at = None;
    }

    /// Deletes what it left besides its log.
    pub(super) fn remove(&self, rooms: &Rooms, groups: Option<&Hierarchies>) -> Result<(), ShimError> {
        drop(std::fs::remove_dir_all(rooms.run.join(&self.spec.id)));
        drop(std::fs::remove_dir_all(rooms.run.join("state").join(&self.spec.id)));
        if let (Some(groups), Some(cgroup)) = (groups, &self.cgroup) {
            groups.remove(cgroup);
        }
        overlay::remove_root(&rooms.containers.join(&self.spec.id))?;
        volumes::release(&rooms.run, &self.spec.id)
    }

    /// What it uses.
    pub(super) fn usage(&self, groups: Option<&Hierarchies>) -> crate::runtime::spec::Usage {
        match (groups, &self.cgroup) {
            (Some(groups), Some(cgroup)) => groups.usage(cgroup),
            _ => crate::runtime::spec::Usage::default(),
        }
    }
}

type Launched = (Pid, Vec<(Stream, OwnedFd)>, Option<OwnedFd>);

fn launch(rooms: &Rooms, spec: &ContainerSpec, bundle: &Path) -> Result<Launched, ShimError> {
    let console = spec.terminal.then(|| Console::open(&rooms.run)).transpose()?;
    let mut builder = builder(rooms, &spec.id)?.with_executor(Confined { seccomp: None });
    let mut streams = None;
    if let Some(console) = &console {
        builder = builder.with_console_socket(Some(&console.path));
    } else {
        let Streams { child: [stdin, stdout, stderr], outputs, input } = Streams::pipes(spec.stdin)?;
        builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        streams = Some((outputs, input));
    }
    let built = builder.as_init(bundle).with_systemd(false).with_detach(true).build();
    after_build();
    let mut container = built.map_err(|error| refused(&error))?;
    let pid = container.pid().ok_or_else(|| ShimError::Refused("the container has no process".to_owned()))?;
    let pid = Pid::from_raw(pid.as_raw());
    let (outputs, input) = match (streams, console) {
        (Some(streams), _) => streams,
        (None, Some(console)) => {
            let master = console.terminal()?;
            let input = spec.stdin.then(|| master.try_clone()).transpose().attempt("copy the terminal")?;
            nonblocking(&master)?;
            (vec![(Stream::Stdout, master)], input)
        }
        (None, None) => (Vec::new(), None),
    };
    container.start().map_err(|error| refused(&error))?;
    Ok((pid, outputs, input))
}

impl Streams {
    fn pipes(stdin: bool) -> Result<Streams, ShimError> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).attempt("make a pipe");
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        nonblocking(&out_reader)?;
        nonblocking(&err_reader)?;
        let (child_in, input) = if stdin {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            (OwnedFd::from(std::fs::File::open("/dev/null").attempt("open /dev/null")?), None)
        };
        Ok(Streams {
            child: [child_in, out_writer, err_writer],
            outputs: vec![(Stream::Stdout, out_reader), (Stream::Stderr, err_reader)],
            input,
        })
    }
}

/// The socket over which libcontainer hands out a new terminal.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn open(run: &Path) -> Result<Console, ShimError> {
        let path = run.join("console");
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).attempt("open the console socket")?;
        Ok(Console { path, listener })
    }

    fn terminal(self) -> Result<OwnedFd, ShimError> {
        let (stream, _): (UnixStream, _) = self.listener.accept().attempt("accept the terminal")?;
        let mut fds = Vec::new();
        sys::receive_with_fds(stream.as_fd(), &mut [0; 64], &mut fds).attempt("receive the terminal")?;
        fds.into_iter().next().ok_or_else(|| ShimError::Refused("no terminal came".to_owned()))
    }
}

fn builder(rooms: &Rooms, id: &str) -> Result<ContainerBuilder, ShimError> {
    let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default());
    builder.with_root_path(rooms.run.join("state")).map_err(|error| refused(&error))
}

/// libcontainer makes this process undumpable, which would close its own `/proc` entries to the node.
fn after_build() {
    nix::sys::prctl::set_dumpable(true).ok();
}

/// Kills children that a failed attempt left behind, waiting for a start that never comes.
fn kill_strangers() {
    let me = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        if name.starts_with("youki:") {
            nix::sys::signal::kill(Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

fn adjust_oom_score(pid: Pid, score: i32) {
    // Raising always works; lowering needs a right that the node may not have. Either way the container runs.
    drop(std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.clamp(-1000, 1000).to_string()));
}

/// Makes reading from and writing to a descriptor answer at once.
pub(super) fn nonblocking(fd: &OwnedFd) -> Result<(), ShimError> {
    use std::os::fd::AsRawFd;
    nix::fcntl::fcntl(fd.as_raw_fd(), nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).attempt("set up a pipe")?;
    Ok(())
}

fn refused(error: &dyn std::error::Error) -> ShimError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    ShimError::Refused(text)
}

fn check_names(spec: &ContainerSpec) -> Result<(), ShimError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if spec.id.is_empty() || spec.id.len() > 100 || !spec.id.bytes().all(plain) {
        return Err(ShimError::Refused(format!("\"{}\" is no container id", spec.id)));
    }
    let inside = spec.log_path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if spec.log_path.as_os_str().is_empty() || !inside {
        return Err(ShimError::Refused("the log's path must be relative and without \"..\"".to_owned()));
    }
    if spec.args.first().is_none_or(String::is_empty) {
        return Err(ShimError::Refused("no command specified".to_owned()));
    }
    Ok(())
}
