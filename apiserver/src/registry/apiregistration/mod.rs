//! Kinds of the group `apiregistration.k8s.io`: who serves which group.

use super::kind::Kind;

pub mod api_service;
pub mod local;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(api_service::ApiServices)]
}
