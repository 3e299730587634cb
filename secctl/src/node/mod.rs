//! `secctl node`: the node agent of this machine.

mod client;
mod flags;
mod join;

use anyhow::Context as _;

pub use flags::Flags;

/// Directory of the node's images in its data directory.
pub const IMAGES: &str = "images";

/// The host name of this machine, as a node's name: in lower case.
pub fn own_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("read this machine's host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// Runs the agent until it is told to stop. The pods go on.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    crate::logging::start(&flags.log)?;
    anyhow::bail!("the node agent is not wired yet")
}
