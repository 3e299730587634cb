//! Load on any Kubernetes API server, and what it costs: a line of JSON per figure.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use martello_tests::{
    cluster::{Cluster, Options, install_crypto},
    load,
    load::{FanOut, Figure, Kind, PodLoad, Run, Target},
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
    /// A second server to put the same load on, figure by figure in turn; each figure is also printed as a ratio.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Process of the second server on this machine; may be repeated.
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "against")]
    against_pid: Vec<u32>,
    /// The kubeconfig of the server that has the second one's namespaces, where that one serves custom kinds only.
    #[arg(long, value_name = "FILE", requires = "against")]
    against_namespaces: Option<PathBuf>,
    /// What requests, lists and watches are about. Of custom objects everything is measured by itself: there is no figure
    /// beside another kind.
    #[arg(long, value_enum, default_value = "configmap")]
    kind: Kind,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many clients there are at the same time, each with a connection of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    concurrency: Vec<usize>,
    /// How many objects are listed; each number is measured by itself.
    #[arg(long, value_delimiter = ',', default_values_t = [5000, 50000])]
    objects: Vec<usize>,
    /// How many objects of a custom kind are listed beside the others.
    #[arg(long, default_value_t = 5000)]
    custom_objects: usize,
    /// How many watch while updates are made; each number is measured by itself.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 2000])]
    watchers: Vec<usize>,
    /// How many watch while nothing happens.
    #[arg(long, default_value_t = 10000)]
    idle_watchers: usize,
    /// How many of them share a connection; each number is measured by itself. 50 is what a client with an informer for
    /// each of many kinds has; 1 is measured over HTTP/2 and over HTTP/1.1.
    #[arg(long, value_delimiter = ',', default_values_t = [50, 1])]
    idle_on_each: Vec<usize>,
    /// How many updates they see.
    #[arg(long, default_value_t = 1000)]
    updates: usize,
    /// Speaks HTTP/1.1 instead of HTTP/2.
    #[arg(long)]
    http1: bool,
    /// Measures only these: start, idle, get, create, patch, apply, list, custom, watch, watchers, pods.
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

    /// What idle watches speak, and how many share a connection. HTTP/1.1 can't share any, so that it is measured beside
    /// HTTP/2 where each has its own.
    fn idle(&self) -> Vec<(Http, usize)> {
        let shared = self.idle_on_each.iter().filter(|_| !self.http1).map(|on_each| (Http::Two, *on_each));
        let own = self.idle_on_each.contains(&1).then_some((Http::One, 1));
        shared.chain(own).collect()
    }
}

/// Clients that get, create and patch while there are many objects.
const BESIDE_WORKERS: usize = 16;
/// Objects of a list that is measured beside many others.
const FEW: usize = 100;
/// Writers of the updates that many watch.
const WRITERS: usize = 16;
/// Connections that one of the idle watchers opens at most: a server lets a user have a part of all only.
const CONNECTIONS_OF_A_USER: usize = 3000;
/// Pods that are applied one after the other.
const PODS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    install_crypto();
    process::allow_many_files().context("allow this program its connections")?;
    match &arguments.kubeconfig {
        Some(path) => {
            let target = of_kubeconfig(&arguments, path, arguments.server_pid.clone()).await?;
            measure(&arguments, target).await
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
    let kubeconfig = cluster.kubeconfig_path()?;
    let target = target(arguments, "fresh", kubeconfig, endpoint, vec![server]);
    if arguments.node && arguments.wants("idle") {
        let all = process::family(server)?;
        let figure = load::memory("memory_idle", process::resident_bytes(&all)?);
        figure.of("of", "server, node agent and what it keeps running").with("processes", all.len()).print()?;
    }
    measure(arguments, target).await
}

/// The time from start to ready: first boots with everything to make, and boots on what is there.
async fn start() -> Result<()> {
    const BOOTS: u32 = 5;
    let mut first = Boots::default();
    let mut again = Boots::default();
    for _ in 0..BOOTS {
        let mut cluster = Cluster::prepare(Options::default())?;
        first.boot(&mut cluster).await?;
        cluster.kill()?;
        again.boot(&mut cluster).await?;
    }
    first.describe("first").print()?;
    again.describe("after kill -9").print()
}

/// Starts of a server.
#[derive(Default)]
struct Boots {
    took: load::Latencies,
    cpu: load::Latencies,
}

impl Boots {
    async fn boot(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.took.push(cluster.boot().await?);
        self.cpu.push(process::cpu_time(&[cluster.pid()?])?);
        Ok(())
    }

    fn describe(mut self, boot: &str) -> Figure {
        let figure = Figure::named("start_to_ready").of("boot", boot).of("boots", self.took.count());
        self.took.describe(figure).with_millis("cpu_ms_p50", self.cpu.percentile(50))
    }
}

async fn of_kubeconfig(arguments: &Arguments, path: &Path, pids: Vec<u32>) -> Result<Target> {
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read the kubeconfig {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(target(arguments, &name, path.to_owned(), Endpoint::from_kube(&config)?, pids))
}

fn target(arguments: &Arguments, name: &str, kubeconfig: PathBuf, endpoint: Endpoint, pids: Vec<u32>) -> Target {
    let prefix = format!("load-{}", std::process::id());
    let (name, http) = (name.to_owned(), arguments.http());
    Target { name, kubeconfig, endpoint, others: Vec::new(), namespaces: None, http, pids, prefix }
}

async fn measure(arguments: &Arguments, first: Target) -> Result<()> {
    let mut targets = vec![first];
    if let Some(path) = &arguments.against {
        let mut second = of_kubeconfig(arguments, path, arguments.against_pid.clone()).await?;
        if let Some(path) = &arguments.against_namespaces {
            second.namespaces = Some(of_kubeconfig(arguments, path, Vec::new()).await?.endpoint);
        }
        targets.push(second);
    }
    let run = Run::over(targets);
    let duration = Duration::from_secs_f64(arguments.seconds);
    if arguments.wants("idle") {
        run.each(async |target| Ok(target.memory().map(|bytes| idle(target, bytes)).into_iter().collect())).await?;
    }
    let kind = arguments.kind;
    if kind == Kind::Custom {
        run.each(async |target| load::define(target).await.map(|()| Vec::new())).await?;
    }
    rates(arguments, &run, duration).await?;
    if arguments.wants("list") {
        for objects in arguments.objects.iter().copied() {
            run.each(async |target| lists(target, kind, kind, objects, duration).await).await?;
        }
    }
    if arguments.wants("custom") && kind != Kind::Custom {
        run.each(async |target| custom(arguments, target, duration).await).await?;
    }
    watches(arguments, &run).await?;
    if kind == Kind::Custom {
        return run.each(async |target| load::undefine(target).await.map(|()| Vec::new())).await;
    }
    if arguments.wants("pods") {
        let pods = PodLoad { kubectl: arguments.kubectl.clone(), image: arguments.image.clone(), rounds: PODS };
        run.each(async |target| {
            let skipped = || Figure::named("apply_to_running").with("skipped", "the cluster has no ready node");
            Ok(vec![load::apply_to_running(target, &pods).await?.unwrap_or_else(skipped)])
        })
        .await?;
    }
    Ok(())
}

fn idle(target: &Target, bytes: u64) -> Figure {
    load::memory("memory_idle", bytes).of("of", "server").with("processes", target.pids.len())
}

async fn rates(arguments: &Arguments, run: &Run, duration: Duration) -> Result<()> {
    let kind = arguments.kind;
    for workers in arguments.concurrency.iter().copied() {
        if arguments.wants("get") {
            run.each(async |target| Ok(vec![load::gets(target, kind, workers, duration).await?])).await?;
        }
        if arguments.wants("create") {
            run.each(async |target| Ok(vec![load::creates(target, kind, workers, duration).await?])).await?;
        }
        if arguments.wants("patch") {
            run.each(async |target| Ok(vec![load::patches(target, kind, workers, duration).await?])).await?;
        }
        if arguments.wants("apply") {
            run.each(async |target| Ok(vec![load::applies(target, kind, workers, duration).await?])).await?;
        }
    }
    Ok(())
}

/// Everything that is measured on a server with many objects of a kind; of another kind then there are few.
async fn lists(target: &Target, kind: Kind, other: Kind, objects: usize, duration: Duration) -> Result<Vec<Figure>> {
    let (filled, mut figures) = load::fill(target, kind, objects).await?;
    figures.extend(filled.lists(target).await?);
    figures.push(filled.pages(target).await?);
    figures.push(filled.streamed(target).await?);
    let beside = format!("{objects} {}", kind.name());
    figures.extend(beside_many(target, other, &beside, duration).await?);
    filled.remove(target).await?;
    Ok(figures)
}

/// What concerns few objects must not cost more because there are many, of the same kind or of another.
async fn beside_many(target: &Target, kind: Kind, beside: &str, duration: Duration) -> Result<Vec<Figure>> {
    let (few, _) = load::fill(target, kind, FEW).await?;
    let mut figures = few.lists(target).await?;
    few.remove(target).await?;
    figures.push(load::gets(target, kind, BESIDE_WORKERS, duration).await?);
    figures.push(load::creates(target, kind, BESIDE_WORKERS, duration).await?);
    figures.push(load::patches(target, kind, BESIDE_WORKERS, duration).await?);
    Ok(figures.into_iter().map(|figure| figure.of("beside", beside)).collect())
}

/// A kind that a definition makes: by itself, beside many built-in objects, and many of it beside a built-in kind.
async fn custom(arguments: &Arguments, target: &Target, duration: Duration) -> Result<Vec<Figure>> {
    load::define(target).await?;
    let mut figures = Vec::new();
    for workers in arguments.concurrency.iter().copied() {
        figures.push(load::gets(target, Kind::Custom, workers, duration).await?);
        figures.push(load::creates(target, Kind::Custom, workers, duration).await?);
        figures.push(load::patches(target, Kind::Custom, workers, duration).await?);
    }
    figures.extend(lists(target, Kind::Custom, Kind::ConfigMap, arguments.custom_objects, duration).await?);
    if let Some(objects) = arguments.objects.iter().copied().max() {
        let (filled, _) = load::fill(target, Kind::ConfigMap, objects).await?;
        let beside = format!("{objects} {}", Kind::ConfigMap.name());
        figures.extend(beside_many(target, Kind::Custom, &beside, duration).await?);
        filled.remove(target).await?;
    }
    load::undefine(target).await?;
    Ok(figures)
}

async fn watches(arguments: &Arguments, run: &Run) -> Result<()> {
    for watchers in arguments.watchers.iter().copied().filter(|_| arguments.wants("watch")) {
        let size = FanOut { watchers, updates: arguments.updates, writers: WRITERS };
        run.each(async |target| Ok(vec![load::fan_out(target, arguments.kind, size).await?])).await?;
    }
    if !arguments.wants("watchers") {
        return Ok(());
    }
    for (http, on_each) in arguments.idle() {
        let measure = async |target: &Target| {
            let target = Target { http, ..target.clone() };
            Ok(load::idle(&target, arguments.kind, arguments.idle_watchers, on_each).await?.into_iter().collect())
        };
        if arguments.kubeconfig.is_some() || arguments.against.is_some() || arguments.kind == Kind::Custom {
            run.each(measure).await?;
            continue;
        }
        // On a server of their own: what one keeps that was busy before would be taken for what these need, or hide it.
        let mut cluster = Cluster::start().await?;
        let endpoint = cluster.admin().await?;
        let mut target = target(arguments, "fresh", cluster.kubeconfig_path()?, endpoint, vec![cluster.pid()?]);
        for number in 0..arguments.idle_watchers / on_each / CONNECTIONS_OF_A_USER {
            target.others.push(cluster.another_admin(&format!("watcher-{number}")).await?);
        }
        Run::over(vec![target]).each(measure).await?;
    }
    Ok(())
}
