//! `secctl node`: the node agent of this machine.

mod client;
mod flags;
mod join;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use http::Uri;
use martello_api::{clock, identity::API_SERVER};
use martello_node::{
    Config,
    images::Scanned,
    network::{NetworkConfig, follow::follow},
    pods::sandbox::Naming,
    runtime::{DnsConfig, LocalRuntime, PrepareConfig, Prepared, Runtime},
    server::Door,
};
use martello_pki::{
    ClientCertificates,
    enroll::{NodeIdentity, NodeVault},
    server_config,
};
use martello_scanner::{Images, layers::Limits, registry::RegistryConfig};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use flags::{CleanupFlags, Flags};

/// Directory of the node's images in its data directory.
pub const IMAGES: &str = "images";
/// Directory of the node's keyring and identity, encrypted.
const IDENTITY: &str = "identity";
/// The cluster's domain.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The host name of this machine, as a node's name: in lower case.
pub fn own_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("read this machine's host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// Ends everything that the node agent left running, and deletes its data.
pub fn cleanup(flags: &CleanupFlags) -> anyhow::Result<()> {
    let left = martello_node::runtime::cleanup(&flags.data_dir);
    for directory in [flags.data_dir.clone(), keys_directory(&flags.data_dir)] {
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("delete {}", directory.display()));
            }
            _ => {}
        }
    }
    if !left.is_empty() {
        bail!("could not remove: {}", left.join(", "));
    }
    Ok(())
}

/// Runs the agent until it is told to stop. The pods go on.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    crate::logging::start(&flags.log)?;
    let token = flags.join_token()?;
    let prepare = PrepareConfig {
        state_dir: flags.data_dir.clone(),
        user: flags.user.clone(),
        executable: std::env::current_exe().context("find this program's own file")?,
    };
    // Before the process has a second thread: root is given up for good here.
    let keys = make_keys_directory(&flags)?;
    let prepared = martello_node::runtime::prepare(&prepare).context("prepare this machine for rootless pods")?;
    crate::runtime()?.block_on(agent(flags, token, &keys, prepared))
}

fn keys_directory(data_dir: &Path) -> PathBuf {
    let mut path = data_dir.components().as_path().as_os_str().to_owned();
    path.push(".keys");
    PathBuf::from(path)
}

/// A directory beside the node's data, for the key that its identity is encrypted with, and for nobody but its user.
fn make_keys_directory(flags: &Flags) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, chown};
    let path = keys_directory(&flags.data_dir);
    let what = || format!("make the directory {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(what)?;
    if nix::unistd::geteuid().is_root() {
        let user = martello_node::runtime::system_user(&flags.user).context("find or make the node's user")?;
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(what)?;
    }
    Ok(path)
}

/// Stops the agent when whoever holds the other end of its standard input is gone.
fn stop_with_input(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        match std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()) {
            Ok(_) => tracing::info!("standard input ended: the server that started this agent is gone"),
            Err(error) => tracing::warn!(%error, "standard input can't be watched any more"),
        }
        shutdown.cancel();
    });
}

async fn agent(flags: Flags, token: Option<Zeroizing<String>>, keys: &Path, prepared: Prepared) -> anyhow::Result<()> {
    let shutdown = crate::stop_on_signal()?;
    if flags.stop_with_input {
        stop_with_input(shutdown.clone());
    }
    let name = flags.name.clone().map_or_else(own_name, Ok)?;
    let server: Uri = flags.server.parse().with_context(|| format!("--server {:?}", flags.server))?;
    let listen = flags.listen(&server);
    let flags = Flags { listen: Some(listen), ..flags };
    let vault = NodeVault::open(&flags.data_dir.join(IDENTITY), keys.join("root-key"), clock::now())
        .context("open the node's keys")?;
    let joining = join::identity(&flags, &name, &server, token.as_deref().map(String::as_str), &vault);
    let Some(identity) = shutdown.run_until_cancelled(joining).await else { return Ok(()) };
    let identity = identity?;
    let client = client::api(&identity, &server)?;
    let network = network(&flags, &server)?;
    let dns = network.dns_ip;
    let runtime = LocalRuntime::start(prepared, network).context("start the runtime of pods")?;
    let registry = RegistryConfig { plain_http: flags.plain_http_registry.clone(), ..RegistryConfig::default() };
    let images =
        Images::open(&flags.data_dir.join(IMAGES), martello_scanner::Config { registry, limits: Limits::default() })
            .context("open the node's images")?;

    let renewal = join::Renewal::new(&identity, &server)?;
    let renewing = tokio::spawn({
        let (identity, vault, addresses, shutdown) =
            (identity.clone(), vault.clone(), join::addresses(&flags), shutdown.clone());
        async move { identity.run(&renewal, Some(&vault), addresses, clock::now, shutdown).await }
    });
    let following = tokio::spawn(follow(client.clone(), runtime.clone(), CLUSTER_DOMAIN.to_owned(), shutdown.clone()));
    let mut config = Config::new(&name, listen.ip(), flags.data_dir.clone());
    config.port = listen.port();
    config.naming = Naming {
        cluster_dns: vec![dns.to_string()],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        node_dns: DnsConfig::default(),
    };
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let run = martello_node::run(
        client,
        config,
        runtime,
        Arc::new(Scanned::new(images)),
        door(listen, &identity)?,
        shutdown.clone(),
    );
    let ran = run.await.context("run the node agent");
    shutdown.cancel();
    for task in [renewing, following] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a part of the node agent ended abnormally");
        }
    }
    ran
}

/// Who may use the agent's server: the API server, and nobody else.
fn door(listen: SocketAddr, identity: &NodeIdentity) -> anyhow::Result<Door> {
    let tls = server_config(&identity.serving, &identity.trust, ClientCertificates::Required)
        .context("set up the agent's TLS")?;
    let trust = identity.trust.clone();
    Ok(Door {
        listen,
        tls: Arc::new(move || Arc::clone(&tls)),
        admit: Arc::new(move |chain| {
            let user = martello_pki::authenticate(&trust, chain, clock::now()).map_err(|error| error.to_string())?;
            if user.name == API_SERVER { Ok(()) } else { Err(format!("{:?} is not the API server", user.name)) }
        }),
    })
}

fn network(flags: &Flags, server: &Uri) -> anyhow::Result<NetworkConfig> {
    let host = server.host().unwrap_or_default();
    let Ok(IpAddr::V4(address)) = host.parse() else {
        bail!("--server must name the API server by an IPv4 address, so that pods can reach it: {host:?} is none");
    };
    let mut hosts = flags.service_cidr.hosts();
    let first = hosts.next().unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ok(NetworkConfig {
        pod_cidr: flags.pod_cidr,
        service_cidr: flags.service_cidr,
        // The tenth address of the range, as is the custom.
        dns_ip: hosts.nth(8).unwrap_or(first),
        api_service: (first, 443),
        api_server: SocketAddrV4::new(address, server.port_u16().unwrap_or(443)),
        upstream_dns: Vec::new(),
    })
}
