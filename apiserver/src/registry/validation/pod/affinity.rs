//! Where pods want to be: near nodes, near or far from other pods.

use std::collections::{HashMap, HashSet};

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
            // Upstream takes any value here: it is a wish.
            node_term(&preferred.at("preference"), false, causes);
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
        node_term(&term, true, causes);
    }
}

fn weight(preferred: &Field<'_>, causes: &mut Vec<Cause>) {
    let weight = preferred.at("weight");
    let number = weight.int().unwrap_or(0);
    if !(1..=100).contains(&number) {
        causes.push(Cause::invalid(weight.path, &number.into(), "must be in the range 1-100"));
    }
}

fn node_term(term: &Field<'_>, strict: bool, causes: &mut Vec<Cause>) {
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
        for value in requirement.items("values").iter().filter(|_| strict) {
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
    label_keys(term, causes);
    let key = term.at("topologyKey");
    if key.text().is_empty() {
        key.required("can not be empty", causes);
    }
    key.check(text::label_key, causes);
}

/// Checks keys whose values a pod brings: those that others must share, and those that they must not.
pub(super) fn label_keys(term: &Field<'_>, causes: &mut Vec<Cause>) {
    let labels = term.at("labelSelector");
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.count(list) > 0 && labels.value.is_null() {
            term.at(list).forbidden("must not be specified when labelSelector is not set", causes);
            continue;
        }
        term.items(list).iter().for_each(|key| key.check(text::label_key, causes));
    }
    let keys = term.items("matchLabelKeys");
    // A key that stands twice has its last place.
    let places: HashMap<&str, usize> = keys.iter().enumerate().map(|(place, key)| (key.text(), place)).collect();
    let mut seen: HashSet<&str> = labels.entries("matchLabels").into_iter().map(|(key, _)| key).collect();
    for expression in labels.items("matchExpressions") {
        let key = expression.str("key");
        // What the key itself brought is there once.
        if let Some(place) = places.get(key).filter(|_| seen.contains(&key)) {
            let path = format!("{}[{place}]", term.path);
            causes.push(Cause::invalid(path, &key.into(), "exists in both matchLabelKeys and labelSelector"));
        }
        seen.insert(key);
    }
    let others: HashSet<&str> = term.items("mismatchLabelKeys").iter().map(Field::text).collect();
    for key in keys {
        if others.contains(key.text()) {
            key.invalid("exists in both matchLabelKeys and mismatchLabelKeys", causes);
        }
    }
}
