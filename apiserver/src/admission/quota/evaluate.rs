//! What one object uses of a quota, by its kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use martello_api::{quantity::Quantity, status::qualified};
use serde_json::Value;

use super::{devices, running};
use crate::{
    admission::Operation,
    registry::{
        core::{
            claim,
            pod_usage::{self, Amounts, read},
        },
        kind::Kind,
        object,
        validation::resource_name,
    },
};

/// What a quota counts under its bare name beside `count/…`.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
/// What a pod may be asked to state.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const HUGE: &str = "hugepages-";

/// What is counted of objects of a kind.
pub(super) struct Evaluator<'a> {
    what: What,
    plural: &'a str,
    count: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Pods,
    Services,
    Claims,
    /// Resource claims, by the devices that they ask for.
    Devices,
    Objects,
    /// Not counted at all: what comes and goes by itself.
    Nothing,
}

impl<'a> Evaluator<'a> {
    pub(super) fn of(kind: &'a Kind) -> Self {
        let what = match (kind.group(), &*kind.resource.plural) {
            ("", "pods") => What::Pods,
            ("", "services") => What::Services,
            ("", "persistentvolumeclaims") => What::Claims,
            ("resource.k8s.io", "resourceclaims") => What::Devices,
            ("" | "events.k8s.io", "events") => What::Nothing,
            _ if !kind.offers("get") => What::Nothing,
            _ => What::Objects,
        };
        let count = format!("count/{}", qualified(kind.group(), &kind.resource.plural));
        Self { what, plural: &kind.resource.plural, count }
    }

    pub(super) fn is_of_pods(&self) -> bool {
        self.what == What::Pods
    }

    pub(super) fn is_of_claims(&self) -> bool {
        self.what == What::Claims
    }

    /// What so many objects use, where each counts for one whatever is in it.
    pub(super) fn usage_of(&self, count: usize) -> Option<Amounts> {
        if self.what != What::Objects {
            return None;
        }
        let count = Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
        let names = [Some(self.count.clone()), self.is_aliased().then(|| self.plural.to_owned())];
        Some(names.into_iter().flatten().map(|name| (name, count)).collect())
    }

    fn is_aliased(&self) -> bool {
        ALIASES.contains(&self.plural) && self.count == format!("count/{}", self.plural)
    }

    /// Whether a call may use more.
    pub(super) fn handles(&self, subresource: &str, operation: Operation) -> bool {
        match (self.what, subresource, operation) {
            (What::Nothing, ..) | (_, _, Operation::Delete) => false,
            (What::Pods, "resize", Operation::Update) | (What::Claims, "status", Operation::Update) => true,
            (What::Services | What::Claims, "", _) => true,
            (_, "", Operation::Create) => true,
            _ => false,
        }
    }

    /// Whether objects of this kind use the resource `name`.
    pub(super) fn counts(&self, name: &str) -> bool {
        if name == self.count {
            return self.what != What::Nothing;
        }
        match self.what {
            What::Pods => counts_for_pods(name),
            What::Services => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
            What::Claims => {
                let plain = name.split_once(BY_CLASS).map_or(name, |(_, plain)| plain);
                matches!(plain, "persistentvolumeclaims" | "requests.storage")
            }
            What::Devices => name.ends_with(devices::BY_CLASS),
            What::Objects => self.is_aliased() && name == self.plural,
            What::Nothing => false,
        }
    }

    /// What must be stated and is not, in words.
    pub(super) fn missing(&self, names: &[&str], object: &Value) -> Option<String> {
        if self.what != What::Pods
            || object::at(object, &["spec", "resources"]).is_some_and(|own| !object::is_zero(own))
        {
            return None;
        }
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for list in ["containers", "initContainers"] {
            for container in object::list(object, &["spec", list]) {
                let of = |part: &str| read(object::at(container, &["resources", part]));
                let stated = computed(&of("requests"), &of("limits"));
                for name in names.iter().filter(|name| STATED.contains(name) && !stated.contains_key(**name)) {
                    missing.entry(name).or_default().push(object::text(container, &["name"]));
                }
            }
        }
        let words: Vec<String> = missing
            .into_iter()
            .map(|(name, mut containers)| {
                containers.sort_unstable();
                containers.dedup();
                format!("{name} for: {}", containers.join(","))
            })
            .collect();
        (!words.is_empty()).then(|| format!("must specify {}", words.join("; ")))
    }

    /// What the object uses.
    pub(super) fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let one = Quantity::from_units(1);
        let mut used = Amounts::from([(self.count.clone(), one)]);
        match self.what {
            What::Pods if is_running(object, now) => {
                let pod = running::effective(object);
                used.extend(computed(&pod_usage::of_pod(&pod, "requests"), &pod_usage::of_pod(&pod, "limits")));
                used.insert("pods".to_owned(), one);
            }
            What::Services => used.extend(of_service(object)),
            What::Claims => used.extend(of_claim(object)),
            What::Devices => used.extend(devices::of_claim(object)),
            What::Objects if self.is_aliased() => {
                used.insert(self.plural.to_owned(), one);
            }
            _ => {}
        }
        used
    }
}

fn counts_for_pods(name: &str) -> bool {
    let basic = ["cpu", "memory", "ephemeral-storage"];
    let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    if name == "pods" || basic.contains(&bare) {
        return true;
    }
    match name.strip_prefix("requests.") {
        Some(own) => own.starts_with(HUGE) || own.contains('/') && !own.contains("kubernetes.io/"),
        None => name.starts_with(HUGE),
    }
}

/// Requests and limits under the names that quotas know.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let basic = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE);
        if basic {
            used.insert(name.clone(), *amount);
        }
        if basic || resource_name::is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

/// Whether a pod takes anything: not when it is done, nor when it should long be gone.
fn is_running(pod: &Value, now: Timestamp) -> bool {
    if matches!(object::text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    // The time of deletion is written with the grace period in it; a node that is lost does not count for ever.
    let end = object::text(pod, &["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    let grace = object::int(pod, &["metadata", "deletionGracePeriodSeconds"]);
    match (end, grace) {
        (Ok(end), Some(grace)) => now.as_second() <= end.as_second().saturating_add(grace),
        _ => true,
    }
}

fn of_service(service: &Value) -> Amounts {
    let ports = object::list(service, &["spec", "ports"]);
    let suppressed = object::at(service, &["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
    let given = ports.iter().filter(|port| object::int(port, &["nodePort"]).unwrap_or(0) != 0).count();
    let (balancers, node_ports) = match object::text(service, &["spec", "type"]) {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" => (1, if suppressed { given } else { ports.len() }),
        _ => (0, 0),
    };
    let number = |count: usize| Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
    Amounts::from([
        ("services".to_owned(), number(1)),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(balancers)),
    ])
}

fn of_claim(claim: &Value) -> Amounts {
    let amount = |path: &[&str]| object::text(claim, path).parse::<Quantity>().ok();
    let asked = amount(&["spec", "resources", "requests", "storage"]);
    let allocated = amount(&["status", "allocatedResources", "storage"]);
    // What was granted counts where it is more than what is asked for, and bytes are counted whole.
    let most = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    let storage = most.map(|amount| {
        let whole = Quantity::from_units(amount.units());
        if (amount - whole).is_zero() { amount } else { whole }
    });
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), Quantity::from_units(1))]);
    used.extend(storage.map(|amount| ("requests.storage".to_owned(), amount)));
    let class = claim::class(claim);
    if !class.is_empty() {
        let of_class: Vec<_> =
            used.iter().map(|(name, amount)| (format!("{class}{BY_CLASS}{name}"), *amount)).collect();
        used.extend(of_class);
    }
    used
}
