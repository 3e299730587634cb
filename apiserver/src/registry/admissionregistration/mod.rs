//! Kinds of the group `admissionregistration.k8s.io`: who else has a say in what is stored.

use super::kind::{Kind, Lifecycle};

pub mod binding;
pub mod policy;
pub mod policy_rules;
pub mod rules;
pub mod webhook_rules;
pub mod webhooks;

use binding::Bindings;
use policy::Policies;
use webhooks::Webhooks;

/// The group.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(Policies::Mutating),
        Kind::new(Bindings::Mutating),
        Kind::new(Webhooks::Mutating),
        Kind::new(Policies::Validating),
        Kind::new(Bindings::Validating),
        Kind::new(Webhooks::Validating),
        Kind::in_version(Policies::Mutating, "v1beta1", Lifecycle::Beta(34)),
        Kind::in_version(Bindings::Mutating, "v1beta1", Lifecycle::Beta(34)),
        Kind::in_version(Policies::Mutating, "v1alpha1", Lifecycle::Alpha(None)),
        Kind::in_version(Bindings::Mutating, "v1alpha1", Lifecycle::Alpha(None)),
    ]
}
