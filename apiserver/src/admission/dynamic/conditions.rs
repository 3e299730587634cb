//! Match conditions: a request that does not meet all of them is not for the policy or webhook.

use serde_json::Value;

use super::input::{Input, Purse, SPENT, Trouble};
use crate::{
    cel::{Environment, MATCH_CONDITIONS_BUDGET, Program, Type, Value as Cel},
    registry::object,
};

/// A condition, compiled.
pub(super) struct Condition {
    source: String,
    program: Result<Program, String>,
}

/// What conditions say of a request.
pub(super) enum Met {
    /// It is meant.
    Yes,
    /// It is not.
    No,
    /// They can't tell.
    Unclear(String),
}

impl Condition {
    /// Compiles the conditions of a policy or webhook.
    pub(super) fn compile(spec: &Value, environment: &Environment) -> Vec<Self> {
        let list = object::list(spec, &["matchConditions"]);
        list.iter()
            .map(|condition| {
                let source = object::text(condition, &["expression"]).to_owned();
                let program = environment.compile_as(&source, &[Type::Bool]).map_err(|error| error.to_string());
                Self { source, program }
            })
            .collect()
    }
}

/// Whether a request meets all conditions: one that is false decides, whatever the others fail with. All are evaluated, and
/// none sees the namespace.
pub(super) fn met(conditions: &[Condition], variables: &[(String, Result<Program, String>)], input: &Input<'_>) -> Met {
    if conditions.is_empty() {
        return Met::Yes;
    }
    let input = input.without_namespace();
    let bindings = input.bindings(variables);
    let mut refused = false;
    let mut purse = Purse::new(MATCH_CONDITIONS_BUDGET);
    let mut errors: Vec<String> = Vec::new();
    for condition in conditions {
        match purse.evaluate(&condition.program, &condition.source, &bindings) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => refused = true,
            Err(Trouble::Failed(why)) if !errors.contains(&why) => errors.push(why),
            Err(Trouble::Failed(_)) => {}
            Err(Trouble::Spent) => return Met::Unclear(SPENT.to_owned()),
        }
    }
    if refused {
        return Met::No;
    }
    match errors.as_slice() {
        [] => Met::Yes,
        [one] => Met::Unclear(one.clone()),
        several => Met::Unclear(format!("[{}]", several.join(", "))),
    }
}
