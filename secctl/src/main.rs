//! `secctl`: server, node agent and operator's tool in one binary.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line tool: its output is its answer")]
#![allow(unreachable_pub, reason = "a binary exports nothing: `pub` marks what a module offers to its siblings")]

mod admin;
mod audit;
mod image;
mod kubeconfig;
mod logging;
mod node;
mod policy;
mod server;
mod settings;
mod status;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Martello: a security-hardened orchestrator that speaks Kubernetes' API.
#[derive(Debug, Parser)]
#[command(name = "secctl", version, about, args_override_self = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the API server, the controllers and the scheduler.
    #[command(args_override_self = true)]
    Server(server::Flags),
    /// Print an administrator's kubeconfig with a short-lived certificate.
    Kubeconfig(kubeconfig::Flags),
    /// Tokens by which machines join the cluster.
    #[command(subcommand)]
    Token(token::Command),
    /// How the server of this machine is: what runs, until when its identities hold, what is weaker than the default.
    Status(status::Flags),
    /// What is allowed, and by which rule.
    #[command(subcommand)]
    Policy(policy::Command),
    /// The audit trail: verify it, look at it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Run the node agent of this machine.
    #[command(args_override_self = true)]
    Node(node::Flags),
    /// End everything that the node agent of this machine left running, and delete its data.
    NodeCleanup(node::CleanupFlags),
    /// The images of this node.
    #[command(subcommand)]
    Image(image::Command),
}

fn main() -> ExitCode {
    if let Some(code) = helper() {
        return code;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("secctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The node's own helpers: single-threaded parts of the runtime that `secctl` starts of itself.
fn helper() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args_os().map(|one| one.to_string_lossy().into_owned()).collect();
    let rest = arguments.get(2..).unwrap_or_default();
    let code = match arguments.get(1).map(String::as_str)? {
        martello_node::runtime::shim::NAME => martello_node::runtime::shim::main(rest),
        martello_node::keeper::NAME => martello_node::keeper::main(rest),
        _ => return None,
    };
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = settings::arguments(&Cli::command(), std::env::args_os(), std::env::vars_os())?;
    let cli = match Cli::command().try_get_matches_from(arguments).and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match cli.command {
        Command::Server(flags) => server::run(flags).map(|()| ExitCode::SUCCESS),
        Command::Node(flags) => node::run(flags).map(|()| ExitCode::SUCCESS),
        Command::NodeCleanup(flags) => node::cleanup(&flags).map(|()| ExitCode::SUCCESS),
        Command::Kubeconfig(flags) => kubeconfig::run(flags).map(|()| ExitCode::SUCCESS),
        Command::Token(command) => token::run(command).map(|()| ExitCode::SUCCESS),
        Command::Status(flags) => status::run(&flags).map(|()| ExitCode::SUCCESS),
        Command::Policy(command) => policy::run(command),
        Command::Audit(command) => audit::run(command),
        Command::Image(command) => image::run(command).map(|()| ExitCode::SUCCESS),
    }
}

/// The asynchronous runtime of a command.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the asynchronous runtime")
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_on_signal() -> anyhow::Result<tokio_util::sync::CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("told to stop by SIGTERM"),
            _ = int.recv() => tracing::info!("told to stop by SIGINT"),
        }
        token.cancel();
    });
    Ok(shutdown)
}
