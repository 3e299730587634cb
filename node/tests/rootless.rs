//! Real pods on this machine: each scenario runs in a process of its own that is started as root and gives root up,
//! as the node does. Without root, or without busybox, they are skipped and say so.
//!
//! This program is its own helper: the runtime starts it again as shim and keeper.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "rootless/confinement.rs"]
mod confinement;
#[path = "rootless/lifecycle.rs"]
mod lifecycle;
#[path = "rootless/network.rs"]
mod network;
#[path = "rootless/node.rs"]
mod node;
#[path = "rootless/scenarios.rs"]
mod scenarios;
#[path = "rootless/streams.rs"]
mod streams;
#[path = "rootless/volumes.rs"]
mod volumes;

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(martello_node::runtime::shim::NAME) => return exit(martello_node::runtime::shim::main(&args[1..])),
        Some(martello_node::keeper::NAME) => return exit(martello_node::keeper::main(&args[1..])),
        Some("scenario") => {
            scenarios::run(&args[1], Path::new(&args[2]), args.get(3).map(String::as_str));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let ignored = args.iter().any(|arg| arg == "--ignored");
    let names: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).filter(|_| !ignored).collect();
    if args.iter().any(|arg| arg == "--list") {
        names.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen =
        names.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(*wanted)));
    let failed = chosen.filter(|name| !run_one(name)).count();
    exit(i32::from(failed > 0))
}

fn exit(code: i32) -> ExitCode {
    if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a scenario's phases one after the other on one state directory, and checks that nothing is left of it.
fn run_one(name: &str) -> bool {
    if !nix::unistd::Uid::effective().is_root() || !Path::new("/bin/busybox").exists() {
        println!("{name}: skipped: needs root and /bin/busybox");
        return true;
    }
    let directory = tempfile::Builder::new().prefix("martello-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let state_dir = directory.path().join("node");
    let state = state_dir.join("state");
    let phases = scenarios::ALL.iter().find(|(candidate, _)| *candidate == name).map_or(1, |(_, phases)| *phases);
    let ok = (0..phases).all(|phase| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["scenario", name]).arg(&state_dir).arg(phase.to_string());
        let status = command.status().unwrap();
        // All phases but the last end by SIGKILL, as an agent might.
        let expected = if phase + 1 == phases { status.success() } else { status.code().is_none() };
        println!("{name}, phase {phase}: {status}");
        expected
    });
    if !ok {
        for log in ["keeper/log", "keeper/uplink.log"] {
            println!("{log}: {}", std::fs::read_to_string(state.join(log)).unwrap_or_default());
        }
    }
    let left = martello_node::runtime::cleanup(&state);
    println!("{name}: {}", if ok && left.is_empty() { "ok".to_owned() } else { format!("FAILED, left: {left:?}") });
    ok && left.is_empty()
}
