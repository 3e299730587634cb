//! NetworkPolicies.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::cidr;
use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
    validation::{field::Field, selector, text},
};

/// NetworkPolicies.
pub struct NetworkPolicies;

/// The lists of rules, and their lists of peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

impl Strategy for NetworkPolicies {
    fn resource(&self) -> Resource {
        resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies").short(&["netpol"]).build()
    }

    fn default(&self, object: &mut Value) {
        for (direction, _) in DIRECTIONS {
            for rule in object::list_mut(object, &["spec", direction]).into_iter().flatten() {
                for port in object::list_mut(rule, &["ports"]).into_iter().flatten() {
                    object::set_default(port, &[], "protocol", "TCP");
                }
            }
        }
        if object::list(object, &["spec", "policyTypes"]).is_empty() {
            let mut types = vec!["Ingress"];
            if !object::list(object, &["spec", "egress"]).is_empty() {
                types.push("Egress");
            }
            object::set(object, &["spec"], "policyTypes", types);
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, &[], causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        check(object, &ranges(old), causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let whole = Field::new(object, "");
        let spec = whole.at("spec");
        let mut warnings = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for block in spec.items(direction).iter().flat_map(|rule| rule.items(peers)) {
                let block = block.at("ipBlock");
                let range = block.at("cidr");
                warnings.extend(cidr::range_warnings(&range.path, range.text()));
                for except in block.items("except") {
                    warnings.extend(cidr::range_warnings(&except.path, except.text()));
                }
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [Column::name(), Column::text("Pod-Selector", "spec.podSelector"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let selector = object::at(object, &["spec", "podSelector"]);
        let shown = match selector {
            Some(some) if !selector::is_empty(some) => table::selector_text(selector),
            _ => "<none>".to_owned(),
        };
        vec![object::name(object).into(), shown.into(), table::age(object)]
    }
}

/// Checks a policy; of its ranges those of old are let be, however they are written.
fn check(object: &Value, known: &[&str], causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec");
    selector::check(Some(spec.at("podSelector").value), "spec.podSelector", causes);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            rule.items("ports").iter().for_each(|one| port(one, causes));
            rule.items(peers).iter().for_each(|one| peer(one, known, causes));
        }
    }
    let types = spec.items("policyTypes");
    if types.len() > 2 {
        return spec.at("policyTypes").invalid("may not specify more than two policyTypes", causes);
    }
    types.iter().for_each(|one| one.one_of(&["Ingress", "Egress"], causes));
}

/// The ranges of a policy.
fn ranges(policy: &Value) -> Vec<&str> {
    let peers = DIRECTIONS.into_iter().flat_map(|(direction, peers)| {
        let rules = object::list(policy, &["spec", direction]).iter();
        rules.flat_map(move |rule| object::list(rule, &[peers]))
    });
    peers
        .filter_map(|peer| peer.get("ipBlock"))
        .flat_map(|block| block.get("cidr").into_iter().chain(object::list(block, &["except"])))
        .filter_map(Value::as_str)
        .collect()
}

fn port(port: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(protocol) = port.get("protocol") {
        protocol.one_of(&["TCP", "UDP", "SCTP"], causes);
    }
    let (number, end) = (port.at("port"), port.get("endPort"));
    match (number.value, &end) {
        (Value::Null, Some(end)) => end.invalid("may not be specified when `port` is not specified", causes),
        (Value::Null, None) => {}
        (Value::String(_), _) => {
            if let Some(end) = end {
                end.invalid("may not be specified when `port` is non-numeric", causes);
            }
            number.check(text::port_name, causes);
        }
        _ => {
            let first = number.int().unwrap_or(0);
            text::port_number(first).iter().for_each(|fault| number.invalid(fault, causes));
            if let Some(end) = end {
                let last = end.int().unwrap_or(0);
                if last < first {
                    let why = "must be greater than or equal to `port`";
                    causes.push(Cause::invalid(end.path.as_str(), &json!(first), why));
                }
                text::port_number(last).iter().for_each(|fault| end.invalid(fault, causes));
            }
        }
    }
}

fn peer(peer: &Field<'_>, known: &[&str], causes: &mut Vec<Cause>) {
    let mut selectors = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(found) = peer.get(key) {
            selectors += 1;
            selector::check(Some(found.value), &found.path, causes);
        }
    }
    match peer.get("ipBlock") {
        Some(block) => {
            ip_block(&block, known, causes);
            if selectors > 0 {
                peer.forbidden("may not specify both ipBlock and another peer", causes);
            }
        }
        None if selectors == 0 => peer.required("must specify a peer", causes),
        None => {}
    }
}

fn ip_block(block: &Field<'_>, known: &[&str], causes: &mut Vec<Cause>) {
    let strict = |range: &Field<'_>, causes: &mut Vec<Cause>| {
        if !known.contains(&range.text()) {
            range.check(cidr::strict_range, causes);
        }
    };
    let range = block.at("cidr");
    if !range.needs_text(causes) {
        return;
    }
    strict(&range, causes);
    let Some(whole) = cidr::any_range(range.text()) else { return };
    for except in block.items("except") {
        strict(&except, causes);
        if let Some(part) = cidr::any_range(except.text())
            && (!whole.contains(&part.addr()) || whole.prefix_len() >= part.prefix_len())
        {
            except.invalid("must be a strict subset of `cidr`", causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(cidr: &str, old: Option<&str>) -> Vec<String> {
        let policy = |cidr: &str| json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}});
        let (new, old) = (policy(cidr), old.map(policy));
        let mut causes = Vec::new();
        check(&new, &old.as_ref().map_or_else(Vec::new, ranges), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn ranges_are_written_strictly_unless_they_are_of_old() {
        assert_eq!(faults("10.0.0.0/8", None), Vec::<String>::new());
        assert_eq!(
            faults("10.1.0.0/8", None),
            [
                r#"spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.1.0.0/8": must not have bits set beyond the prefix length"#
            ]
        );
        assert_eq!(faults("10.1.0.0/8", Some("10.1.0.0/8")), Vec::<String>::new());
        assert_eq!(faults("010.0.0.0/8", Some("10.1.0.0/8")).len(), 1);
    }
}
