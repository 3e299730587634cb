//! The node's services as one nftables script that replaces the one before in a single transaction: pure.
//!
//! Every pod has a route of its own (no bridge), so all traffic between pods passes this node's netfilter once, and
//! answers find their way back through the same translation.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::uplink::{self, UPLINK};
use super::{NetworkConfig, Protocol, ServicePort, ServiceTable};

/// The script for `nft -f -`.
pub(crate) fn script(config: &NetworkConfig, services: &ServiceTable) -> String {
    let mut table = Table::default();
    let api = api_port(config);
    table.add(0, &api);
    let mut seen = BTreeSet::from([(api.cluster_ip, api.protocol, api.port)]);
    for (number, port) in services.ports.iter().enumerate() {
        // DNS answers on its address itself; the API server's is known to the node before it can list services.
        let own = port.cluster_ip == config.dns_ip;
        if !own && seen.insert((port.cluster_ip, port.protocol, port.port)) {
            table.add(number + 1, &outward(port));
        }
    }
    table.finish(config)
}

/// A Service's port without the endpoints that lead to the node itself: only the API server's may.
fn outward(port: &ServicePort) -> ServicePort {
    let inward = |ip: Ipv4Addr| {
        // The second is the tap's network (see `uplink::NETWORK`), whose gateway is the node's loopback.
        ip.is_loopback() || matches!(ip.octets(), [192, 0, 0, 0..=7]) || ip.is_link_local()
    };
    let endpoints = port.endpoints.iter().filter(|(ip, _)| !inward(*ip)).copied().collect();
    ServicePort { endpoints, ..port.clone() }
}

fn api_port(config: &NetworkConfig) -> ServicePort {
    let host = *config.api_server.ip();
    let host = if host.is_loopback() || host.is_unspecified() { uplink::GATEWAY } else { host };
    ServicePort {
        cluster_ip: config.api_service.0,
        protocol: Protocol::Tcp,
        port: config.api_service.1,
        endpoints: vec![(host, config.api_server.port())],
        client_ip_affinity: false,
    }
}

#[derive(Default)]
struct Table {
    chains: String,
    services: Vec<String>,
    without_endpoints: Vec<String>,
    hairpins: BTreeSet<Ipv4Addr>,
}

impl Table {
    fn add(&mut self, number: usize, port: &ServicePort) {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let key = format!("{} . {protocol} . {}", port.cluster_ip, port.port);
        if port.endpoints.is_empty() {
            self.without_endpoints.push(key);
            return;
        }
        let count = port.endpoints.len();
        let choose = if port.client_ip_affinity {
            format!("jhash ip saddr mod {count} seed 0x6d617274")
        } else {
            format!("numgen random mod {count}")
        };
        let targets: Vec<String> =
            port.endpoints.iter().enumerate().map(|(index, (ip, port))| format!("{index} : {ip} . {port}")).collect();
        // Writing to a string does not fail.
        writeln!(
            self.chains,
            "  chain svc-{number} {{ meta l4proto {protocol} dnat ip to {choose} map {{ {} }}; }}",
            targets.join(", ")
        )
        .ok();
        self.services.push(format!("{key} : goto svc-{number}"));
        self.hairpins.extend(port.endpoints.iter().map(|(ip, _)| *ip));
    }

    fn finish(self, config: &NetworkConfig) -> String {
        let hairpins: Vec<String> = self.hairpins.iter().map(|ip| format!("{ip} . {ip}")).collect();
        let NetworkConfig { pod_cidr, service_cidr, dns_ip, .. } = config;
        format!(
            "table ip martello\n\
             delete table ip martello\n\
             table ip martello {{\n\
             {chains}\
             \x20 map services {{ type ipv4_addr . inet_proto . inet_service : verdict; {services} }}\n\
             \x20 set without-endpoints {{ type ipv4_addr . inet_proto . inet_service; {without_endpoints} }}\n\
             \x20 set hairpins {{ type ipv4_addr . ipv4_addr; {hairpins} }}\n\
             \x20 chain guard {{ type filter hook prerouting priority raw; policy accept;\n\
             \x20   iifname \"pod*\" ip daddr {tap} drop\n\
             \x20   iifname \"{UPLINK}\" ip daddr {pod_cidr} ip saddr {pod_cidr} drop\n\
             \x20 }}\n\
             \x20 chain translate {{ type nat hook prerouting priority dstnat; policy accept;\n\
             \x20   ip daddr . meta l4proto . th dport vmap @services\n\
             \x20 }}\n\
             \x20 chain translate-own {{ type nat hook output priority -100; policy accept;\n\
             \x20   ip daddr . meta l4proto . th dport vmap @services\n\
             \x20 }}\n\
             \x20 chain forward {{ type filter hook forward priority filter; policy accept;\n\
             \x20   ct state established,related accept\n\
             \x20   ip daddr . meta l4proto . th dport @without-endpoints meta l4proto tcp reject with tcp reset\n\
             \x20   ip daddr {service_cidr} reject with icmp type port-unreachable\n\
             \x20 }}\n\
             \x20 chain own {{ type filter hook input priority filter; policy accept;\n\
             \x20   ct state established,related accept\n\
             \x20   iifname \"pod*\" ip daddr {dns_ip} meta l4proto {{ tcp, udp }} th dport 53 accept\n\
             \x20   iifname \"pod*\" meta l4proto icmp accept\n\
             \x20   iifname {{ \"pod*\", \"{UPLINK}\" }} reject\n\
             \x20 }}\n\
             \x20 chain leave {{ type nat hook postrouting priority srcnat; policy accept;\n\
             \x20   ip saddr . ip daddr @hairpins masquerade\n\
             \x20   ip saddr {pod_cidr} oifname \"{UPLINK}\" masquerade\n\
             \x20 }}\n\
             }}\n",
            chains = self.chains,
            services = elements(&self.services),
            without_endpoints = elements(&self.without_endpoints),
            hairpins = elements(&hairpins),
            tap = uplink::NETWORK,
        )
    }
}

fn elements(list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!("elements = {{ {} }};", list.join(", ")) }
}

/// Loads a script.
pub(crate) fn load(script: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .spawn()?;
    // One that ends before it has read everything says why, which is better than that it doesn't listen.
    let written = nft.stdin.take().map_or(Ok(()), |mut input| input.write_all(script.as_bytes()));
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    Err(std::io::Error::other(format!("nft refused the rules: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig {
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            dns_ip: "10.96.0.10".parse().unwrap(),
            api_service: ("10.96.0.1".parse().unwrap(), 443),
            api_server: "127.0.0.1:6443".parse().unwrap(),
            upstream_dns: Vec::new(),
        }
    }

    fn port(ip: &str, endpoints: &[&str]) -> ServicePort {
        ServicePort {
            cluster_ip: ip.parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
            endpoints: endpoints.iter().map(|ip| (ip.parse().unwrap(), 3000)).collect(),
            client_ip_affinity: false,
        }
    }

    #[test]
    fn each_service_chooses_among_its_endpoints() {
        let services = ServiceTable { ports: vec![port("10.96.1.1", &["10.244.0.5", "10.244.0.6"])] };
        let text = script(&config(), &services);
        assert!(text.contains("10.96.1.1 . tcp . 80 : goto svc-1"));
        assert!(text.contains("numgen random mod 2 map { 0 : 10.244.0.5 . 3000, 1 : 10.244.0.6 . 3000 }"));
        assert!(text.contains("10.244.0.5 . 10.244.0.5"));
    }

    #[test]
    fn a_service_without_endpoints_is_refused() {
        let text = script(&config(), &ServiceTable { ports: vec![port("10.96.1.2", &[])] });
        assert!(text.contains("set without-endpoints") && text.contains("elements = { 10.96.1.2 . tcp . 80 }"));
    }

    #[test]
    fn no_service_but_the_api_servers_leads_to_the_node() {
        let inward = port("10.96.1.1", &["192.0.0.1", "192.0.0.7", "127.0.0.1", "169.254.169.254"]);
        let mixed = port("10.96.1.2", &["192.0.0.1", "10.244.0.5", "192.0.0.8"]);
        let text = script(&config(), &ServiceTable { ports: vec![inward, mixed] });
        assert!(text.contains("elements = { 10.96.1.1 . tcp . 80 }"), "as without endpoints");
        assert!(text.contains("numgen random mod 2 map { 0 : 10.244.0.5 . 3000, 1 : 192.0.0.8 . 3000 }"));
        assert!(!text.contains("192.0.0.1 . 3000") && !text.contains("169.254.169.254"));
        assert!(text.contains("10.96.0.1 . tcp . 443 : goto svc-0") && text.contains("0 : 192.0.0.1 . 6443"));
    }

    #[test]
    fn the_api_server_and_dns_are_not_overruled() {
        let mut rival = port("10.96.0.1", &["10.244.0.66"]);
        rival.port = 443;
        let services = ServiceTable { ports: vec![rival, port("10.96.0.10", &["10.244.0.67"])] };
        let text = script(&config(), &services);
        assert!(!text.contains("10.244.0.66") && !text.contains("10.244.0.67"));
        assert!(text.contains("10.96.0.1 . tcp . 443 : goto svc-0"));
    }
}
