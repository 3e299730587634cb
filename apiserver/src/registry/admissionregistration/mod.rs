//! Kinds of the group `admissionregistration.k8s.io`: who else has a say in what is stored.

use serde_json::Value;

use super::{
    kind::{Kind, Lifecycle},
    object,
};

pub mod binding;
pub mod policy;
pub mod policy_rules;
mod read_access;
pub mod rules;
pub mod webhook_rules;
pub mod webhooks;

use binding::Bindings;
use policy::Policies;
use webhooks::Webhooks;

/// The group.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// How names end that belong to what is configured by files.
const RESERVED_SUFFIX: &str = ".static.k8s.io";

/// What is told of a name that belongs to what is configured by files.
fn name_warnings(object: &Value) -> Vec<String> {
    if !object::name(object).ends_with(RESERVED_SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with {RESERVED_SUFFIX:?} are reserved for static manifest-based configurations and cannot be managed via the API"
    )]
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_belongs_to_files_is_told_of() {
        let named = |name: &str| name_warnings(&json!({"metadata": {"name": name}}));
        assert!(named("a.example.com").is_empty());
        assert_eq!(
            named("a.static.k8s.io"),
            [
                "metadata.name: names ending with \".static.k8s.io\" are reserved for static manifest-based configurations and cannot be managed via the API"
            ]
        );
    }
}
