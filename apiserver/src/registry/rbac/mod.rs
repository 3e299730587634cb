//! Kinds of the group `rbac.authorization.k8s.io`. What is committed is known to the authorizer before the answer goes out.

use super::kind::Kind;

pub mod bindings;
pub mod guard;
pub mod roles;

const GROUP: &str = "rbac.authorization.k8s.io";

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(bindings::Bindings { cluster: true }),
        Kind::new(roles::Roles { cluster: true }),
        Kind::new(bindings::Bindings { cluster: false }),
        Kind::new(roles::Roles { cluster: false }),
    ]
}
