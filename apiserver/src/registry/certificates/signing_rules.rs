//! What holds for CertificateSigningRequests.

use std::{cmp::Ordering, collections::HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use martello_api::status::Cause;
use martello_pki::request::{RequestError, SigningRequest, check_certificates};
use serde_json::{Value, json};

use super::{asn1, signer_name};
use crate::registry::{object, validation::field::Field};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Shortest life that can be asked for: ten minutes.
const MIN_SECONDS: i64 = 600;
const LEGACY: &str = "kubernetes.io/legacy-unknown";
const CONDITIONS: &str = "status.conditions";

/// What a write may do besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct May {
    /// Approve and deny.
    pub approve: bool,
    /// Set the certificate.
    pub issue: bool,
}

/// Checks a request.
pub fn check(request: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(request, "");
    let spec = whole.at("spec");
    let asked = spec.at("request");
    let pem = STANDARD.decode(asked.text()).unwrap_or_default();
    if let Err(error) = SigningRequest::from_pem(&pem) {
        let told = match error {
            RequestError::Malformed(_) => asn1::malformed(&pem),
            RequestError::Signature => asn1::unsigned(&pem).map(str::to_owned),
            _ => None,
        };
        let why = told.unwrap_or_else(|| error.to_string());
        causes.push(Cause::invalid(asked.path, &json!(asked.value.as_str()), &why));
    }
    let usages = spec.items("usages");
    if usages.is_empty() {
        spec.at("usages").required("", causes);
    }
    usages.iter().for_each(|usage| usage.one_of(&USAGES, causes));
    let mut seen = HashSet::new();
    for usage in &usages {
        if seen.contains(&usage.text()) {
            usage.duplicate(causes);
        }
        seen.insert(usage.text());
    }
    let signer = spec.at("signerName");
    if signer.text() == LEGACY {
        signer.invalid("the legacy signerName is not allowed via this API version", causes);
    } else {
        signer_name::check(&signer, causes);
    }
    let seconds = spec.at("expirationSeconds");
    if seconds.int().is_some_and(|number| number < MIN_SECONDS) {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)", causes);
    }
    conditions(&whole.at("status"), causes);
    let certificate = object::text(request, &["status", "certificate"]);
    if !certificate.is_empty()
        && let Err(error) = check_certificates(&STANDARD.decode(certificate).unwrap_or_default())
    {
        causes.push(Cause::invalid("status.certificate", &json!("<certificate data>"), &error.to_string()));
    }
}

fn conditions(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let (mut approved, mut denied) = (false, false);
    let mut seen = HashSet::new();
    for condition in status.items("conditions") {
        let kind = condition.at("type");
        kind.needs_text(causes);
        let decided = matches!(kind.text(), "Approved" | "Denied" | "Failed");
        let truth: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        condition.at("status").needs_one_of(truth, causes);
        approved |= kind.text() == "Approved";
        denied |= kind.text() == "Denied";
        if approved && denied && matches!(kind.text(), "Approved" | "Denied") {
            let why = "Approved and Denied conditions are mutually exclusive";
            causes.push(Cause::invalid(CONDITIONS, kind.value, why));
        }
        if seen.contains(&kind.text()) {
            kind.duplicate(causes);
        }
        seen.insert(kind.text());
    }
}

/// Checks a changed request against what it was.
pub fn check_update(request: &Value, old: &Value, may: May, causes: &mut Vec<Cause>) {
    let of = |request: &Value, kind: &str| -> Vec<Value> {
        let all = object::list(request, &["status", "conditions"]);
        all.iter().filter(|one| object::text(one, &["type"]) == kind).cloned().collect()
    };
    let count = |request: &Value, kind: &str| of(request, kind).len();
    for kind in ["Approved", "Denied", "Failed"] {
        if count(request, kind) < count(old, kind) {
            causes.push(Cause::forbidden(CONDITIONS, &format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| !may.approve) {
        let (new, was) = (of(request, kind), of(old, kind));
        match new.len().cmp(&was.len()) {
            Ordering::Greater => {
                let why = format!("updates may not add a condition of type {kind:?}");
                causes.push(Cause::forbidden(CONDITIONS, &why));
            }
            Ordering::Equal if new != was => {
                let why = format!("updates may not modify a condition of type {kind:?}");
                causes.push(Cause::forbidden(CONDITIONS, &why));
            }
            _ => {}
        }
    }
    let certificate = |request: &Value| object::text(request, &["status", "certificate"]).to_owned();
    let (new, was) = (certificate(request), certificate(old));
    if new != was && !may.issue {
        causes.push(Cause::forbidden("status.certificate", "updates may not set certificate content"));
    } else if new != was && !was.is_empty() {
        causes.push(Cause::forbidden("status.certificate", "updates may not modify existing certificate content"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signs_does_not_touch_what_was_decided() {
        let decided = |reason: &str| json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": reason}]}});
        let faults = |new: &Value, may: May| {
            let mut causes = Vec::new();
            check_update(new, &decided("a"), may, &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        let signer = May { issue: true, approve: false };
        assert!(faults(&decided("a"), signer).is_empty());
        assert_eq!(
            faults(&decided("b"), signer),
            ["Forbidden: updates may not modify a condition of type \"Approved\""]
        );
        assert!(faults(&decided("b"), May { issue: false, approve: true }).is_empty());
    }
}
