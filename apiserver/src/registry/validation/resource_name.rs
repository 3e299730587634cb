//! Names of what can be requested, limited and counted.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::json;

use super::{field::Field, text};

/// What containers can ask for.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Amounts that a quota knows without a prefix.
const AMOUNTS: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// Numbers of objects that a quota knows without a prefix; they are whole.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const HUGE: &str = "hugepages-";
const REQUESTS: &str = "requests.";

/// Whether a quota knows the name without a prefix.
#[must_use]
pub fn is_of_quotas(name: &str) -> bool {
    AMOUNTS.contains(&name) || WHOLE.contains(&name) || is_huge(name)
}

fn is_huge(name: &str) -> bool {
    name.strip_prefix(REQUESTS).unwrap_or(name).starts_with(HUGE)
}

/// Whether the name is of no standard resource: somebody else's, by its prefix.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with(REQUESTS) && text::qualified_name(&format!("{REQUESTS}{name}")).is_empty()
}

/// Whether more of it may be limited than is there.
#[must_use]
pub fn overcommits(name: &str) -> bool {
    (!name.contains('/') || name.contains("kubernetes.io/")) && !name.starts_with(HUGE)
}

/// Checks the name of a resource.
pub fn check(name: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    let faults = text::qualified_name(name);
    for fault in &faults {
        invalid(name, field, fault, causes);
    }
    let known = name.contains('/') || name == "storage" || is_of_quotas(name);
    if faults.is_empty() && !known {
        invalid(name, field, "must be a standard resource type or fully qualified", causes);
    }
}

/// Checks the name of a resource that containers ask for.
pub fn check_of_containers(name: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    check(name, field, causes);
    if name.contains('/') {
        if !name.contains("kubernetes.io/") && !is_extended(name) {
            invalid(name, field, "doesn't follow extended resource name standard", causes);
        }
    } else if !OF_CONTAINERS.contains(&name) && !name.starts_with(HUGE) {
        invalid(name, field, "must be a standard resource for containers", causes);
    }
}

/// Checks the name of a resource that a quota bounds.
pub fn check_of_quotas(name: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    check(name, field, causes);
    if !name.contains('/') && !is_of_quotas(name) {
        invalid(name, field, "must be a standard resource for quota", causes);
    }
}

/// Checks an amount of the resource `name`.
pub fn check_amount(name: &str, amount: &Field<'_>, causes: &mut Vec<Cause>) {
    let Ok(quantity) = amount.text().parse::<Quantity>() else { return };
    if quantity.is_negative() {
        amount.invalid("must be greater than or equal to 0", causes);
    }
    if (WHOLE.contains(&name) || is_extended(name)) && quantity.millis() % 1000 != 0 {
        amount.invalid("must be an integer", causes);
    }
}

fn invalid(name: &str, field: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    causes.push(Cause::invalid(field.path.as_str(), &json!(name), why));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_objects_are_extended_and_whole() {
        assert!(is_extended("count/deployments.apps"));
        assert!(is_extended("example.com/gpu"));
        assert!(!is_extended("requests.example.com/gpu"));
        assert!(!is_extended("kubernetes.io/x"));
        assert!(!is_extended("cpu"));
        assert!(is_of_quotas("requests.hugepages-2Mi"));
    }
}
