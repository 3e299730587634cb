//! The settings of `secctl node`.

use std::{
    io::{BufRead as _, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;
use http::Uri;
use ipnet::Ipv4Net;
use martello_pki::Fingerprint;
use zeroize::Zeroizing;

/// A join token is 23 characters.
const MAX_TOKEN_BYTES: u64 = 256;

/// Settings of the node agent. Each is a flag, a name in the file given by --config, and a variable `MARTELLO_…`.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Flags {
    /// Settings file (YAML, with the names of these flags).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the node keeps its data.
    #[arg(long, default_value = "/var/lib/martello-node", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// URL of the API server.
    #[arg(long, default_value = "https://127.0.0.1:6443", value_name = "URL")]
    pub server: String,
    /// Fingerprint of the authority that the server must show on the first contact, as `secctl token create` prints it; may be given again.
    #[arg(long, value_name = "sha256:HEX")]
    pub ca_fingerprint: Vec<Fingerprint>,
    /// File with the token by which this machine joins; `-` reads it from the first line of standard input. Needed once.
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Name of this node [default: this machine's host name].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address and port at which the API server reaches this agent (logs, exec) [default: port 10250 of the address from which this machine reaches the server].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Addresses of this node's pods.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub pod_cidr: Ipv4Net,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cidr: Ipv4Net,
    /// The user that the agent becomes when it is started as root; made if it is missing.
    #[arg(long, default_value = "martello", value_name = "USER")]
    pub user: String,
    /// Registries on this machine's loopback that speak plain HTTP, as `127.0.0.1:5000`; may be given again.
    #[arg(long, value_name = "HOST:PORT")]
    pub plain_http_registry: Vec<String>,
    /// Stop when standard input ends: the server that started this agent is gone then, however it ended.
    #[arg(long, hide = true)]
    pub stop_with_input: bool,
    /// The log.
    #[command(flatten)]
    pub log: crate::logging::Flags,
}

/// The agent's port, as upstream's.
const PORT: u16 = 10250;

impl Flags {
    /// Where the API server at `server` reaches this agent.
    pub fn listen(&self, server: &Uri) -> SocketAddr {
        self.listen.unwrap_or_else(|| {
            let host = server.host().unwrap_or_default().trim_matches(['[', ']']).parse::<IpAddr>();
            let own = host.ok().and_then(|server| own_address_towards(server).ok());
            SocketAddr::new(own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), PORT)
        })
    }

    /// The join token, if one was given.
    pub fn join_token(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let Some(path) = &self.join_token_file else { return Ok(None) };
        let mut text = Zeroizing::new(String::new());
        let what = || format!("read the join token from {}", path.display());
        if path.as_os_str() == "-" {
            std::io::stdin().lock().take(MAX_TOKEN_BYTES).read_line(&mut text).with_context(what)?;
        } else {
            let file = std::fs::File::open(path).with_context(what)?;
            file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).with_context(what)?;
        }
        Ok(Some(Zeroizing::new(text.trim().to_owned())).filter(|token| !token.is_empty()))
    }
}

/// The address from which this machine would send to `server`. Nothing is sent.
fn own_address_towards(server: IpAddr) -> std::io::Result<IpAddr> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((server, PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// What `secctl node-cleanup` takes.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct CleanupFlags {
    /// Data directory of the node agent. Everything in it is deleted.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_listens_where_the_server_can_reach_it() {
        assert_eq!(own_address_towards(Ipv4Addr::LOCALHOST.into()).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
