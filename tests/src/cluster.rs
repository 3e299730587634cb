//! One server under test: started, asked, killed, started again, and cleaned away.

use std::{
    fs::{OpenOptions, Permissions},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;

use crate::{
    binary::secctl,
    process,
    raw::{Endpoint, Http, whole},
};

/// How long a server may take to be ready; a debug build on a busy machine is slow.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// How often it is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(5);
/// How long a server may take to drain and stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// How often another port is tried when somebody took the one that was free a moment ago.
const PORT_ATTEMPTS: usize = 3;

/// The copy of `secctl` that a cluster with a node runs.
const PROGRAM: &str = "secctl";

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Runs the node agent of this machine too.
    pub node: bool,
    /// More arguments of `secctl server`.
    pub arguments: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
}

/// A server and its files. Dropping it kills the server and removes the files; it fails the test where the server
/// panicked, whatever the test itself looked at.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    options: Options,
    port: u16,
    server: Option<Child>,
    kubeconfig: Option<String>,
}

impl Cluster {
    /// A ready server without a node.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// A ready server, started in a way of its own.
    pub async fn start_with(options: Options) -> Result<Self> {
        for _ in 1..PORT_ATTEMPTS {
            let mut cluster = Self::prepare(options.clone())?;
            match cluster.boot().await {
                Err(_) if cluster.log().contains("ddress already in use") => {}
                result => return result.map(|_| cluster),
            }
        }
        let mut cluster = Self::prepare(options)?;
        cluster.boot().await?;
        Ok(cluster)
    }

    /// A server that is still to be started for the first time.
    pub fn prepare(options: Options) -> Result<Self> {
        let folder = TempDir::with_prefix("martello-").context("make a temporary folder")?;
        if options.node {
            // Every pod runs as a user of its own, below this folder.
            let passable = Permissions::from_mode(0o711);
            std::fs::set_permissions(folder.path(), passable).context("let the node's users pass")?;
            // The build's own folder may be closed to them.
            let copied = secctl().and_then(|program| Ok(std::fs::copy(program, folder.path().join(PROGRAM))?));
            copied.context("copy secctl to where the node's users may run it")?;
        }
        Ok(Self { folder, options, port: free_port()?, server: None, kubeconfig: None })
    }

    /// Starts the server on its files and waits until it says that it is ready; returns how long that took.
    pub async fn boot(&mut self) -> Result<Duration> {
        ensure!(self.server.is_none(), "the server runs already");
        let log =
            OpenOptions::new().create(true).append(true).open(self.log_path()).context("open the server's log")?;
        let mut command = Command::new(self.program()?);
        command.arg("server").arg("--data-dir").arg(self.data_dir());
        command.arg("--listen").arg(format!("{}:{}", Ipv4Addr::LOCALHOST, self.port));
        command.arg("--root-key-file").arg(self.root_key_path());
        if self.options.node {
            command.arg("--node").arg("--node-dir").arg(self.node_dir());
            command.arg("--node-port").arg(free_port()?.to_string());
        }
        command.args(&self.options.arguments).envs(self.options.environment.iter().cloned());
        command.env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the server's log")?).stderr(log);
        let began = Instant::now();
        self.server = Some(command.spawn().context("start secctl server")?);
        self.until_ready(began).await
    }

    async fn until_ready(&mut self, began: Instant) -> Result<Duration> {
        let endpoint = Endpoint::dangerous_trusting_anyone("127.0.0.1", self.port)?;
        let mut interval = tokio::time::interval(READY_INTERVAL);
        while began.elapsed() < READY_TIMEOUT {
            interval.tick().await;
            let is_ready = match health(&endpoint).await {
                // It lets nobody in whom it doesn't know.
                Some(401) => match self.admin().await {
                    Ok(admin) => is_ready(&admin).await,
                    Err(_) => false,
                },
                answered => answered == Some(200),
            };
            if is_ready {
                return Ok(began.elapsed());
            }
            let server = self.server.as_mut().context("the server does not run")?;
            if let Some(status) = server.try_wait().context("look after the server")? {
                self.server = None;
                bail!("the server ended with {status} instead of becoming ready; its log:\n{}", self.log());
            }
        }
        bail!("the server was not ready after {READY_TIMEOUT:?}; its log:\n{}", self.log())
    }

    /// Kills the server as a power cut would: it gets no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        server.kill().context("kill the server")?;
        let status = server.wait().context("wait for the killed server")?;
        ensure!(status.signal() == Some(Signal::SIGKILL as i32), "the server had ended before it was killed: {status}");
        Ok(())
    }

    /// Asks the server to stop, as systemd does, and waits for it.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut server = self.server.take().context("the server does not run")?;
        terminate(&server)?;
        let began = Instant::now();
        let mut interval = tokio::time::interval(READY_INTERVAL);
        while began.elapsed() < STOP_TIMEOUT {
            interval.tick().await;
            if let Some(status) = server.try_wait().context("look after the server")? {
                return Ok(status);
            }
        }
        server.kill().context("kill the server that did not stop")?;
        server.wait().context("wait for the killed server")?;
        bail!("the server did not stop within {STOP_TIMEOUT:?}; its log:\n{}", self.log())
    }

    /// The administrator's kubeconfig, made once and kept.
    pub fn kubeconfig(&mut self) -> Result<String> {
        if self.kubeconfig.is_none() {
            self.kubeconfig = Some(self.new_kubeconfig(&[])?);
        }
        self.kubeconfig.clone().context("make a kubeconfig")
    }

    /// A new kubeconfig, made by `secctl kubeconfig` with these further arguments.
    pub fn new_kubeconfig(&self, arguments: &[&str]) -> Result<String> {
        self.secctl(&[&["kubeconfig", "--data-dir", &self.data_dir().to_string_lossy()], arguments].concat())
    }

    /// The administrator's kubeconfig as a file.
    pub fn kubeconfig_path(&mut self) -> Result<PathBuf> {
        let path = self.folder.path().join("kubeconfig");
        let text = self.kubeconfig()?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Who the administrator is and where the server is.
    pub async fn config(&mut self) -> Result<kube::Config> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig()?).context("read the kubeconfig")?;
        let options = KubeConfigOptions::default();
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("use the kubeconfig")
    }

    /// A client of the administrator.
    pub async fn client(&mut self) -> Result<kube::Client> {
        install_crypto();
        kube::Client::try_from(self.config().await?).context("make a client of the kubeconfig")
    }

    /// The administrator, for requests that a client library would not make.
    pub async fn admin(&mut self) -> Result<Endpoint> {
        Endpoint::from_kube(&self.config().await?)
    }

    /// Another administrator.
    pub async fn another_admin(&self, name: &str) -> Result<Endpoint> {
        self.somebody(&["--user", name, "--group", "system:masters"]).await
    }

    /// A user with no rights but those of everybody, by a certificate of its own.
    pub async fn user(&self, name: &str) -> Result<Endpoint> {
        self.somebody(&["--user", name]).await
    }

    /// The user of a new kubeconfig, made with these further arguments.
    async fn somebody(&self, arguments: &[&str]) -> Result<Endpoint> {
        let kubeconfig = self.new_kubeconfig(arguments)?;
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).context("read the kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Endpoint::from_kube(&config.context("use the kubeconfig")?)
    }

    /// An administrator, as soon as pods can be made in `default`: a controller gives that namespace its ServiceAccount a
    /// moment after the server is ready.
    pub async fn admin_with_pods(&mut self) -> Result<Endpoint> {
        let admin = self.admin().await?;
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        let made = async {
            let mut interval = tokio::time::interval(READY_INTERVAL);
            while admin.ask("GET", account, "").await?.status != 200 {
                interval.tick().await;
            }
            Ok(())
        };
        let made = tokio::time::timeout(READY_TIMEOUT, made).await;
        made.unwrap_or_else(|_| bail!("{account} was not made within {READY_TIMEOUT:?}"))?;
        Ok(admin)
    }

    /// Nobody in particular.
    pub async fn anonymous(&mut self) -> Result<Endpoint> {
        Endpoint::anonymous("127.0.0.1", self.port, &self.authority_pem().await?)
    }

    /// The authorities that clients trust, as PEM.
    pub async fn authority_pem(&mut self) -> Result<Vec<u8>> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig()?).context("read the kubeconfig")?;
        let cluster = kubeconfig.clusters.into_iter().find_map(|named| named.cluster);
        let data = cluster.and_then(|cluster| cluster.certificate_authority_data);
        use base64::Engine as _;
        let data = data.context("the kubeconfig names no authority")?;
        base64::engine::general_purpose::STANDARD.decode(data).context("decode the kubeconfig's authority")
    }

    /// Runs `secctl` with these arguments and returns what it prints; an error tells what it said.
    pub fn secctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(self.program()?).args(arguments).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("run secctl {}", arguments.join(" ")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "secctl {} ended with {}: {said}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).context("read what secctl printed")
    }

    /// Everything that the server keeps.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything that the node agent beside the server keeps.
    #[must_use]
    pub fn node_dir(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    /// The root key, outside of the data.
    #[must_use]
    pub fn root_key_path(&self) -> PathBuf {
        self.folder.path().join("root.key")
    }

    /// A folder for a test's own files, removed with the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the server listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, where it runs.
    pub fn pid(&self) -> Result<u32> {
        self.server.as_ref().map(Child::id).context("the server does not run")
    }

    /// The process of the node agent beside the server, where it runs.
    pub fn agent_pid(&self) -> Result<Option<u32>> {
        Ok(process::children(self.pid()?)?
            .into_iter()
            .find(|child| process::arguments(*child).get(1) == Some(&"node".to_owned())))
    }

    fn program(&self) -> Result<PathBuf> {
        if self.options.node { Ok(self.folder.path().join(PROGRAM)) } else { secctl() }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The first panic in the server's log, with the lines around it.
    #[must_use]
    pub fn panic(&self) -> Option<String> {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let at = lines.iter().position(|line| line.contains("panicked"))?;
        Some(lines.into_iter().skip(at).take(30).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // The agent and its pods are stopped by a server that is asked to stop.
            if self.options.node && terminate(&server).is_ok() {
                wait_briefly(&mut server);
            }
            drop(server.kill());
            drop(server.wait());
        }
        if self.options.node && self.node_dir().exists() {
            // Pods outlive their agent.
            drop(self.secctl(&["node-cleanup", "--data-dir", &self.node_dir().to_string_lossy()]));
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            use std::io::Write as _;
            drop(writeln!(std::io::stderr(), "the end of the server's log:\n{}", tail.join("\n")));
        } else {
            assert!(self.panic().is_none(), "the server panicked:\n{}", self.panic().unwrap_or_default());
        }
    }
}

fn terminate(server: &Child) -> Result<()> {
    let pid = i32::try_from(server.id()).context("read the server's process id")?;
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGTERM).context("ask the server to stop")
}

fn wait_briefly(server: &mut Child) {
    let began = Instant::now();
    while began.elapsed() < STOP_TIMEOUT && matches!(server.try_wait(), Ok(None)) {
        std::thread::sleep(READY_INTERVAL);
    }
}

/// Whether the server answers that it is ready.
pub async fn is_ready(endpoint: &Endpoint) -> bool {
    health(endpoint).await == Some(200)
}

/// With which code the server answers whether it is ready, if it answers.
async fn health(endpoint: &Endpoint) -> Option<u16> {
    let asked = async {
        let mut connection = endpoint.connect(Http::One).await?;
        let request = connection.request("GET", "/readyz", &[], hyper::body::Bytes::new())?;
        whole(connection.send(request).await?).await
    };
    tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?.ok().map(|answer| answer.status)
}

/// The one provider of cryptography of this process; a second call changes nothing.
pub fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
