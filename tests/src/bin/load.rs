//! Load on any Kubernetes API server, and what it costs: a line of JSON per figure.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use martello_tests::{
    cluster::{Cluster, Options, install_crypto},
    load,
    load::{FanOut, Figure, PodLoad, Target},
    process,
    raw::{Endpoint, Http},
};

/// Puts load on a Kubernetes API server and prints a line of JSON per figure.
///
/// Without --kubeconfig it starts a fresh `secctl server` (the one beside this program, or the one that the
/// environment names as MARTELLO_SECCTL), measures that too, and removes it at the end.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server to put load on; without it, a fresh server of our own.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Process of that server on this machine whose processor time and memory are counted; may be repeated.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many clients there are at the same time, each with a connection of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    concurrency: Vec<usize>,
    /// How many ConfigMaps are listed; each number is measured by itself.
    #[arg(long, value_delimiter = ',', default_values_t = [5000, 50000])]
    objects: Vec<usize>,
    /// How many watch while updates are made; each number is measured by itself.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 2000])]
    watchers: Vec<usize>,
    /// How many watch while nothing happens.
    #[arg(long, default_value_t = 10000)]
    idle_watchers: usize,
    /// How many updates they see.
    #[arg(long, default_value_t = 1000)]
    updates: usize,
    /// Speaks HTTP/1.1 instead of HTTP/2.
    #[arg(long)]
    http1: bool,
    /// Measures only these: start, idle, get, create, patch, apply, list, watch, watchers, pods.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Runs the node agent beside the fresh server, so that pods can be measured; needs root.
    #[arg(long)]
    node: bool,
    /// Image of the pods that are measured.
    #[arg(long, default_value = "myapp:1.2.0")]
    image: String,
    /// Archive of that image, imported into the fresh server's node.
    #[arg(long, value_name = "FILE")]
    image_archive: Option<PathBuf>,
    /// The kubectl that applies the pods.
    #[arg(long, default_value = "kubectl")]
    kubectl: PathBuf,
}

impl Arguments {
    fn wants(&self, figure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == figure)
    }

    fn http(&self) -> Http {
        if self.http1 { Http::One } else { Http::Two }
    }
}

/// Watches on one connection: as many as a client with an informer for each of many kinds has.
const SHARED_WATCHES: usize = 50;
/// Clients that get and create while there are many objects.
const BESIDE_WORKERS: usize = 16;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    install_crypto();
    process::allow_many_files().context("allow this program its connections")?;
    match arguments.kubeconfig.clone() {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(&path).context("read the kubeconfig")?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            let target = target(&arguments, Endpoint::from_kube(&config)?, arguments.server_pid.clone());
            measure(&arguments, &target, path).await
        }
        None => fresh(&arguments).await,
    }
}

/// Measures a server of our own from its first start.
async fn fresh(arguments: &Arguments) -> Result<()> {
    if !arguments.server_pid.is_empty() {
        bail!("--server-pid belongs to --kubeconfig: the processes of a fresh server are known");
    }
    if arguments.wants("start") {
        start().await?;
    }
    let options = Options { node: arguments.node, ..Options::default() };
    let mut cluster = Cluster::start_with(options).await?;
    let endpoint = cluster.admin().await?;
    if arguments.node {
        load::until_node_is_ready(&endpoint).await?;
    }
    if let Some(archive) = &arguments.image_archive {
        let node = cluster.node_dir();
        cluster.secctl(&["image", "import", "--node-dir", &node.to_string_lossy(), &archive.to_string_lossy()])?;
    }
    let server = cluster.pid()?;
    let target = target(arguments, endpoint, vec![server]);
    if arguments.node && arguments.wants("idle") {
        let all = process::family(server)?;
        let figure = load::memory("memory_idle", process::resident_bytes(&all)?);
        figure.with("of", "server, node agent and what it keeps running").with("processes", all.len()).print()?;
    }
    let kubeconfig = cluster.kubeconfig_path()?;
    measure(arguments, &target, kubeconfig).await
}

/// The time from start to ready: first boots with everything to make, and boots on what is there.
async fn start() -> Result<()> {
    const BOOTS: u32 = 5;
    let mut first = load::Latencies::default();
    let mut again = load::Latencies::default();
    for _ in 0..BOOTS {
        let mut cluster = Cluster::prepare(Options::default())?;
        first.push(cluster.boot().await?);
        cluster.kill()?;
        again.push(cluster.boot().await?);
    }
    first.describe(Figure::named("start_to_ready").with("boot", "first").with("boots", BOOTS)).print()?;
    again.describe(Figure::named("start_to_ready").with("boot", "after kill -9").with("boots", BOOTS)).print()
}

fn target(arguments: &Arguments, endpoint: Endpoint, pids: Vec<u32>) -> Target {
    let prefix = format!("load-{}", std::process::id());
    Target { endpoint, http: arguments.http(), pids, prefix }
}

async fn measure(arguments: &Arguments, target: &Target, kubeconfig: PathBuf) -> Result<()> {
    let duration = Duration::from_secs_f64(arguments.seconds);
    if arguments.wants("idle")
        && let Some(bytes) = target.memory()
    {
        load::memory("memory_idle", bytes).with("of", "server").with("processes", target.pids.len()).print()?;
    }
    rates(arguments, target, duration).await?;
    if arguments.wants("list") {
        for objects in arguments.objects.iter().copied() {
            lists(target, objects, duration).await?;
        }
    }
    for watchers in arguments.watchers.iter().copied().filter(|_| arguments.wants("watch")) {
        let size = FanOut { watchers, updates: arguments.updates, writers: 16 };
        load::fan_out(target, size).await?.print()?;
    }
    // On connections of their own, and on shared ones as client libraries have them; HTTP/1.1 can't share.
    for on_each in [1, SHARED_WATCHES].into_iter().filter(|on_each| *on_each == 1 || !arguments.http1) {
        if arguments.wants("watchers")
            && let Some(figure) = load::idle(target, arguments.idle_watchers, on_each).await?
        {
            figure.print()?;
        }
    }
    if arguments.wants("pods") {
        let (kubectl, image) = (arguments.kubectl.clone(), arguments.image.clone());
        let pods = PodLoad { kubectl, kubeconfig, image, rounds: 5 };
        match load::apply_to_running(target, &pods).await? {
            Some(figure) => figure.print()?,
            None => Figure::named("apply_to_running").with("skipped", "the cluster has no ready node").print()?,
        }
    }
    Ok(())
}

async fn rates(arguments: &Arguments, target: &Target, duration: Duration) -> Result<()> {
    for workers in arguments.concurrency.iter().copied() {
        if arguments.wants("get") {
            load::gets(target, workers, duration).await?.print()?;
        }
        if arguments.wants("create") {
            load::creates(target, workers, duration).await?.print()?;
        }
        if arguments.wants("patch") {
            load::patches(target, workers, duration).await?.print()?;
        }
        if arguments.wants("apply") {
            load::applies(target, workers, duration).await?.print()?;
        }
    }
    Ok(())
}

/// Everything that is measured on a server with many objects.
async fn lists(target: &Target, objects: usize, duration: Duration) -> Result<()> {
    let (filled, figures) = load::fill(target, objects).await?;
    let lists = filled.lists(target).await?;
    figures.into_iter().chain(lists).try_for_each(|figure| figure.print())?;
    filled.pages(target).await?.print()?;
    // What concerns one object must not cost more because there are many.
    load::gets(target, BESIDE_WORKERS, duration).await?.with("beside", objects).print()?;
    load::creates(target, BESIDE_WORKERS, duration).await?.with("beside", objects).print()?;
    filled.remove(target).await
}
