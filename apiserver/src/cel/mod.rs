//! The Common Expression Language as Kubernetes uses it: rules of custom resources, admission policies, match conditions.
//!
//! Pure: no IO, no clock but the deadline that is passed in. An [`Environment`] says what names mean; in it an expression
//! is compiled to a [`Program`], or refused with upstream's messages; a program is evaluated on [`Bindings`] whose values
//! are views of JSON, within a [`Budget`]. Depth, size and cost are bounded: what is built is measured before it is
//! built, and besides the cost there is a deadline.

mod ast;
mod charge;
mod check;
mod compare;
mod declared;
mod estimate;
mod eval;
mod fixed;
mod format_check;
pub mod functions;
mod homogeneous;
mod json;
mod lexer;
mod limits;
mod macros;
mod meter;
mod opaque;
mod parser;
mod program;
mod read;
mod recovery;
mod schema;
mod source;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_limits;
#[cfg(test)]
mod tests_words;
mod types;
mod unfit;
mod value;
mod words;

pub use estimate::Cost;
pub use eval::Bindings;
pub use functions::authorizer::{Authority, Authorizer, Decision};
pub use json::whole_part;
pub use meter::{Budget, ErrorKind, EvalError, Meter};
pub use program::{CompileError, Declarations, Environment, Evaluation, Old, Program};
pub use schema::{Fields, Schema, escape};
pub use source::Issues;
pub use types::Type;
pub use value::{Entries, Lazy, List, Map, Object, Text, Value};
pub use words::is_no_name;

/// Longest time that evaluations that belong together may take. Cost bounds what they should take; this bounds what they do,
/// since a unit of cost is not the same time for every function.
pub const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(10);
/// Most cost of one evaluation: about a tenth of a second upstream.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Most cost of all rules on one custom resource, or of all policies of one request.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// Most cost of all match conditions of one webhook or policy.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// Most estimated cost of one rule.
pub const RULE_ESTIMATE_LIMIT: u64 = 10_000_000;
/// Most estimated cost of all rules of a schema.
pub const TOTAL_ESTIMATE_LIMIT: u64 = 100_000_000;
