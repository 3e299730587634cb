//! What holds for PodCertificateRequests when they are made.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use martello_api::status::Cause;
use martello_pki::pod_certificate::{KeyFault, StubFault, check_proof, check_stub};
use serde_json::{Value, json};

use super::signer_name;
use crate::registry::validation::{field::Field, metadata, text};

/// Longest UID of a pod, an account and a node.
const MAX_UID_BYTES: usize = 128;
/// Longest key, proof and request.
const MAX_KEY_BYTES: usize = 10 * 1024;
/// An hour, a day and 91 days: how long a certificate may be asked for, at Kubernetes' own signers and at others.
const MIN_SECONDS: i64 = 3600;
const MAX_OWN_SECONDS: i64 = 86_400;
const MAX_SECONDS: i64 = 7_862_400;

/// Checks a new request.
pub fn check(request: &Value, causes: &mut Vec<Cause>) {
    let spec = Field::new(request, "").at("spec");
    signer_name::check(&spec.at("signerName"), causes);
    user_annotations(&spec.at("unverifiedUserAnnotations"), causes);
    for (name, uid) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")] {
        spec.at(name).check(text::dns1123_subdomain, causes);
        let uid = spec.at(uid);
        if uid.text().is_empty() {
            causes.push(Cause::invalid(uid.path.as_str(), &json!(""), "must not be empty"));
        }
        if uid.text().len() > MAX_UID_BYTES {
            causes.push(Cause::too_long(uid.path, MAX_UID_BYTES));
        }
    }
    if lifetime(&spec, causes) {
        key(&spec, causes);
    }
}

/// Checks how long the certificate may be valid; answers whether that is said at all.
fn lifetime(spec: &Field<'_>, causes: &mut Vec<Cause>) -> bool {
    let seconds = spec.at("maxExpirationSeconds");
    let Some(number) = seconds.int() else {
        seconds.required("must be set", causes);
        return false;
    };
    let domain = spec.str("signerName").split('/').next().unwrap_or_default();
    let own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let most = if own { MAX_OWN_SECONDS } else { MAX_SECONDS };
    if !(MIN_SECONDS..=most).contains(&number) {
        seconds.invalid(&format!("must be in the range [{MIN_SECONDS}, {most}]"), causes);
    }
    true
}

/// Checks the key, and the proof that who asks holds it.
fn key(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let [stub, key, proof] = ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|name| spec.at(name));
    let bytes = |field: &Field<'_>| STANDARD.decode(field.text()).unwrap_or_default();
    for field in [&stub, &key, &proof] {
        if bytes(field).len() > MAX_KEY_BYTES {
            return causes.push(Cause::too_long(field.path.as_str(), MAX_KEY_BYTES));
        }
    }
    let given = [&stub, &key, &proof].map(|field| !bytes(field).is_empty());
    match given {
        [true, false, false] => {
            if let Err(fault) = check_stub(&bytes(&stub)) {
                match fault {
                    StubFault::Key(KeyFault::Modulus(bits)) => modulus(&stub, bits, &fault.to_string(), causes),
                    _ => omitted(&stub, &fault.to_string(), causes),
                }
            }
        }
        [false, true, true] => match check_proof(&bytes(&key), spec.str("podUID").as_bytes(), &bytes(&proof)) {
            Ok(()) => {}
            Err(fault @ KeyFault::Proof) => omitted(&proof, &fault.to_string(), causes),
            Err(fault @ KeyFault::Curve) => {
                causes.push(Cause::invalid(key.path.as_str(), &json!("curve P-521"), &fault.to_string()));
            }
            Err(KeyFault::Modulus(bits)) => modulus(&key, bits, &KeyFault::Modulus(bits).to_string(), causes),
            Err(fault) => key.invalid(&fault.to_string(), causes),
        },
        _ => {
            const WHY: &str = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            omitted(spec, WHY, causes);
        }
    }
}

fn modulus(field: &Field<'_>, bits: usize, why: &str, causes: &mut Vec<Cause>) {
    causes.push(Cause::invalid(field.path.as_str(), &json!(format!("{bits}-bit modulus")), why));
}

/// Complains of a value that is not shown.
pub(super) fn omitted(field: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    causes.push(Cause::new("FieldValueInvalid", field.path.as_str(), format!("Invalid value: {why}")));
}

/// Checks annotations whose keys all have a domain.
fn user_annotations(annotations: &Field<'_>, causes: &mut Vec<Cause>) {
    let path = annotations.path.as_str();
    let entries = annotations.value.as_object().into_iter().flatten();
    let mut bytes = 0;
    for (key, value) in entries {
        bytes += key.len() + value.as_str().unwrap_or_default().len();
        let key = key.to_lowercase();
        let faults = text::qualified_name(&key);
        if key.is_empty() {
            causes.push(Cause::required(path, ""));
        } else if !faults.is_empty() {
            faults.iter().for_each(|fault| causes.push(Cause::invalid(path, &json!(key), fault)));
        } else if !key.contains('/') {
            let why = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            causes.push(Cause::invalid(path, &json!(key), why));
        }
    }
    if bytes > metadata::MAX_ANNOTATION_BYTES {
        causes.push(Cause::too_long(path, metadata::MAX_ANNOTATION_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(changes: Value) -> Value {
        let mut spec = json!({"signerName": "example.com/s", "podName": "p", "podUID": "1", "serviceAccountName": "a",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86_400,
            "stubPKCS10Request": "AAAA"});
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"spec": spec})
    }

    fn faults(changes: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&request(changes), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_key_comes_with_one_proof() {
        assert_eq!(faults(json!({})), ["spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"]);
        assert_eq!(
            faults(json!({"stubPKCS10Request": null})),
            [
                "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"
            ]
        );
        assert_eq!(
            faults(json!({"stubPKCS10Request": null, "pkixPublicKey": "AAAA", "proofOfPossession": "AAAA"})),
            ["spec.pkixPublicKey: Invalid value: \"AAAA\": must be a valid PKIX-serialized public key"]
        );
    }

    #[test]
    fn a_request_says_whose_certificate_it_is_about_and_for_how_long() {
        let found = faults(json!({"podName": "P", "nodeUID": "", "maxExpirationSeconds": 60,
            "unverifiedUserAnnotations": {"plain": "x"}}));
        assert!(
            found[0]
                .starts_with("spec.unverifiedUserAnnotations: Invalid value: \"plain\": must be a domain-prefixed key")
        );
        assert!(found[1].starts_with("spec.podName: Invalid value: \"P\""));
        assert_eq!(
            found[2..4],
            [
                "spec.nodeUID: Invalid value: \"\": must not be empty",
                "spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]",
            ]
        );
        let own =
            faults(json!({"signerName": "kubernetes.io/kube-apiserver-client-pod", "maxExpirationSeconds": 86_401}));
        assert_eq!(own[0], "spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]");
    }
}
