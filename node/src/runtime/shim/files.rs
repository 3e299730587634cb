//! The files of `/etc` that a pod gets from the node.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::runtime::spec::{DnsConfig, PodSandboxSpec};

/// Writes `hosts`, `hostname` and `resolv.conf` into `directory`.
pub(super) fn write(directory: &Path, spec: &PodSandboxSpec, ip: Option<Ipv4Addr>) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("hosts"), hosts(spec, ip))?;
    std::fs::write(directory.join("hostname"), format!("{}\n", spec.hostname))?;
    std::fs::write(directory.join("resolv.conf"), resolv_conf(&spec.dns))
}

fn hosts(spec: &PodSandboxSpec, ip: Option<Ipv4Addr>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let mut line = |address: &str, names: &str| {
        // Writing to a string does not fail.
        writeln!(text, "{address}\t{names}").ok();
    };
    if let Some(ip) = ip {
        line(&ip.to_string(), &spec.hostname);
    }
    for (address, names) in &spec.host_aliases {
        line(address, &names.join("\t"));
    }
    text
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}
