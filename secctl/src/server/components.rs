//! What runs beside the API server: controllers, the scheduler, and the node agent of this machine.

use std::{net::IpAddr, process::Stdio, time::Duration};

use anyhow::Context as _;
use jiff::SignedDuration;
use martello_api::{
    clock,
    identity::{CONTROLLER_MANAGER, SCHEDULER, User},
};
use martello_apiserver::Server;
use martello_pki::{Pki, join::JoinTokenSpec};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::Flags;

/// How often the published authorities are compared with the present ones; a rotation overlaps for days.
const TRUST_INTERVAL: Duration = Duration::from_secs(10);
/// Silence after which a node counts as unreachable, as upstream's default.
const NODE_GRACE: Duration = Duration::from_secs(50);
/// Pause before the node agent of this machine is started again.
const NODE_RESTART: Duration = Duration::from_secs(1);

/// Starts controllers and scheduler, each with an identity of its own and nothing but a client.
pub fn spawn(server: &Server, pki: &Pki, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let (sender, root_ca) = watch::channel(pki.server_ca_pem());
    let (authorities, stop) = (pki.clone(), shutdown.clone());
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(TRUST_INTERVAL)).await.is_some() {
            let present = authorities.server_ca_pem();
            sender.send_if_modified(|published| {
                let changed = *published != present;
                published.clone_from(&present);
                changed
            });
        }
    });
    let config = martello_controllers::Config { root_ca, node_monitor_grace: NODE_GRACE };
    let none: [&str; 0] = [];
    let controllers = server.client(User::authenticated(CONTROLLER_MANAGER, none));
    tasks.spawn(martello_controllers::run(controllers, config, shutdown.clone()));
    let scheduler = server.client(User::authenticated(SCHEDULER, none));
    tasks.spawn(martello_scheduler::run(scheduler, shutdown.clone()));
}

/// The node agent of this machine: a process of its own, started again when it ends.
pub struct LocalNode {
    task: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl LocalNode {
    /// Starts it; it joins with a token of its own, which it reads from its standard input.
    pub fn start(flags: &Flags, pki: &Pki, advertise: (IpAddr, u16)) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let (flags, pki, stop) = (flags.clone(), pki.clone(), shutdown.clone());
        let program = std::env::current_exe().context("find this program's own file")?;
        let task = tokio::spawn(async move {
            while !stop.is_cancelled() {
                match launch(&program, &flags, &pki, advertise).await {
                    Ok((child, input)) => supervise(child, input, &stop).await,
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the node agent could not be started"),
                }
                stop.run_until_cancelled(tokio::time::sleep(NODE_RESTART)).await;
            }
        });
        Ok(Self { task, shutdown })
    }

    /// Ends it; the pods go on.
    pub async fn stop(self, patience: Duration) {
        self.shutdown.cancel();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            tracing::warn!("the node agent did not end in time");
        }
    }
}

async fn launch(
    program: &std::path::Path,
    flags: &Flags,
    pki: &Pki,
    advertise: (IpAddr, u16),
) -> anyhow::Result<(Child, ChildStdin)> {
    let name = flags.node_name.clone().map_or_else(crate::node::own_name, Ok)?;
    let spec = JoinTokenSpec {
        lifetime: SignedDuration::from_mins(10),
        uses: Some(1),
        node: Some(name.clone()),
        description: "the node agent beside the server".to_owned(),
    };
    let token =
        pki.join_tokens().create(spec, clock::now()).context("make a join token for this machine's node agent")?;
    let fingerprints = pki.trust().load().servers.fingerprints();
    let mut command = tokio::process::Command::new(program);
    let url = match advertise.0 {
        IpAddr::V4(ip) => format!("https://{ip}:{}", advertise.1),
        IpAddr::V6(ip) => format!("https://[{ip}]:{}", advertise.1),
    };
    command
        .arg("node")
        .arg("--data-dir")
        .arg(flags.node_path())
        .args(["--server", &url, "--name", &name, "--join-token-file", "-", "--stop-with-input"])
        .args(["--listen", &format!("{}:{}", advertise.0, flags.node_port)])
        .args(["--pod-cidr", &flags.pod_cidr.to_string(), "--service-cidr", &flags.service_cidr.to_string()])
        .args(["--log-level", &flags.log.level])
        .args(["--log-format", if flags.log.format == crate::logging::Format::Json { "json" } else { "text" }]);
    for fingerprint in fingerprints {
        command.args(["--ca-fingerprint", &fingerprint.to_string()]);
    }
    for registry in &flags.plain_http_registry {
        command.args(["--plain-http-registry", registry]);
    }
    // The server's own settings are not the agent's.
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("MARTELLO_")) {
        command.env_remove(key);
    }
    let mut child = command.stdin(Stdio::piped()).spawn().context("start the node agent")?;
    let mut stdin = child.stdin.take().context("reach the node agent's standard input")?;
    let line = Zeroizing::new(format!("{}\n", token.expose()));
    stdin.write_all(line.as_bytes()).await.context("hand the join token to the node agent")?;
    Ok((child, stdin))
}

/// Waits for the agent's end, or ends it. It lives no longer than `_input`: if this process is killed, the agent's input ends.
async fn supervise(mut child: Child, _input: ChildStdin, stop: &CancellationToken) {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = stop.cancelled() => {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
                && let Err(error) = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
            {
                tracing::debug!(%error, "the node agent was gone already");
            }
            child.wait().await
        }
    };
    match ended {
        Ok(status) => tracing::info!(%status, "the node agent ended"),
        Err(error) => tracing::warn!(%error, "waiting for the node agent"),
    }
}
