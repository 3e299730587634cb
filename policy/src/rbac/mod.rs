//! RBAC: rules and bindings, which of them can concern a request, and each as a Cedar policy.

mod aggregate;
mod compile;
mod index;
#[cfg(test)]
pub(crate) mod naive;
mod rule;

pub use aggregate::{aggregate, is_selected};
pub use compile::{PolicyBroken, policy_text};
pub use index::{Binding, BindingKey, Grant, RoleKey, Subject};
pub(crate) use index::{Candidate, Index};
pub use rule::Rule;
