//! Custom resources: kinds that come, change and go while the server runs.
//!
//! A `CustomResourceDefinition` is compiled once per change ([`definition`]) into a kind per served version ([`kind`])
//! that the generic verbs serve like any other: its schema becomes the same table that built-in kinds have ([`table`]),
//! and the rules of its values ([`rules`], [`check`]). [`follow`] watches the definitions, accepts their names
//! ([`naming`]) and lets the registry serve them.

mod announce;
pub mod approval;
pub mod check;
pub mod columns;
pub mod convert;
mod correlate;
pub mod definition;
pub mod expressions;
pub mod field_path;
pub mod finalize;
pub mod follow;
pub mod format;
pub mod jsonpath;
pub mod kind;
pub mod naming;
mod number;
pub mod rules;
pub mod shape;
pub mod table;
