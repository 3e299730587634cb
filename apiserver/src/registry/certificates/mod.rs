//! Kinds of the group `certificates.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod asn1;
mod kept;
pub mod pod_issued;
pub mod pod_request;
pub mod pod_rules;
pub mod signer_name;
pub mod signing_request;
pub mod signing_rules;
pub mod trust_bundle;

/// The group.
pub const GROUP: &str = "certificates.k8s.io";

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(signing_request::SigningRequests),
        Kind::unstable(trust_bundle::TrustBundles, Lifecycle::Beta(33)),
        Kind::unstable(pod_request::PodRequests, Lifecycle::Beta(35)),
        Kind::in_version(trust_bundle::TrustBundles, "v1alpha1", Lifecycle::Alpha(Some(34))),
    ]
}
