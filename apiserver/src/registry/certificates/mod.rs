//! Kinds of the group `certificates.k8s.io`.

use super::kind::Kind;

pub mod asn1;
pub mod signer_name;
pub mod signing_request;
pub mod signing_rules;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(signing_request::SigningRequests)]
}
