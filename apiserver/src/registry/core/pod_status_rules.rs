//! What holds for the status of pods.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    networking::cidr,
    object,
    validation::{address, field::Field, pod as rules, text},
};

const STATUSES: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
const NODE_CLAIMS: &str = "nodeAllocatableResourceClaimStatuses";
/// Highest user and group.
const MAX_ID: i64 = i32::MAX as i64;

/// Fills in a status that was sent: old clients leave things out, or know one address only.
pub fn prepare(pod: &mut Value, old: &Value) {
    drop_disabled(pod, old);
    if object::text(pod, &["status", "qosClass"]).is_empty()
        && let Some(class) = object::at(old, &["status", "qosClass"]).cloned()
    {
        object::set(pod, &["status"], "qosClass", class);
    }
    let (own, first) = (
        object::text(pod, &["status", "podIP"]).to_owned(),
        object::list(pod, &["status", "podIPs"]).first().map(|ip| object::text(ip, &["ip"]).to_owned()),
    );
    match first {
        Some(first) if own.is_empty() => object::set(pod, &["status"], "podIP", first),
        first if !own.is_empty() && first.as_ref() != Some(&own) => {
            object::set(pod, &["status"], "podIPs", json!([{"ip": own}]));
        }
        _ => {}
    }
    let unset = |value: &Value, path: &[&str]| object::int(value, path).unwrap_or(0) == 0;
    if unset(pod, &["status", "observedGeneration"])
        && let Some(before) = object::at(old, &["status", "observedGeneration"]).cloned()
    {
        object::set(pod, &["status"], "observedGeneration", before);
    }
    // Of several of one type the first belongs to the first, the second to the second, and so on.
    let mut before: HashMap<&str, VecDeque<&Value>> = HashMap::new();
    for other in object::list(old, &["status", "conditions"]) {
        before.entry(object::text(other, &["type"])).or_default().push_back(other);
    }
    for condition in object::list_mut(pod, &["status", "conditions"]).into_iter().flatten() {
        let of_type = before.get_mut(object::text(condition, &["type"]));
        let Some(other) = of_type.and_then(VecDeque::pop_front) else { continue };
        if unset(condition, &["observedGeneration"]) {
            object::copy_key(condition, other, "observedGeneration");
        }
    }
}

/// Drops what belongs to features that are off, unless it was there before.
fn drop_disabled(pod: &mut Value, old: &Value) {
    // DRANodeAllocatableResources.
    if object::list(old, &["status", NODE_CLAIMS]).is_empty() {
        object::remove(pod, &["status"], NODE_CLAIMS);
    }
    // ImageVolumeWithDigest.
    let mounted = |pod: &Value| -> bool {
        let statuses = STATUSES.iter().flat_map(|list| object::list(pod, &["status", list]));
        statuses
            .flat_map(|one| object::list(one, &["volumeMounts"]))
            .any(|mount| object::at(mount, &["volumeStatus", "image"]).is_some_and(|image| !image.is_null()))
    };
    if mounted(old) {
        return;
    }
    for list in STATUSES {
        for status in object::list_mut(pod, &["status", list]).into_iter().flatten() {
            for mount in object::list_mut(status, &["volumeMounts"]).into_iter().flatten() {
                object::remove(mount, &[], "volumeStatus");
            }
        }
    }
}

/// Checks a changed status against what it was.
pub fn check(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    rules::annotations_update(new, old, causes);
    let whole = Field::new(new, "");
    let status = whole.at("status");
    for condition in status.items("conditions") {
        generation(&condition, causes);
        let kind = condition.at("type");
        if !matches!(kind.text(), "PodScheduled" | "Ready" | "Initialized") {
            Field::new(kind.value, format!("{}.Type", condition.path)).check(text::qualified_name, causes);
        }
    }
    let nominated = status.at("nominatedNodeName");
    if nominated.text() != object::text(old, &["status", "nominatedNodeName"]) {
        nominated.check_if_set(text::dns1123_subdomain, causes);
        if !nominated.text().is_empty() && !object::text(old, &["spec", "nodeName"]).is_empty() {
            nominated.forbidden("may not be set on pods that are already bound to a node", causes);
        }
    }
    generation(&status, causes);
    let class = status.at("qosClass");
    if class.text() != object::text(old, &["status", "qosClass"]) {
        causes.push(Cause::invalid(class.path.as_str(), &json!(class.text()), "field is immutable"));
    }
    if !all_may_restart(old) {
        for (list, specs) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
            ended_stays_ended(new, old, list, Some(specs), causes);
        }
    }
    ended_stays_ended(new, old, "ephemeralContainerStatuses", None, causes);
    claims(&whole, causes);
    super::pod_devices::extended(&whole, causes);
    addresses(&status, "podIPs", old, causes);
    host_address(&status, causes);
    addresses(&status, "hostIPs", old, causes);
    let windows = whole.at("spec").at("os").str("name") == "windows";
    for list in STATUSES {
        status.items(list).iter().for_each(|one| user(one, windows, causes));
    }
    for (list, specs) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        super::pod_devices::health(&status.items(list), &whole.at("spec").items(specs), causes);
    }
    for one in status.items("ephemeralContainerStatuses").iter().filter(|one| one.count("allocatedResourcesStatus") > 0)
    {
        one.at("allocatedResourcesStatus").forbidden("must not be specified in container status", causes);
    }
}

/// What a client is told of addresses that are taken although they are not written as they should be.
#[must_use]
pub fn warnings(pod: &Value) -> Vec<String> {
    let whole = Field::new(pod, "");
    let lists = ["podIPs", "hostIPs"].into_iter().flat_map(|list| whole.at("status").items(list));
    lists.filter_map(|one| address::warning(&one.at("ip"))).collect()
}

fn generation(holder: &Field<'_>, causes: &mut Vec<Cause>) {
    let generation = holder.at("observedGeneration");
    if generation.int().is_some_and(|number| number < 0) {
        generation.invalid("must be a non-negative integer", causes);
    }
}

/// Whether one container that ends starts all of them anew.
fn all_may_restart(pod: &Value) -> bool {
    let rules = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| object::list(pod, &["spec", list]))
        .flat_map(|container| object::list(container, &["restartPolicyRules"]));
    rules.into_iter().any(|rule| object::text(rule, &["action"]) == "RestartAllContainers")
}

/// What ended and is not started again stays ended.
fn ended_stays_ended(new: &Value, old: &Value, list: &str, specs: Option<&str>, causes: &mut Vec<Cause>) {
    let runs = |after: &&Value| object::at(after, &["state", "terminated"]).is_none_or(Value::is_null);
    let running: HashSet<&str> =
        object::list(new, &["status", list]).iter().filter(runs).map(|after| object::text(after, &["name"])).collect();
    // Of two of one name the first counts.
    let mut by_name: HashMap<&str, &Value> = HashMap::new();
    for spec in specs.map(|specs| object::list(old, &["spec", specs])).into_iter().flatten() {
        by_name.entry(object::text(spec, &["name"])).or_insert(spec);
    }
    for (index, before) in object::list(old, &["status", list]).iter().enumerate() {
        let Some(ended) = object::at(before, &["state", "terminated"]).filter(|ended| !ended.is_null()) else {
            continue;
        };
        let name = object::text(before, &["name"]);
        let code = object::int(ended, &["exitCode"]).unwrap_or(0);
        let restarts = by_name
            .get(name)
            .is_some_and(|spec| may_restart(spec, object::text(old, &["spec", "restartPolicy"]), code));
        if !restarts && running.contains(name) {
            let path = format!("status.{list}[{index}].state");
            causes.push(Cause::forbidden(path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Whether a container that ended with `code` is started again.
fn may_restart(container: &Value, of_pod: &str, code: i64) -> bool {
    let own = object::text(container, &["restartPolicy"]);
    if !own.is_empty() {
        let by_rule = object::list(container, &["restartPolicyRules"]).iter().any(|rule| {
            let listed = object::list(rule, &["exitCodes", "values"]).contains(&json!(code));
            match object::text(rule, &["exitCodes", "operator"]) {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        });
        if by_rule {
            return true;
        }
    }
    match if own.is_empty() { of_pod } else { own } {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn claims(pod: &Field<'_>, causes: &mut Vec<Cause>) {
    let known: HashSet<&str> = pod.at("spec").items("resourceClaims").iter().map(|claim| claim.str("name")).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    for claim in pod.at("status").items("resourceClaimStatuses") {
        let name = claim.at("name");
        if !known.contains(name.text()) {
            name.invalid("must match the name of an entry in `spec.resourceClaims`", causes);
        }
        if seen.contains(&name.text()) {
            name.duplicate(causes);
        }
        seen.insert(name.text());
        if let Some(made) = claim.get("resourceClaimName") {
            made.check(text::dns1123_subdomain, causes);
        }
    }
}

fn host_address(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let first = status.items("hostIPs").into_iter().next();
    if let Some(first) = first.filter(|first| first.str("ip") != status.str("hostIP")) {
        first.at("ip").invalid("must be equal to `hostIP`", causes);
    }
}

/// Checks addresses: each is one, and there is one of a family. What was there before is let be.
fn addresses(status: &Field<'_>, list: &str, old: &Value, causes: &mut Vec<Cause>) {
    let before: HashSet<&str> =
        object::list(old, &["status", list]).iter().map(|address| object::text(address, &["ip"])).collect();
    let all = status.items(list);
    for address in &all {
        if !before.contains(address.str("ip")) {
            let value = json!(address.str("ip"));
            Field::new(&value, address.path.as_str()).check(cidr::strict_ip, causes);
        }
    }
    let families: Vec<bool> = all
        .iter()
        .filter_map(|address| cidr::any_ip(address.str("ip")))
        .map(|address| matches!(address, IpAddr::V6(_)))
        .collect();
    let one_of_each = matches!(families.as_slice(), [first, second] if first != second);
    let unread = all.iter().position(|address| cidr::any_ip(address.str("ip")).is_none());
    if let Some((index, address)) = unread.and_then(|index| Some((index, all.get(index)?))).filter(|_| all.len() > 1) {
        let why = format!("failed to check for dual stack with error:invalid IP[{index}]: {}", address.str("ip"));
        causes.push(Cause::new("InternalError", status.at(list).path, format!("Internal error: {why}")));
    }
    if all.len() > 1 && !one_of_each {
        let shown: Vec<Value> = all.iter().map(|address| json!({"IP": address.str("ip")})).collect();
        let why = "may specify no more than one IP for each IP family";
        causes.push(Cause::invalid(status.at(list).path, &json!(shown), why));
    }
}

fn user(container: &Field<'_>, windows: bool, causes: &mut Vec<Cause>) {
    let Some(user) = container.at("user").get("linux") else { return };
    if windows {
        return user.forbidden("cannot be set for a windows pod", causes);
    }
    let ids = [user.at("uid"), user.at("gid")].into_iter().chain(user.items("supplementalGroups"));
    for id in ids.filter(|id| id.int().is_some_and(|number| !(0..=MAX_ID).contains(&number))) {
        id.invalid("must be between 0 and 2147483647, inclusive", causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(new: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(new, old, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn an_ended_container_starts_again_by_its_own_policy_or_rule() {
        let with = |spec: Value, state: Value| {
            json!({
                "spec": {"restartPolicy": "Never", "containers": [spec]},
                "status": {"containerStatuses": [{"name": "c", "state": state}]},
            })
        };
        let ended = json!({"terminated": {"exitCode": 3}});
        let goes_on = |spec: Value| faults(&with(spec.clone(), json!({})), &with(spec, ended.clone())).is_empty();
        let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]);
        assert!(!goes_on(json!({"name": "c"})));
        assert!(goes_on(json!({"name": "c", "restartPolicy": "OnFailure"})));
        assert!(goes_on(json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": rule})));
    }

    #[test]
    fn one_address_of_each_family() {
        let status = |ips: &[&str]| {
            let all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"status": {"podIPs": all}})
        };
        let old = status(&[]);
        assert_eq!(faults(&status(&["10.0.0.1", "2001:db8::1"]), &old), Vec::<String>::new());
        assert_eq!(
            faults(&status(&["10.0.0.1", "10.0.0.2"]), &old),
            [
                r#"status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family"#
            ]
        );
    }

    #[test]
    fn what_is_off_is_dropped_unless_it_was_there() {
        let mount = json!({"name": "v", "mountPath": "/", "volumeStatus": {"image": {"imageRef": "x"}}});
        let sent = json!({"status": {
            "containerStatuses": [{"name": "c", "volumeMounts": [mount]}],
            NODE_CLAIMS: [{"resourceClaimName": "c"}],
        }});
        let mut pod = sent.clone();
        prepare(&mut pod, &json!({}));
        let kept = json!([{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/"}]}]);
        assert_eq!(pod["status"], json!({"containerStatuses": kept}));
        let mut pod = sent.clone();
        prepare(&mut pod, &sent);
        assert_eq!(pod, sent);
    }

    #[test]
    fn addresses_of_other_forms_are_told_of() {
        let pod =
            json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "FE80::1"}], "hostIPs": [{"ip": "10.0.0.1"}]}});
        let told = warnings(&pod);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("status.podIPs[1].ip: IPv6 address"), "{told:?}");
    }

    #[test]
    fn an_address_that_stands_alone_becomes_the_list() {
        let mut pod = json!({"status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}});
        prepare(&mut pod, &json!({}));
        assert_eq!(pod["status"]["podIPs"], json!([{"ip": "10.0.0.2"}]));
    }
}
