//! What holds for claims: what is asked for.

use std::collections::BTreeMap;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::lists::{class, driver, each, fully_qualified, label_value, named, raw, set};
use crate::registry::validation::{
    expression::{self, Place, Scope},
    field::Field,
    text,
};

/// Most requests, constraints, configurations and selectors.
pub(super) const MAX_ITEMS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
/// Longest expression, and longest parameters for a driver.
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const MAX_PARAMETER_BYTES: usize = 10 * 1024;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Names of requests, and of what may be had instead.
pub struct Requests(BTreeMap<String, Vec<String>>);

impl Requests {
    /// Of a claim's spec.
    #[must_use]
    pub fn of(spec: &Field<'_>) -> Self {
        let requests = spec.at("devices").items("requests");
        let names = requests.iter().map(|request| {
            let others = request.items("firstAvailable");
            (request.str("name").to_owned(), others.iter().map(|one| one.str("name").to_owned()).collect())
        });
        Self(names.collect())
    }

    fn has(&self, reference: &str) -> bool {
        match reference.split('/').collect::<Vec<_>>().as_slice() {
            [name] => self.0.contains_key(*name),
            [name, part] => self.0.get(*name).is_some_and(|parts| parts.iter().any(|own| own == part)),
            _ => false,
        }
    }

    /// Checks a reference to a request.
    pub fn check(&self, reference: &Field<'_>, causes: &mut Vec<Cause>) {
        const WHY: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let parts: Vec<&str> = reference.text().split('/').collect();
        if parts.len() > 2 {
            return reference.invalid(WHY, causes);
        }
        for part in parts {
            for fault in text::dns1123_label(part) {
                causes.push(Cause::invalid(reference.path.as_str(), &json!(part), &fault));
            }
        }
        if !self.has(reference.text()) {
            reference.invalid(WHY, causes);
        }
    }
}

/// Checks the spec of a claim.
pub fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let names = Requests::of(spec);
    let devices = spec.at("devices");
    set(&devices, "requests", MAX_ITEMS, causes, request, named("name"));
    each(&devices, "constraints", MAX_ITEMS, causes, |one, causes| constraint(one, &names, causes));
    each(&devices, "config", MAX_ITEMS, causes, |one, causes| {
        references(one, &names, causes);
        configuration(one, false, causes);
    });
}

/// Checks which requests something is about.
pub(super) fn references(owner: &Field<'_>, names: &Requests, causes: &mut Vec<Cause>) {
    set(owner, "requests", MAX_ITEMS, causes, |name, causes| names.check(name, causes), |name| json!(name.text()));
}

fn request(request: &Field<'_>, causes: &mut Vec<Cause>) {
    request.at("name").check(text::dns1123_label, causes);
    match (request.get("exactly"), request.count("firstAvailable")) {
        (None, 0) => request.required("exactly one of `exactly` or `firstAvailable` is required", causes),
        (Some(exact), 0) => asked(&exact, causes),
        (Some(_), _) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            causes.push(Cause::invalid(request.path.as_str(), &Value::Null, why));
        }
        (None, _) => set(
            request,
            "firstAvailable",
            MAX_ALTERNATIVES,
            causes,
            |one, causes| {
                one.at("name").check(text::dns1123_label, causes);
                asked(one, causes);
            },
            named("name"),
        ),
    }
}

fn asked(request: &Field<'_>, causes: &mut Vec<Cause>) {
    class(&request.at("deviceClassName"), causes);
    selectors(request, false, causes);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    let number = count.int().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => count.invalid("must not be specified when allocationMode is 'All'", causes),
        "All" => {}
        "ExactCount" if number <= 0 => {
            causes.push(Cause::invalid(count.path, &json!(number), "must be greater than zero"));
        }
        "ExactCount" => {}
        _ => mode.one_of(&["All", "ExactCount"], causes),
    }
    tolerations(request, causes);
}

/// Checks what is tolerated; however many, as upstream.
fn tolerations(owner: &Field<'_>, causes: &mut Vec<Cause>) {
    each(owner, "tolerations", usize::MAX, causes, |toleration, causes| {
        toleration.at("key").check_if_set(text::label_key, causes);
        let (operator, value) = (toleration.at("operator"), toleration.at("value"));
        match operator.text() {
            "Exists" if !value.text().is_empty() => value.invalid("must be empty for operator `Exists`", causes),
            "Exists" => {}
            "Equal" => label_value(&value, causes),
            _ => operator.needs_one_of(&["Equal", "Exists"], causes),
        }
        let effect = toleration.at("effect");
        if !effect.text().is_empty() {
            effect.one_of(&EFFECTS, causes);
        }
    });
}

/// Checks selectors of devices. Expressions that are `stored` already were found sound before, and stay.
pub fn selectors(owner: &Field<'_>, stored: bool, causes: &mut Vec<Cause>) {
    each(owner, "selectors", MAX_ITEMS, causes, |selector, causes| {
        let Some(cel) = selector.get("cel") else { return selector.at("cel").required("", causes) };
        if stored {
            return;
        }
        let text = cel.at("expression");
        if text.text().len() > MAX_EXPRESSION_BYTES {
            return causes.push(Cause::too_long(text.path, MAX_EXPRESSION_BYTES));
        }
        expression::check(&text, Place::Device, &Scope::default(), causes);
    });
}

fn constraint(constraint: &Field<'_>, names: &Requests, causes: &mut Vec<Cause>) {
    references(constraint, names, causes);
    match (constraint.get("matchAttribute"), constraint.get("distinctAttribute")) {
        (Some(name), _) | (None, Some(name)) => fully_qualified(&name, causes),
        (None, None) => {
            let why =
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            constraint.required(why, causes);
        }
    }
}

/// Checks what a driver is told. Parameters that are `stored` already may be as long as they are.
pub fn configuration(config: &Field<'_>, stored: bool, causes: &mut Vec<Cause>) {
    let Some(opaque) = config.get("opaque") else { return config.at("opaque").required("", causes) };
    driver(&opaque.at("driver"), causes);
    raw(&opaque.at("parameters"), if stored { usize::MAX } else { MAX_PARAMETER_BYTES }, causes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::new(&spec, "spec"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_request_is_exact_or_has_alternatives() {
        let alternative = json!({"name": "a", "deviceClassName": "c", "allocationMode": "All"});
        let spec = json!({"devices": {"requests": [
            {"name": "x"},
            {"name": "y", "firstAvailable": [alternative, alternative]},
        ], "constraints": [{"requests": ["y/a"], "matchAttribute": "d.example.com/a"}, {"requests": ["y/b"]}]}});
        assert_eq!(
            faults(spec),
            [
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].firstAvailable[1]: Duplicate value: \"a\"",
                "spec.devices.constraints[1].requests[0]: Invalid value: \"y/b\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ]
        );
    }
}
