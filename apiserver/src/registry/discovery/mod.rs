//! Kinds of the group `discovery.k8s.io`.

use super::kind::Kind;

pub mod endpoint_slice;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(endpoint_slice::EndpointSlices)]
}
