//! `secctl server`: the composition root of the API server and what runs beside it.

mod components;
pub mod custody;
mod dialer;
mod flags;
pub mod keys;

use std::{os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use martello_api::clock;
use martello_apiserver::{
    Config, Server,
    store::{KEEP_HISTORY, RaftStore, Store, keep_history, raft::RaftConfig},
};
use martello_kms::Kms;
use martello_pki::{ClientCertificates, FromSigner, Identity, Pki, ServerName};
use martello_policy::Authorizer;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use flags::{Flags, root_key_beside};

/// Directory of the audit trail in the data directory.
pub const AUDIT: &str = "audit";

/// Runs the server until it is told to stop.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    crate::logging::start(&flags.log)?;
    crate::runtime()?.block_on(serve(flags))
}

/// Lets this process open as many files as the system grants it: each connection is one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files could not be raised to what the system grants");
    }
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    raise_file_limit();
    let shutdown = crate::stop_on_signal()?;
    private_directory(&flags.data_dir)?;
    let _lock = lock(&flags.data_dir)?;
    let listener =
        TcpListener::bind(flags.listen).await.with_context(|| format!("listen on {} (--listen)", flags.listen))?;
    let address = listener.local_addr().context("read the listening address")?;
    let now = clock::now();
    let custody = custody::provider(flags.root_key_path(), flags.passphrase_file.as_deref())?;
    let kms = Kms::open(&flags.data_dir, custody.as_ref(), now).context("open the keyring")?;
    let pki = Pki::load_or_create(&flags.data_dir, &kms, now).context("open the certificate authorities")?;
    let log = open_trail(&flags, &kms, now)?;
    let store = open_store(&flags, &kms).await?;

    let advertise = flags.advertised(address);
    let names =
        [ServerName::from(advertise.0), ServerName::from(address.ip()), ServerName::from(flags.service_address())];
    let (identity, renewal) = pki.server_identity(names, now).context("issue the server's certificate")?;
    let tls =
        martello_pki::server_config(&identity, pki.trust(), ClientCertificates::ProvenOnly).context("set up TLS")?;

    let runtime_config = flags.runtime_config().context("read which versions to serve (--runtime-config)")?;
    let server = Server::build(Config {
        store: Arc::clone(&store) as Arc<dyn Store>,
        authorizer: Authorizer::new(),
        kms: kms.clone(),
        pki: pki.clone(),
        audit: martello_apiserver::server::audit::Audit::new(log),
        nodes: Arc::new(dialer::TlsDialer::new(&pki, now)?),
        service_network: flags.service_cidr,
        node_ports: (30000, 32767),
        advertise,
        product_version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: Some(identity.clone()),
        weaker_settings: flags.weaker(),
        runtime_config,
        event_ttl: flags.events_last(),
    });
    server.recognize(who_else_knows_users(&flags)?);
    let serving = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(listener, tls, shutdown).await }
    });
    // Before the server says that it is ready: whoever waited for that finds the socket.
    let local = server
        .serve_local(&flags.data_dir.join(crate::admin::SOCKET), shutdown.clone())
        .context("open the local socket")?;
    server.start().await.context("make what every cluster has")?;
    tracing::info!(%address, milliseconds = started.elapsed().as_millis() as u64, "ready");

    let mut tasks = JoinSet::new();
    renew(&identity, renewal, &pki, &shutdown, &mut tasks);
    let history = tokio::spawn(keep_history(Arc::clone(&store) as Arc<dyn Store>, KEEP_HISTORY));
    components::spawn(&server, &pki, &shutdown, &mut tasks);
    let node = if flags.node { Some(components::LocalNode::start(&flags, &pki, advertise)?) } else { None };

    let served = serving.await.context("the listener ended abnormally")?;
    shutdown.cancel();
    end(node, &mut tasks).await;
    history.abort();
    local.abort();
    drop(server);
    match Arc::try_unwrap(store) {
        Ok(store) => store.close().await.context("close the store")?,
        Err(_) => tracing::debug!("the store is still in use; it needs no goodbye"),
    }
    tracing::info!("stopped");
    served.context("serve")
}

/// Opens the audit trail, and tells of a gap in it.
fn open_trail(flags: &Flags, kms: &Kms, now: Timestamp) -> anyhow::Result<martello_audit::Log> {
    let (log, opened) = martello_audit::Log::open(
        &flags.data_dir.join(AUDIT),
        &keys::audit_keys(kms)?,
        &martello_audit::Config::default(),
        now,
    )
    .context("open the audit trail")?;
    if let Some(gap) = opened.gap {
        tracing::warn!(
            bytes = gap.bytes,
            "the last run broke off while it wrote an audit record; a record tells of it"
        );
    }
    Ok(log)
}

async fn open_store(flags: &Flags, kms: &Kms) -> anyhow::Result<Arc<RaftStore>> {
    let cipher = Arc::new(keys::StoreCipher::new(kms)?);
    let store = RaftStore::open(RaftConfig::new(flags.data_dir.join("store")), cipher).await;
    Ok(Arc::new(store.with_context(|| format!("open the store in {}", flags.data_dir.display()))?))
}

fn who_else_knows_users(flags: &Flags) -> anyhow::Result<martello_apiserver::authn::foreign::Foreign> {
    let foreign = martello_apiserver::authn::foreign::Foreign::read(
        flags.authentication_config.as_deref(),
        flags.authentication_token_webhook_config_file.as_deref(),
        martello_apiserver::authn::webhook::Settings {
            version: flags.authentication_token_webhook_version,
            // Less than nothing is nothing: each answer is asked for.
            believed: std::time::Duration::try_from(flags.authentication_token_webhook_cache_ttl).unwrap_or_default(),
        },
    );
    foreign.context("read who else knows users (--authentication-…)")
}

/// Renews the server's certificate and the cluster's keys for as long as it runs.
fn renew(identity: &Identity, renewal: FromSigner, pki: &Pki, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    tasks.spawn({
        let (identity, shutdown) = (identity.clone(), shutdown.clone());
        async move { identity.run(&renewal, clock::now, shutdown).await }
    });
    tasks.spawn({
        let (pki, shutdown) = (pki.clone(), shutdown.clone());
        async move { pki.run(clock::now, shutdown).await }
    });
}

/// Waits until what ran beside the server has ended, but not for long.
async fn end(node: Option<components::LocalNode>, tasks: &mut JoinSet<()>) {
    if let Some(node) = node {
        node.stop(Duration::from_secs(10)).await;
    }
    if tokio::time::timeout(Duration::from_secs(10), async { while tasks.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        tracing::warn!("some controllers were still at work when the server stopped");
    }
}

/// A directory that only its owner can enter.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the data directory {}", path.display()))?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close the data directory {} to others", path.display()))
}

/// Holds the data directory for this process alone.
fn lock(data_dir: &Path) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
    let path = data_dir.join("lock");
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("another server uses the data directory {}", data_dir.display()))
}
