//! What the runtime is asked to make for a pod before any container: its names, its DNS and its namespaces.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::spec::SpecError;
use crate::{
    runtime::{DnsConfig, PodNetwork, PodSandboxSpec},
    volumes::{mounts, place},
};

/// A host name has at most this many bytes.
const LONGEST_HOSTNAME: usize = 63;
/// More search domains than this no resolver takes (as upstream's limit).
const MOST_SEARCHES: usize = 32;

/// What a pod's DNS and host name depend on, beside its spec.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// Address of the cluster's DNS.
    pub cluster_dns: Vec<String>,
    /// For instance `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolvers.
    pub node_dns: DnsConfig,
}

/// What to ask the runtime for to hold the containers of `pod`; `memory_bytes` is what the pods of this node may use
/// together.
///
/// # Errors
/// If the pod asks for the host's namespaces.
pub fn sandbox(pod: &Pod, naming: &Naming, memory_bytes: u64) -> Result<PodSandboxSpec, SpecError> {
    let spec = pod.spec.clone().unwrap_or_default();
    refuse_host(&spec)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let context = spec.security_context.clone().unwrap_or_default();
    let aliases = spec.host_aliases.iter().flatten();
    Ok(PodSandboxSpec {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        hostname: hostname(&spec, &name, &namespace, &naming.cluster_domain),
        dns: dns(&spec, &namespace, naming),
        host_aliases: aliases.map(|alias| (alias.ip.clone(), alias.hostnames.clone().unwrap_or_default())).collect(),
        sysctls: context.sysctls.into_iter().flatten().map(|one| (one.name, one.value)).collect(),
        share_process_namespace: spec.share_process_namespace == Some(true),
        network: PodNetwork::Pod,
        memory_volumes: mounts::in_memory(pod, memory_bytes, place::fs_group(pod)),
        namespace,
        name,
    })
}

fn refuse_host(spec: &PodSpec) -> Result<(), SpecError> {
    let hint = "containers here never share namespaces with the host; remove the field";
    for (field, asked) in
        [("spec.hostNetwork", spec.host_network), ("spec.hostPID", spec.host_pid), ("spec.hostIPC", spec.host_ipc)]
    {
        if asked == Some(true) {
            return Err(SpecError::Unsupported { field, hint });
        }
    }
    Ok(())
}

fn hostname(spec: &PodSpec, name: &str, namespace: &str, domain: &str) -> String {
    if let Some(own) = &spec.hostname_override {
        return own.clone();
    }
    let own = spec.hostname.as_deref().filter(|own| !own.is_empty()).unwrap_or(name);
    let short: String = own.chars().take(LONGEST_HOSTNAME).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    match spec.subdomain.as_deref().filter(|own| !own.is_empty() && spec.set_hostname_as_fqdn == Some(true)) {
        Some(subdomain) => format!("{short}.{subdomain}.{namespace}.svc.{domain}"),
        None => short,
    }
}

fn dns(spec: &PodSpec, namespace: &str, naming: &Naming) -> DnsConfig {
    let mut made = match spec.dns_policy.as_deref() {
        Some("None") => DnsConfig::default(),
        Some("Default") => naming.node_dns.clone(),
        _ => cluster_first(namespace, naming),
    };
    let Some(own) = &spec.dns_config else { return made };
    made.nameservers.extend(own.nameservers.clone().unwrap_or_default());
    made.searches.extend(own.searches.clone().unwrap_or_default());
    let mut options: BTreeMap<String, Option<String>> = BTreeMap::new();
    for option in &made.options {
        let (name, value) = option.split_once(':').map_or((option.as_str(), None), |(name, value)| (name, Some(value)));
        options.insert(name.to_owned(), value.map(str::to_owned));
    }
    for option in own.options.iter().flatten() {
        options.insert(option.name.clone().unwrap_or_default(), option.value.clone());
    }
    made.options = options
        .into_iter()
        .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}:{value}")))
        .collect();
    dedup(&mut made.nameservers);
    dedup(&mut made.searches);
    made.searches.truncate(MOST_SEARCHES);
    made
}

fn cluster_first(namespace: &str, naming: &Naming) -> DnsConfig {
    let domain = &naming.cluster_domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    searches.extend(naming.node_dns.searches.iter().cloned());
    DnsConfig { nameservers: naming.cluster_dns.clone(), searches, options: vec!["ndots:5".to_owned()] }
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|one| seen.insert(one.clone()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn namespaces_of_the_host_are_refused_by_name() {
        let host = pod(json!({"hostNetwork": true, "containers": []}));
        assert!(sandbox(&host, &Naming::default(), 0).unwrap_err().to_string().contains("spec.hostNetwork"));
    }

    #[test]
    fn pods_look_names_up_in_their_namespace_first() {
        let naming = Naming {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            node_dns: DnsConfig { nameservers: vec!["9.9.9.9".into()], searches: vec!["corp".into()], options: vec![] },
        };
        let own = sandbox(
            &pod(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}})),
            &naming,
            0,
        )
        .unwrap();
        assert_eq!(own.dns.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"]);
        assert_eq!(own.dns.options, ["ndots:2"]);
        assert_eq!(own.hostname, "web-1");
        let node = sandbox(&pod(json!({"containers": [], "dnsPolicy": "Default"})), &naming, 0).unwrap();
        assert_eq!(node.dns.nameservers, ["9.9.9.9"]);
    }
}
