//! The addresses of Services by their families, in a cluster that has one family: IPv4.

use std::collections::HashSet;
use std::net::IpAddr;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{networking::cidr, object, validation::field::Field};

/// The family that the cluster has.
const OWN: &str = "IPv4";
const OTHER: &str = "IPv6";
const POLICY: &str = "spec.ipFamilyPolicy";

/// Fills in what follows from what is there: the list of addresses, the policy and the families.
pub fn settle(service: &mut Value, old: Option<&Value>) {
    if object::text(service, &["spec", "type"]) == "ExternalName" {
        return;
    }
    let first = object::text(service, &["spec", "clusterIP"]).to_owned();
    if old.is_none() && !first.is_empty() && addresses(service).is_empty() {
        object::set(service, &["spec"], "clusterIPs", json!([first]));
    }
    if object::at(service, &["spec", "ipFamilyPolicy"]).is_none_or(object::is_zero) {
        let policy = match old.map(|old| object::text(old, &["spec", "ipFamilyPolicy"])).filter(|own| !own.is_empty()) {
            Some(before) => before,
            None if is_bare(service) => "RequireDualStack",
            None => "SingleStack",
        };
        object::set(service, &["spec"], "ipFamilyPolicy", policy);
    }
    if let Some(old) = old.filter(|_| object::text(service, &["spec", "ipFamilyPolicy"]) == "SingleStack") {
        for key in ["clusterIPs", "ipFamilies"] {
            let own = object::list(service, &["spec", key]).to_vec();
            if own.len() > 1 && own == object::list(old, &["spec", key]) {
                object::set(service, &["spec"], key, own.into_iter().take(1).collect::<Vec<_>>());
            }
        }
    }
    let given_up = old.is_some_and(|old| reduced(service, old, "ipFamilies"));
    infer(service, given_up);
}

/// Adds the families of addresses, and the one that a Service has where it says nothing; the other one too where a Service
/// has both and did not just give one up.
fn infer(service: &mut Value, given_up: bool) {
    let mut families = object::list(service, &["spec", "ipFamilies"]).to_vec();
    for address in addresses(service).iter().skip(families.len()) {
        if address != "None" && family_of(address) == Some(OWN) {
            families.push(json!(OWN));
        }
    }
    if families.is_empty() && addresses(service).iter().all(|address| address == "None") {
        families.push(json!(OWN));
    }
    let single = object::text(service, &["spec", "ipFamilyPolicy"]) == "SingleStack";
    if is_bare(service) && families.len() == 1 && !single && !given_up {
        families.push(json!(if families.first() == Some(&json!(OWN)) { OTHER } else { OWN }));
    }
    if !families.is_empty() {
        object::set(service, &["spec"], "ipFamilies", families);
    }
}

fn addresses(service: &Value) -> Vec<String> {
    let all = object::list(service, &["spec", "clusterIPs"]);
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Headless and without a selector: somebody else writes its endpoints, of any family.
fn is_bare(service: &Value) -> bool {
    addresses(service).first().is_some_and(|first| first == "None")
        && object::at(service, &["spec", "selector"]).is_none_or(object::is_zero)
}

fn family_of(address: &str) -> Option<&'static str> {
    cidr::any_ip(address).map(|ip| if matches!(ip, IpAddr::V6(_)) { OTHER } else { OWN })
}

/// What is wrong with addresses and families of a settled Service. The first step that finds something ends the search.
#[must_use]
pub fn check(service: &Value, old: Option<&Value>) -> Vec<Cause> {
    let whole = Field::new(service, "");
    let (spec, mut causes) = (&whole.at("spec"), Vec::new());
    if spec.str("type") == "ExternalName" {
        return causes;
    }
    related(spec, &mut causes);
    if causes.is_empty() {
        causes = old.map(|old| given_up(service, old)).unwrap_or_default();
        fitting(spec, &mut causes);
    }
    let bare = spec.str("clusterIP") == "None" && spec.at("selector").is_empty();
    if causes.is_empty() && !bare {
        configured(spec, &mut causes);
    }
    causes
}

fn related(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (first, list) = (spec.str("clusterIP"), spec.at("clusterIPs"));
    let all = spec.items("clusterIPs");
    match (first, all.first().map(Field::text)) {
        ("", None) => {}
        ("", Some(_)) => list.invalid("must be empty when `clusterIP` is not specified", causes),
        (_, None) => list.required("", causes),
        (own, Some(other)) if own != other => list.invalid("first value must match `clusterIP`", causes),
        _ => {}
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for family in spec.items("ipFamilies") {
        family.one_of(&["IPv4", "IPv6"], causes);
        if seen.contains(&family.text()) {
            family.duplicate(causes);
        }
        seen.insert(family.text());
    }
    if let Some(policy) = spec.get("ipFamilyPolicy") {
        policy.one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], causes);
    }
    let before = causes.len();
    for (index, address) in all.iter().enumerate() {
        if index > 0 || address.text() != "None" {
            address.check(cidr::strict_ip, causes);
        } else if all.len() > 1 {
            list.invalid("'None' must be the first and only value", causes);
        }
    }
    let unreadable = causes.len() > before;
    if all.len() > 2 {
        list.invalid("may only hold up to 2 values", causes);
    }
    if unreadable {
        return;
    }
    let families: Vec<Option<&str>> = all.iter().map(|address| family_of(address.text())).collect();
    let one_of_each = matches!(families.as_slice(), [one, other] if one != other);
    if all.len() > 1
        && !one_of_each
        && !(all.len() > 2 && families.contains(&Some(OWN)) && families.contains(&Some(OTHER)))
    {
        list.invalid("may specify no more than one IP for each IP family", causes);
    }
    for (index, (address, family)) in all.iter().zip(spec.items("ipFamilies")).enumerate() {
        if address.text() != "None" && family_of(address.text()).is_some_and(|own| own != family.text()) {
            let why = format!("expected an {} value as indicated by `ipFamilies[{index}]`", family.text());
            address.invalid(&why, causes);
        }
    }
}

/// Checks the policy against the lists, and addresses without a family.
fn fitting(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let policy = spec.at("ipFamilyPolicy");
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if policy.text() == "SingleStack" && spec.count(key) == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            policy.invalid(&why, causes);
        }
    }
    for address in spec.items("clusterIPs").iter().skip(spec.count("ipFamilies")).filter(|one| one.text() != "None") {
        if family_of(address.text()) == Some(OTHER) {
            let why = format!("{OTHER} is not configured on this cluster");
            causes.push(Cause::invalid(address.path.as_str(), spec.at("clusterIPs").value, &why));
        }
    }
}

fn configured(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let policy = spec.at("ipFamilyPolicy");
    if policy.text() == "RequireDualStack" {
        policy.invalid("this cluster is not configured for dual-stack services", causes);
    }
    for family in spec.items("ipFamilies").iter().filter(|family| family.text() != OWN) {
        family.invalid("not configured on this cluster", causes);
    }
}

/// Whether the list under `key` got shorter. One that is left out does not.
fn reduced(new: &Value, old: &Value, key: &str) -> bool {
    let of = |service: &Value| object::list(service, &["spec", key]).len();
    of(new) != 0 && of(new) < of(old) && object::text(new, &["spec", "ipFamilyPolicy"]) != "SingleStack"
}

/// What is wrong with a Service that gave something up.
fn given_up(new: &Value, old: &Value) -> Vec<Cause> {
    let policy = object::text(new, &["spec", "ipFamilyPolicy"]);
    let mut causes = Vec::new();
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        if reduced(new, old, key) {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            causes.push(Cause::invalid(POLICY, &json!(policy), &why));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(mut service: Value) -> Vec<String> {
        settle(&mut service, None);
        let causes = check(&service, None);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_bare_headless_service_has_both_families() {
        let mut service = json!({"spec": {"clusterIP": "None"}});
        settle(&mut service, None);
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert_eq!(service["spec"]["ipFamilyPolicy"], "RequireDualStack");
        assert_eq!(faults(service), Vec::<String>::new());
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        assert_eq!(
            faults(json!({"spec": {"clusterIP": "nope", "ipFamilyPolicy": "RequireDualStack"}})),
            [
                "spec.clusterIPs[0]: Invalid value: \"nope\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            ]
        );
        assert_eq!(
            faults(json!({"spec": {"clusterIP": "2001:db8::1"}})),
            ["spec.clusterIPs[0]: Invalid value: [\"2001:db8::1\"]: IPv6 is not configured on this cluster"]
        );
        assert_eq!(
            faults(json!({"spec": {"ipFamilies": ["IPv6"]}})),
            ["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]
        );
    }

    #[test]
    fn a_family_is_given_up_by_policy_only() {
        let old = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack"}});
        let mut new = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "RequireDualStack"}});
        settle(&mut new, Some(&old));
        let told: Vec<String> = check(&new, Some(&old)).into_iter().map(|cause| cause.message).collect();
        assert_eq!(
            told,
            ["Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family"]
        );
        new["spec"]["ipFamilyPolicy"] = json!("SingleStack");
        settle(&mut new, Some(&old));
        assert_eq!(check(&new, Some(&old)).len(), 0);
        assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
    }
}
