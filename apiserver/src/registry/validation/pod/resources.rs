//! Requests and limits, of containers and of pods.

use martello_api::{quantity::Quantity, status::Cause};

use crate::registry::validation::{field::Field, text};

const HUGE: &str = "hugepages-";
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Names without a prefix that some kind knows.
const STANDARD: [&str; 21] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "count",
];

/// Checks the resources of a container.
pub fn check(resources: &Field<'_>, causes: &mut Vec<Cause>) {
    let (mut basic, mut huge) = (false, false);
    for part in ["limits", "requests"] {
        for (name, amount) in resources.entries(part) {
            basic |= matches!(name, "cpu" | "memory");
            huge |= name.starts_with(HUGE);
            container_name(name, &amount, causes);
            self::amount(name, &amount, causes);
            whole_pages(name, &amount, causes);
            if part == "requests" {
                against_limit(resources, name, &amount, causes);
            }
        }
    }
    if huge && !basic {
        resources.forbidden("HugePages require cpu or memory", causes);
    }
}

/// Checks what a pod costs beside its containers.
pub(super) fn overhead(overhead: &Field<'_>, causes: &mut Vec<Cause>) {
    let limits = serde_json::json!({"limits": overhead.value});
    check(&Field::new(&limits, overhead.path.as_str()), causes);
}

/// Huge pages come whole.
fn whole_pages(name: &str, amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(size) = name.strip_prefix(HUGE) else { return };
    let Some(quantity) = read(amount) else { return };
    let page = size.parse::<Quantity>().map_or(0, |page| page.units());
    if page <= 0 || quantity.millis() % 1000 != 0 || quantity.units() % page != 0 {
        amount.invalid(&format!("{} is not positive integer multiple of {name}", amount.text()), causes);
    }
}

/// Checks the resources of a pod as a whole.
pub(super) fn check_pod(resources: &Field<'_>, causes: &mut Vec<Cause>) {
    for part in ["limits", "requests"] {
        for (name, amount) in resources.entries(part) {
            if !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE) {
                let supported = ["cpu", HUGE, "memory"];
                causes.push(Cause::not_supported(amount.path.as_str(), &name.into(), &supported));
            }
            self::amount(name, &amount, causes);
            if part == "requests" {
                against_limit(resources, name, &amount, causes);
            }
        }
    }
}

/// Checks an amount of the resource `name`.
pub fn amount(name: &str, amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(quantity) = read(amount) else { return };
    if quantity.is_negative() {
        amount.invalid("must be greater than or equal to 0", causes);
    }
    if !overcommits(name) && !name.starts_with(HUGE) && quantity.millis() % 1000 != 0 {
        amount.invalid("must be an integer", causes);
    }
}

/// Checks what a container may do when its resources change.
pub(super) fn resize_policy(container: &Field<'_>, pod_policy: &str, causes: &mut Vec<Cause>) {
    let list = container.at("resizePolicy");
    let mut seen: Vec<&str> = Vec::new();
    for policy in container.items("resizePolicy") {
        let (resource, restart) = (policy.str("resourceName"), policy.str("restartPolicy"));
        if seen.contains(&resource) {
            causes.push(Cause::duplicate(policy.path.as_str(), &resource.into()));
        }
        seen.push(resource);
        match resource {
            "cpu" | "memory" => {}
            "" => list.required("", causes),
            other => causes.push(Cause::not_supported(list.path.as_str(), &other.into(), &["cpu", "memory"])),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => list.required("", causes),
            other => {
                let supported = ["NotRequired", "RestartContainer"];
                causes.push(Cause::not_supported(list.path.as_str(), &other.into(), &supported));
            }
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            causes.push(Cause::invalid(list.path.as_str(), &restart.into(), why));
        }
    }
}

fn read(amount: &Field<'_>) -> Option<Quantity> {
    amount.text().parse().ok()
}

/// Whether more of it may be limited than is there: only of native resources.
fn overcommits(name: &str) -> bool {
    (!name.contains('/') || name.contains("kubernetes.io/")) && !name.starts_with(HUGE)
}

/// Checks that `name` is a resource that a container can have; `amount` is where it is named.
pub fn container_name(name: &str, amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let faults = text::qualified_name(name);
    let invalid =
        |why: &str, causes: &mut Vec<Cause>| causes.push(Cause::invalid(amount.path.as_str(), &name.into(), why));
    if !faults.is_empty() {
        faults.iter().for_each(|fault| invalid(fault, causes));
        return;
    }
    if name.contains('/') || name.starts_with(HUGE) {
        if name.starts_with("requests.") && !name.contains("kubernetes.io/") {
            invalid("doesn't follow extended resource name standard", causes);
        }
        return;
    }
    if !STANDARD.contains(&name) {
        invalid("must be a standard resource type or fully qualified", causes);
    }
    if !CONTAINER_RESOURCES.contains(&name) {
        invalid("must be a standard resource for containers", causes);
    }
}

fn against_limit(resources: &Field<'_>, name: &str, request: &Field<'_>, causes: &mut Vec<Cause>) {
    let limits = resources.at("limits");
    let path = resources.at("requests").path;
    let Some(limit) = limits.get(name) else {
        if !overcommits(name) {
            limits.required("Limit must be set for non overcommitable resources", causes);
        }
        return;
    };
    let (Some(own), Some(most)) = (read(request), read(&limit)) else { return };
    let why = if own != most && !overcommits(name) {
        format!("must be equal to {name} limit of {}", limit.text())
    } else if own > most {
        format!("must be less than or equal to {name} limit of {}", limit.text())
    } else {
        return;
    };
    causes.push(Cause::invalid(path, request.value, &why));
}
