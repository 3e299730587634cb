//! What the status of a pod says of its devices.

use std::collections::{HashMap, HashSet};

use martello_api::status::Cause;

use crate::registry::validation::{field::Field, text};

/// Longest message about a device.
const MAX_MESSAGE: usize = 1024;
const NO_RESOURCE: &str = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
const NO_CONTAINER: &str = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
const NOT_CLAIMED: &str = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";

/// Checks the health of devices of containers; `specs` are the containers themselves.
pub(super) fn health(statuses: &[Field<'_>], specs: &[Field<'_>], causes: &mut Vec<Cause>) {
    let mut by_name: HashMap<&str, &Field<'_>> = HashMap::new();
    for spec in specs {
        // Of two of one name the first counts.
        by_name.entry(spec.str("name")).or_insert(spec);
    }
    for status in statuses.iter().filter(|status| status.count("allocatedResourcesStatus") > 0) {
        let resources = by_name.get(status.str("name")).map(|spec| spec.at("resources"));
        let claimed: HashSet<String> = resources.iter().flat_map(claims).collect();
        for device in status.items("allocatedResourcesStatus") {
            if let Some(resources) = &resources {
                known(&device.at("name"), resources, &claimed, causes);
            }
            parts(&device, causes);
        }
    }
}

/// What a container claims, as a status calls it.
fn claims(resources: &Field<'_>) -> Vec<String> {
    let shown = |claim: &Field<'_>| match (claim.str("name"), claim.str("request")) {
        (name, "") => format!("claim:{name}"),
        (name, request) => format!("claim:{name}/{request}"),
    };
    resources.items("claims").iter().map(shown).collect()
}

fn known(name: &Field<'_>, resources: &Field<'_>, claimed: &HashSet<String>, causes: &mut Vec<Cause>) {
    if name.text().starts_with("claim:") {
        if !claimed.contains(name.text()) {
            name.invalid(NOT_CLAIMED, causes);
        }
    } else if resources.at("requests").get(name.text()).is_none() {
        name.invalid("must match one of the container's resource requests", causes);
    }
}

fn parts(device: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for part in device.items("resources") {
        part.at("health").one_of(&["Healthy", "Unhealthy", "Unknown"], causes);
        if let Some(message) = part.get("message") {
            match message.text().len() {
                0 => message.required("must be non-empty if specified", causes),
                long if long > MAX_MESSAGE => causes.push(Cause::too_long(message.path, MAX_MESSAGE)),
                _ => {}
            }
        }
        if !seen.insert(part.str("resourceID")) {
            part.at("resourceID").duplicate(causes);
        }
    }
}

/// Checks the claim that was made for what a pod asks of devices by their names as resources.
pub(super) fn extended(pod: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(status) = pod.at("status").get("extendedResourceClaimStatus") else { return };
    let spec = pod.at("spec");
    let all = ["initContainers", "containers"].into_iter().flat_map(|list| spec.items(list));
    // Of two of one name the last counts.
    let containers: HashMap<&str, Field<'_>> = all.map(|container| (container.str("name"), container)).collect();
    if status.count("requestMappings") == 0 {
        status.at("requestMappings").required("at least one request mapping is required", causes);
    }
    let mut seen: HashSet<[&str; 3]> = HashSet::new();
    for mapping in status.items("requestMappings") {
        let [container, resource, request] =
            ["containerName", "resourceName", "requestName"].map(|key| mapping.at(key));
        match containers.get(container.text()) {
            None => container.invalid(NO_CONTAINER, causes),
            Some(found) if found.at("resources").at("requests").get(resource.text()).is_none() => {
                resource.invalid(NO_RESOURCE, causes);
            }
            Some(_) => {}
        }
        // Upstream leaves the place of the mapping out of this path.
        Field::new(request.value, status.at("requestName").path).check(text::dns1123_label, causes);
        if !seen.insert([container.text(), resource.text(), request.text()]) {
            [&container, &resource, &request].iter().for_each(|part| part.duplicate(causes));
        }
    }
    status.at("resourceClaimName").check_required(text::dns1123_subdomain, causes);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mapping_names_a_container_and_what_it_asks_for() {
        let pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]},
            "status": {"extendedResourceClaimStatus": {"resourceClaimName": "x", "requestMappings": [
                {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "r"},
                {"containerName": "d", "resourceName": "example.com/gpu", "requestName": "r"},
                {"containerName": "c", "resourceName": "cpu", "requestName": "r"},
            ]}},
        });
        let mut causes = Vec::new();
        extended(&Field::new(&pod, ""), &mut causes);
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "status.extendedResourceClaimStatus.requestMappings[1].containerName",
                "status.extendedResourceClaimStatus.requestMappings[2].resourceName",
            ]
        );
    }

    #[test]
    fn a_device_is_one_that_the_container_asks_for() {
        let spec = json!({"name": "c", "resources": {"claims": [{"name": "a", "request": "r"}]}});
        let status = |name: &str| {
            json!({"name": "c", "allocatedResourcesStatus": [
                {"name": name, "resources": [{"resourceID": "1", "health": "Healthy", "message": ""}]},
            ]})
        };
        let faults = |name: &str| {
            let (spec, status) = (spec.clone(), status(name));
            let mut causes = Vec::new();
            health(&[Field::new(&status, "s")], &[Field::new(&spec, "c")], &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let message = "s.allocatedResourcesStatus[0].resources[0].message";
        assert_eq!(faults("claim:a/r"), [message]);
        assert_eq!(faults("claim:a"), ["s.allocatedResourcesStatus[0].name", message]);
    }
}
