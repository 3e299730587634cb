//! The settings of `secctl server`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use ipnet::Ipv4Net;
use jiff::SignedDuration;
use martello_api::cron::duration;
use martello_apiserver::{
    authn::webhook::ReviewVersion,
    registry::{
        Registry,
        versions::{RuntimeConfig, RuntimeConfigError},
    },
};

/// Settings of the server. Each is a flag, a name in the file given by --config, and a variable `MARTELLO_…`.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Flags {
    /// Settings file (YAML, with the names of these flags).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the server keeps its data, all of it encrypted.
    #[arg(long, default_value = "/var/lib/martello", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address and port to serve the API on.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address by which nodes and pods reach this server [default: the listening address, or this machine's own].
    #[arg(long, value_name = "IP")]
    pub advertise: Option<IpAddr>,
    /// Run the node agent of this machine too, as a process of its own.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub node: bool,
    /// Where that node agent keeps its data [default: the data directory's name with `-node`].
    #[arg(long, value_name = "DIR")]
    pub node_dir: Option<PathBuf>,
    /// Name of that node [default: this machine's host name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Port of that node agent's own server (logs, exec).
    #[arg(long, default_value_t = 10250, value_name = "PORT")]
    pub node_port: u16,
    /// Registries on this machine's loopback that speak plain HTTP, as `127.0.0.1:5000`; may be given again.
    #[arg(long, value_name = "HOST:PORT")]
    pub plain_http_registry: Vec<String>,
    /// File with the root key, outside the data directory; made on the first boot [default: the data directory's name with `.root-key`].
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub root_key_file: Option<PathBuf>,
    /// File with the passphrase that guards the keys instead of a key file; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Identity providers (OpenID Connect), as Kubernetes' `AuthenticationConfiguration`.
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// A webhook that knows tokens, as a kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of the TokenReviews that are sent to it: v1beta1 or v1.
    #[arg(long, default_value = "v1beta1", value_name = "VERSION")]
    pub authentication_token_webhook_version: ReviewVersion,
    /// How long its answers are believed.
    #[arg(long, default_value = "2m", value_name = "DURATION")]
    pub authentication_token_webhook_cache_ttl: SignedDuration,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cidr: Ipv4Net,
    /// Addresses of pods; each node takes a part.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub pod_cidr: Ipv4Net,
    /// Versions and resources to serve or not, as `resource.k8s.io/v1beta2=true` or `batch/v1/cronjobs=false`, and stages
    /// (`api/all`, `api/ga`, `api/beta`, `api/alpha`); may be given again, or joined by commas.
    #[arg(long, value_name = "NAME=BOOL")]
    pub runtime_config: Vec<String>,
    /// How long events are kept after they were last written; 0 keeps them until somebody deletes them.
    #[arg(long, default_value = "1h0m0s", value_name = "DURATION", value_parser = event_ttl)]
    pub event_ttl: SignedDuration,
    /// The log.
    #[command(flatten)]
    pub log: crate::logging::Flags,
}

impl Flags {
    /// Where the root key lies.
    pub fn root_key_path(&self) -> PathBuf {
        self.root_key_file.clone().unwrap_or_else(|| root_key_beside(&self.data_dir))
    }

    /// Where the node agent of this machine keeps its data.
    pub fn node_path(&self) -> PathBuf {
        self.node_dir.clone().unwrap_or_else(|| beside(&self.data_dir, "-node"))
    }

    /// Where nodes and pods reach the server that listens on `address`.
    pub fn advertised(&self, address: SocketAddr) -> (IpAddr, u16) {
        let ip = self.advertise.unwrap_or_else(|| {
            if address.ip().is_unspecified() { own_address().unwrap_or_else(|| address.ip()) } else { address.ip() }
        });
        (ip, address.port())
    }

    /// What was asked for by name that is weaker than the default.
    pub fn weaker(&self) -> Vec<String> {
        let plain = self.plain_http_registry.iter();
        plain.map(|registry| format!("registry {registry} is reached without TLS (--plain-http-registry)")).collect()
    }

    /// Which versions are served.
    pub fn runtime_config(&self) -> Result<RuntimeConfig, RuntimeConfigError> {
        let config = RuntimeConfig::parse(&self.runtime_config)?;
        Registry::builtin().check(&config)?;
        Ok(config)
    }

    /// How long events last; none where they do not end.
    pub fn events_last(&self) -> Option<Duration> {
        Duration::try_from(self.event_ttl).ok().filter(|ttl| !ttl.is_zero())
    }

    /// The address of the Service `kubernetes`: the first of the range.
    pub fn service_address(&self) -> IpAddr {
        self.service_cidr.hosts().next().unwrap_or(Ipv4Addr::LOCALHOST).into()
    }
}

/// Shortest life of an event: what upstream's store can count.
const MIN_EVENT_TTL: SignedDuration = SignedDuration::from_secs(1);
/// Longest: what upstream's store can count.
const MAX_EVENT_TTL: SignedDuration = SignedDuration::from_secs(9_000_000_000);

/// Reads how long events last, as Go writes durations.
fn event_ttl(text: &str) -> Result<SignedDuration, String> {
    let ttl = duration::parse(text)?;
    if ttl.is_zero() || (MIN_EVENT_TTL..=MAX_EVENT_TTL).contains(&ttl) {
        return Ok(ttl);
    }
    let (least, most) = (MIN_EVENT_TTL.as_secs(), MAX_EVENT_TTL.as_hours());
    Err(format!("events last {least} s to {most} h, or for ever with 0"))
}

/// A path beside `directory`.
fn beside(directory: &Path, suffix: &str) -> PathBuf {
    let mut path = directory.components().as_path().as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Where the root key of the data in `data_dir` lies, if nothing else was said.
pub fn root_key_beside(data_dir: &Path) -> PathBuf {
    beside(data_dir, ".root-key")
}

/// The address from which this machine would send to the outside. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_last_as_long_as_upstream_s_store_can_count() {
        for (text, seconds) in [("1h0m0s", 3600), ("90m", 5400), ("1s", 1), ("2500000h", 9_000_000_000), ("0", 0)] {
            assert_eq!(event_ttl(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in ["999ms", "-1h", "2500001h"] {
            assert_eq!(event_ttl(text).unwrap_err(), "events last 1 s to 2500000 h, or for ever with 0", "{text}");
        }
        assert_eq!(event_ttl("1 day").unwrap_err(), "time: unknown unit \" day\" in duration \"1 day\"");
        assert_eq!(event_ttl("60").unwrap_err(), "time: missing unit in duration \"60\"");
    }
}
