//! The Node object: made once, its status made anew from what is known.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
        NodeSystemInfo,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

use super::machine::{Machine, Pressure};
use crate::{agent::config::Config, pods::quantity::Amount, pods::status::whole_seconds, runtime::RuntimeInfo};

/// The condition that says whether limits hold.
pub const LIMITS_ENFORCED: &str = "ResourceLimitsEnforced";
/// The condition that says whether each pod has ids of its own.
pub const OWN_IDS: &str = "PodIdsSeparated";
/// Upstream lists no more images than this.
const MOST_IMAGES: usize = 50;

/// What is known of a node at one moment.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// What the agent was told.
    pub config: &'a Config,
    /// What the machine is.
    pub machine: &'a Machine,
    /// What is short.
    pub pressure: Pressure,
    /// What the runtime can do.
    pub runtime: &'a RuntimeInfo,
    /// Names and sizes of images.
    pub images: Vec<(Vec<String>, u64)>,
    /// What others say that the node has besides.
    pub extended: BTreeMap<String, Quantity>,
}

/// The object to register with.
#[must_use]
pub fn object(seen: &Seen<'_>, now: Timestamp) -> Node {
    let config = seen.config;
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config, seen.machine)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status(seen, None, now)),
    }
}

/// The labels that every node has, and those that the agent was told.
#[must_use]
pub fn labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let architecture = machine.architecture.to_owned();
    let mut labels = config.labels.clone();
    labels.insert("kubernetes.io/hostname".to_owned(), config.hostname.clone());
    for (os, arch) in [("kubernetes.io/os", "kubernetes.io/arch"), ("beta.kubernetes.io/os", "beta.kubernetes.io/arch")]
    {
        labels.insert(os.to_owned(), "linux".to_owned());
        labels.insert(arch.to_owned(), architecture.clone());
    }
    labels
}

/// The status as it is now; a condition's time of change stays while it doesn't change.
#[must_use]
pub fn status(seen: &Seen<'_>, before: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
    let config = seen.config;
    let with_extended = |own: BTreeMap<String, Amount>| {
        let mut all = quantities(own);
        all.extend(seen.extended.iter().map(|(name, amount)| (name.clone(), amount.clone())));
        all
    };
    NodeStatus {
        addresses: Some(addresses(config)),
        capacity: Some(with_extended(seen.machine.capacity(config))),
        allocatable: Some(with_extended(seen.machine.allocatable(config))),
        conditions: Some(conditions(seen, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        node_info: Some(info(config, seen.machine)),
        images: Some(images(&seen.images)),
        ..NodeStatus::default()
    }
}

fn addresses(config: &Config) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { address, type_: type_.to_owned() };
    let mut all: Vec<NodeAddress> =
        config.node_ips.iter().map(|ip: &IpAddr| address("InternalIP", ip.to_string())).collect();
    all.push(address("Hostname", config.hostname.clone()));
    all
}

fn quantities(amounts: BTreeMap<String, Amount>) -> BTreeMap<String, Quantity> {
    amounts
        .into_iter()
        .map(|(name, amount)| {
            let text = match name.as_str() {
                "memory" | "ephemeral-storage" => format!("{}Ki", amount.units() / 1024),
                _ if amount.milli() % 1000 == 0 => amount.units().to_string(),
                _ => format!("{}m", amount.milli()),
            };
            (name, Quantity(text))
        })
        .collect()
}

fn info(config: &Config, machine: &Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.to_owned(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("martello://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

fn images(list: &[(Vec<String>, u64)]) -> Vec<ContainerImage> {
    let mut sorted = list.to_vec();
    sorted.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    sorted.truncate(MOST_IMAGES);
    sorted
        .into_iter()
        .map(|(names, size)| ContainerImage { names: Some(names), size_bytes: i64::try_from(size).ok() })
        .collect()
}

struct Condition {
    name: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

fn wanted(seen: &Seen<'_>) -> Vec<Condition> {
    let plain = |name, holds, reasons: (&'static str, &'static str), messages: (&str, &str)| Condition {
        name,
        holds,
        reason: if holds { reasons.0 } else { reasons.1 },
        message: if holds { messages.0 } else { messages.1 }.to_owned(),
    };
    let told = |name, result: &Result<(), String>, good: &str| Condition {
        name,
        holds: result.is_ok(),
        reason: if result.is_ok() { "Enforced" } else { "NotEnforced" },
        message: result.as_ref().map_or_else(Clone::clone, |()| good.to_owned()),
    };
    let pressure = seen.pressure;
    vec![
        plain(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            ("kubelet has insufficient memory available", "kubelet has sufficient memory available"),
        ),
        plain(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            ("kubelet has disk pressure", "kubelet has no disk pressure"),
        ),
        plain(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
            ("kubelet has insufficient PID available", "kubelet has sufficient PID available"),
        ),
        plain("NetworkUnavailable", false, ("", "PodNetworkReady"), ("", "the pod network of this node is up")),
        told(LIMITS_ENFORCED, &seen.runtime.limits, "cpu, memory and process limits of containers are enforced"),
        told(OWN_IDS, &seen.runtime.own_ids, "each pod has a range of user and group ids of its own"),
        plain("Ready", true, ("KubeletReady", ""), ("kubelet is posting ready status", "")),
    ]
}

fn conditions(seen: &Seen<'_>, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let now = Time(whole_seconds(now));
    let old = |name: &str| {
        before.and_then(|status| status.conditions.as_ref()).into_iter().flatten().find(|one| one.type_ == name)
    };
    let made = wanted(seen).into_iter().map(|one| {
        let status = if one.holds { "True" } else { "False" };
        let unchanged = old(one.name).filter(|old| old.status == status);
        NodeCondition {
            type_: one.name.to_owned(),
            status: status.to_owned(),
            reason: Some(one.reason.to_owned()),
            message: Some(one.message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: Some(
                unchanged.and_then(|old| old.last_transition_time.clone()).unwrap_or_else(|| now.clone()),
            ),
        }
    });
    made.collect()
}

/// Resources that somebody else says a node has, an administrator or a device's driver: their names have a domain. They can be
/// given out as they stand in its capacity.
#[must_use]
pub fn extended(node: &Node) -> BTreeMap<String, Quantity> {
    let capacity = node.status.as_ref().and_then(|status| status.capacity.as_ref());
    let named = capacity.into_iter().flatten().filter(|(name, _)| name.contains('/'));
    named.map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// Those that it can't give out any more, since nobody says that it has them.
#[must_use]
pub fn withdrawn(node: &Node) -> Vec<String> {
    let has = extended(node);
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let names = allocatable.into_iter().flatten().map(|(name, _)| name);
    names.filter(|name| name.contains('/') && !has.contains_key(*name)).cloned().collect()
}

/// Whether two statuses say the same, apart from when it was looked.
#[must_use]
pub fn says_the_same(one: &NodeStatus, other: &NodeStatus) -> bool {
    let bare = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_node_says_what_it_is_and_what_it_cannot_do() {
        let config = Config::new("n1", "192.0.2.7".parse().unwrap(), PathBuf::from("/x"));
        let machine = Machine { cpu_millis: 2000, memory_bytes: 4 << 30, architecture: "amd64", ..Machine::default() };
        let runtime = RuntimeInfo {
            limits: Err("no delegated cgroup".into()),
            own_ids: Ok(()),
            volatile_dir: PathBuf::new(),
            volumes_dir: PathBuf::new(),
        };
        let pressure = Pressure::default();
        let (images, extended) = (Vec::new(), BTreeMap::new());
        let seen = Seen { config: &config, machine: &machine, pressure, runtime: &runtime, images, extended };
        let node = object(&seen, Timestamp::UNIX_EPOCH);
        assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/arch"], "amd64");
        let first = node.status.unwrap();
        assert_eq!(first.allocatable.as_ref().unwrap()["cpu"].0, "2");
        assert_eq!(first.allocatable.as_ref().unwrap()["memory"].0, format!("{}Ki", (4 << 20) - (100 << 10)));
        let limits = first.conditions.as_ref().unwrap().iter().find(|one| one.type_ == LIMITS_ENFORCED).unwrap();
        assert_eq!((limits.status.as_str(), limits.message.as_deref()), ("False", Some("no delegated cgroup")));
        let later = Timestamp::from_second(60).unwrap();
        let second = status(&seen, Some(&first), later);
        assert!(says_the_same(&first, &second));
        assert_ne!(first, second);
        let told = serde_json::json!({"status": {
            "capacity": {"cpu": "9", "example.com/dongle": "4"}, "allocatable": {"cpu": "2", "example.com/gone": "1"},
        }});
        let told: Node = serde_json::from_value(told).unwrap();
        assert_eq!(withdrawn(&told), ["example.com/gone"]);
        let third = status(&Seen { extended: super::extended(&told), ..seen }, Some(&first), later);
        for amounts in [third.capacity.unwrap(), third.allocatable.unwrap()] {
            assert_eq!((amounts["example.com/dongle"].0.as_str(), amounts["cpu"].0.as_str()), ("4", "2"));
        }
    }
}
