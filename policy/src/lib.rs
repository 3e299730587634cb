//! Authorization and admission decided by Cedar.
//!
//! [`Authorizer`] answers every request with a [`Decision`]: a [`Permit`], without which no registry handler can be
//! called, or a [`Denial`] that says what was asked and what would have allowed it. It is kept up to date with the RBAC
//! objects ([`rbac`]) and with what each node's pods refer to ([`node`]). [`escalation`] guards writes of roles and
//! bindings, [`bootstrap`] holds the default roles, [`admission`] judges pods.
//!
//! RBAC only permits, so the union of many policies can be evaluated in parts without changing the answer: the policies
//! that can concern a request are selected by subject, scope and resource, and Cedar decides on those alone. A policy that
//! fails to evaluate denies (Cedar by itself would skip it).

pub mod admission;
mod authorizer;
pub mod bootstrap;
mod builtin;
mod cache;
mod change;
mod decision;
pub mod escalation;
mod explain;
pub mod node;
mod order;
pub mod rbac;
mod request;
mod rules;

pub use authorizer::Authorizer;
pub use change::{Change, ChangeError};
pub use decision::{Decision, Denial, Permit, Reason};
pub use explain::{Considered, Explanation};
