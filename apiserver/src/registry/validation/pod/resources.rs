//! Requests and limits, of containers and of pods.

use std::collections::HashSet;

use martello_api::{quantity::Quantity, status::Cause};

use super::claims;
use crate::registry::{
    core::pod_usage,
    validation::{
        field::Field,
        resource_name::{self, overcommits},
    },
};

const HUGE: &str = "hugepages-";

/// Checks the resources of a container.
pub fn check(resources: &Field<'_>, causes: &mut Vec<Cause>) {
    let (mut basic, mut huge) = (false, false);
    for part in ["limits", "requests"] {
        for (name, amount) in resources.entries(part) {
            basic |= matches!(name, "cpu" | "memory");
            huge |= name.starts_with(HUGE);
            resource_name::check_of_containers(name, &amount, causes);
            resource_name::check_amount(name, &amount, causes);
            if part == "requests" {
                against_limit(resources, name, &amount, causes);
            }
            whole_pages(name, &amount, causes);
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
    let page = size.parse::<Quantity>().ok().filter(|page| page.millis() % 1000 == 0).map_or(0, |page| page.units());
    if page <= 0 || quantity.units() % page != 0 {
        amount.invalid(&format!("{} is not positive integer multiple of {name}", amount.text()), causes);
    }
}

/// Checks the resources of a pod as a whole.
pub(super) fn check_pod(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(resources) = spec.get("resources") else { return };
    if spec.at("os").str("name") == "windows" {
        return resources.forbidden("may not be set for a windows pod", causes);
    }
    if resources.count("claims") > 0 {
        resources.at("claims").forbidden("claims may not be set for Resources at pod-level", causes);
    }
    let (mut basic, mut huge) = (false, false);
    for part in ["limits", "requests"] {
        for (name, amount) in resources.entries(part) {
            basic |= matches!(name, "cpu" | "memory");
            huge |= is_huge(name);
            let before = causes.len();
            resource_name::check(name, &amount, causes);
            if causes.len() == before && !matches!(name, "cpu" | "memory") && !is_huge(name) {
                let supported = ["cpu", HUGE, "memory"];
                causes.push(Cause::not_supported(amount.path.as_str(), &name.into(), &supported));
            }
            resource_name::check_amount(name, &amount, causes);
            if part == "requests" {
                against_limit(&resources, name, &amount, causes);
            }
            whole_pages(name, &amount, causes);
        }
    }
    if huge && !basic {
        resources.forbidden("HugePages require cpu or memory", causes);
    }
    claims::check_container(&claims::Claimed::of(spec), &resources, causes);
    against_containers(spec, &resources, causes);
}

/// Checks the resources of a pod against those of its containers.
fn against_containers(spec: &Field<'_>, resources: &Field<'_>, causes: &mut Vec<Cause>) {
    let own = |part: &str, name: &str| resources.at(part).str(name).parse::<Quantity>().ok();
    for (name, sum) in pod_usage::summed(spec.value, "requests") {
        if let Some(most) = own("requests", &name).filter(|most| sum > *most) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            let path = format!("{}[{name}]", resources.at("requests").path);
            causes.push(Cause::invalid(path, &most.to_string().into(), &why));
        }
    }
    for (name, sum) in pod_usage::summed(spec.value, "limits").into_iter().filter(|(name, _)| is_huge(name)) {
        if let Some(most) = own("limits", &name).filter(|most| sum > *most) {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            let path = format!("{}[{name}]", resources.at("limits").path);
            causes.push(Cause::invalid(path, &most.to_string().into(), &why));
        }
    }
    for (index, container) in spec.items("containers").iter().enumerate() {
        for (name, amount) in container.at("resources").entries("limits") {
            let (Some(limit), Some(most)) = (read(&amount), own("limits", name)) else { continue };
            if limit > most {
                let path = format!("{}.containers[{index}][{name}].limits", resources.path);
                let why = format!("must be less than or equal to pod limits of {most}");
                causes.push(Cause::invalid(path, &limit.to_string().into(), &why));
            }
        }
    }
}

/// Checks what a container may do when its resources change.
pub(super) fn resize_policy(container: &Field<'_>, pod_policy: &str, causes: &mut Vec<Cause>) {
    let list = container.at("resizePolicy");
    let mut seen: HashSet<&str> = HashSet::new();
    for policy in container.items("resizePolicy") {
        let (resource, restart) = (policy.str("resourceName"), policy.str("restartPolicy"));
        if seen.contains(&resource) {
            causes.push(Cause::duplicate(policy.path.as_str(), &resource.into()));
        }
        seen.insert(resource);
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
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            causes.push(Cause::invalid(list.path.as_str(), &restart.into(), why));
        }
    }
}

/// Checks that nothing asks to start an init container anew: it does its work once.
pub(super) fn no_restart(container: &Field<'_>, causes: &mut Vec<Cause>) {
    for policy in container.items("resizePolicy") {
        let restart = policy.at("restartPolicy");
        if restart.text() == "RestartContainer" {
            restart.invalid("must not be set to 'RestartContainer' for non-sidecar initContainers", causes);
        }
    }
}

fn read(amount: &Field<'_>) -> Option<Quantity> {
    amount.text().parse().ok()
}

fn is_huge(name: &str) -> bool {
    name.starts_with(HUGE)
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
