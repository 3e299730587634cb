//! Where pods want to be: near nodes, near or far from other pods.

use martello_api::status::Cause;

use crate::registry::validation::{field::Field, selector, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const OPERATOR: &str = "not a valid selector operator";

/// Checks affinity.
pub(super) fn check(affinity: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(nodes) = affinity.get("nodeAffinity") {
        if let Some(required) = nodes.get(REQUIRED) {
            node_selector(&required, causes);
        }
        for preferred in nodes.items(PREFERRED) {
            weight(&preferred, causes);
            node_term(&preferred.at("preference"), causes);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(kind) else { continue };
        for term in pods.items(REQUIRED) {
            pod_term(&term, causes);
        }
        for preferred in pods.items(PREFERRED) {
            weight(&preferred, causes);
            pod_term(&preferred.at("podAffinityTerm"), causes);
        }
    }
}

/// Checks a selector of nodes.
pub fn node_selector(selector: &Field<'_>, causes: &mut Vec<Cause>) {
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        selector.at("nodeSelectorTerms").required("must have at least one node selector term", causes);
    }
    for term in terms {
        node_term(&term, causes);
    }
}

fn weight(preferred: &Field<'_>, causes: &mut Vec<Cause>) {
    let weight = preferred.at("weight");
    let number = weight.int().unwrap_or(0);
    if !(1..=100).contains(&number) {
        causes.push(Cause::invalid(weight.path, &number.into(), "must be in the range 1-100"));
    }
}

fn node_term(term: &Field<'_>, causes: &mut Vec<Cause>) {
    for requirement in term.items("matchExpressions") {
        let (operator, values) = (requirement.at("operator"), requirement.at("values"));
        let count = requirement.count("values");
        match operator.text() {
            "In" | "NotIn" if count == 0 => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'", causes);
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", causes);
            }
            "Gt" | "Lt" if count != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", causes);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => operator.invalid(OPERATOR, causes),
        }
        requirement.at("key").check(text::label_key, causes);
        for value in requirement.items("values") {
            value.check(text::label_value, causes);
        }
    }
    for requirement in term.items("matchFields") {
        let (key, operator) = (requirement.at("key"), requirement.at("operator"));
        match operator.text() {
            "In" | "NotIn" if requirement.count("values") != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                requirement.at("values").required(why, causes);
            }
            "In" | "NotIn" => {}
            _ => operator.invalid(OPERATOR, causes),
        }
        if key.text() == "metadata.name" {
            requirement.items("values").iter().for_each(|value| value.check(text::dns1123_subdomain, causes));
        } else {
            key.invalid("not a valid field selector key", causes);
        }
    }
}

fn pod_term(term: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["labelSelector", "namespaceSelector"] {
        let found = term.at(key);
        selector::check(Some(found.value), &found.path, causes);
    }
    for namespace in term.items("namespaces") {
        Field::new(namespace.value, format!("{}.namespace", term.path)).check(text::dns1123_label, causes);
    }
    topology_key(term, causes);
}

/// Checks the key that says what counts as one place.
pub(super) fn topology_key(term: &Field<'_>, causes: &mut Vec<Cause>) {
    let key = term.at("topologyKey");
    if key.text().is_empty() {
        key.required("can not be empty", causes);
    }
    key.check(text::label_key, causes);
}
