//! Selectors of objects: by labels (as text and as `LabelSelector`) and by fields.

mod field;
mod label;
mod lexer;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// Why a selector can't be read, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Text that is no label selector.
    #[error("{0}")]
    Syntax(String),
    /// A requirement of a label selector that is malformed.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A term of a field selector without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The part of it.
        term: String,
    },
    /// A field selector whose value is badly escaped.
    #[error("invalid field selector: {0}")]
    Escape(String),
    /// An operator that `LabelSelector` objects do not have.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
}
