//! `secctl token`: tokens by which machines join.

use clap::{Args, Subcommand};
use http::Method;
use jiff::SignedDuration;
use serde_json::json;

use crate::admin;

/// What to do with join tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a token by which a machine joins the cluster as a node, and print how.
    Create(Create),
}

/// What the token allows.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Create {
    #[command(flatten)]
    admin: admin::Flags,
    /// How long the token holds.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    ttl: SignedDuration,
    /// The only node that may join with it [default: any].
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How many machines may join with it.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    uses: u32,
}

/// Carries the command out.
pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Create(flags) = command;
    let request = json!({
        "apiVersion": "martello.dev/v1alpha1", "kind": "JoinToken", "metadata": {},
        "spec": {"ttlSeconds": flags.ttl.as_secs(), "node": flags.node, "uses": flags.uses},
    });
    let path = "/apis/martello.dev/v1alpha1/jointokens";
    let answer = crate::runtime()?.block_on(admin::ask(&flags.admin.data_dir, Method::POST, path, Some(&request)))?;
    let status = |key: &str| admin::text(&answer, &format!("/status/{key}"));
    eprintln!("On the machine that is to join, as root, within {:#}:", flags.ttl);
    println!(
        "echo {} | secctl node --server {} --ca-fingerprint {} --join-token-file -",
        status("token")?,
        status("server")?,
        status("caFingerprint")?
    );
    Ok(())
}
