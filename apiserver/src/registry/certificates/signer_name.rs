//! Names of signers: `domain/path`.

use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    status::Cause,
};
use serde_json::json;

use super::GROUP;
use crate::{
    registry::{
        call::Call,
        validation::{field::Field, text},
    },
    server::Core,
};

/// Longest domain, and longest path: a label, a dot and a subdomain.
const MAX_DOMAIN_BYTES: usize = 253;
const MAX_NAME_BYTES: usize = MAX_DOMAIN_BYTES + 1 + 253 + 1 + 63;

/// Checks the name of a signer.
pub fn check(name: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some((domain, path)) = name.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        if name.text().is_empty() {
            name.required("", causes);
        }
        return name_is_no_path(name, causes);
    };
    let refuse = |value: &str, why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(name.path.as_str(), &json!(value), why));
    };
    if domain.len() > MAX_DOMAIN_BYTES {
        causes.push(Cause::too_long(name.path.as_str(), MAX_DOMAIN_BYTES));
    }
    let labels: Vec<&str> = domain.split('.').collect();
    if let Some((label, faults)) = first_fault(&labels, text::dns1123_label) {
        faults.iter().for_each(|why| refuse(domain, &format!("validating label {label:?}: {why}"), causes));
    }
    if labels.len() < 2 {
        refuse(domain, "should be a domain with at least two segments separated by dots", causes);
    }
    let labels: Vec<&str> = path.split('.').collect();
    if let Some((label, faults)) = first_fault(&labels, text::dns1123_subdomain) {
        faults.iter().for_each(|why| refuse(path, &format!("validating label {label:?}: {why}"), causes));
    }
    if name.text().len() > MAX_NAME_BYTES {
        causes.push(Cause::too_long(name.path.as_str(), MAX_NAME_BYTES));
    }
}

fn name_is_no_path(name: &Field<'_>, causes: &mut Vec<Cause>) {
    let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    causes.push(Cause::invalid(name.path.as_str(), &json!(name.text()), why));
}

fn first_fault<'l>(labels: &[&'l str], rule: impl Fn(&str) -> text::Faults) -> Option<(&'l str, text::Faults)> {
    labels.iter().map(|label| (*label, rule(label))).find(|(_, faults)| !faults.is_empty())
}

/// The names under which the right to use a signer may be given: itself, and all of its domain.
#[must_use]
pub fn grants(name: &str) -> [String; 2] {
    let domain = name.split('/').next().unwrap_or_default();
    [name.to_owned(), format!("{domain}/*")]
}

/// Whether who calls may do this in the name of a signer: approve, sign or attest.
pub fn may(core: &Core, call: &Call, verb: &str, signer: &str) -> bool {
    grants(signer).into_iter().any(|name| {
        let target = ResourceTarget {
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..ResourceTarget::default()
        };
        let attributes =
            Attributes { user: Arc::clone(&call.user), verb: verb.to_owned(), target: Target::Resource(target) };
        core.authorizer.authorize(&attributes).is_allowed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str) -> usize {
        let (value, mut causes) = (json!(name), Vec::new());
        check(&Field::new(&value, "n"), &mut causes);
        causes.len()
    }

    #[test]
    fn a_signer_is_a_domain_and_a_path() {
        assert_eq!(["example.com/s", "kubernetes.io/kubelet-serving", "a.b/c.d"].map(faults), [0, 0, 0]);
        assert_eq!(["s", "a.b/c/d", "a/b", "A.b/c", "a.b/C"].map(faults), [1, 1, 1, 1, 1]);
        assert_eq!(grants("a.b/c"), ["a.b/c", "a.b/*"]);
    }
}
