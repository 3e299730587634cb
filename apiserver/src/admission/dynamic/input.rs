//! What expressions of policies and match conditions see.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use martello_api::attributes::{Attributes, ResourceTarget};
use martello_policy::{Authorizer as Policies, Decision as Answer};
use parking_lot::Mutex;
use serde_json::Value;

use super::request::Request;
use crate::cel::{
    Authority, Authorizer, Bindings, Budget, Decision, ErrorKind, EvalError, Lazy, Map, Meter, PER_CALL_LIMIT, Program,
    Value as Cel,
};

/// What one evaluation is about.
#[derive(Clone)]
pub(super) struct Input<'a> {
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
    pub(super) request: &'a Value,
    pub(super) namespace: &'a Value,
    pub(super) params: &'a Value,
    /// None for expressions that must not ask what the user may do.
    pub(super) authorizer: Option<Authorizer>,
    pub(super) target: ResourceTarget,
}

/// Null, for what is not there.
pub(super) const NOTHING: &Value = &Value::Null;

/// Who decides what the user of a request may do.
pub(super) fn authorizer(request: &Request<'_>) -> Option<Authorizer> {
    let authority = Arc::new(Decider(request.core.authorizer.clone()));
    Some(Authorizer::new(authority, Arc::clone(&request.call.user)))
}

struct Decider(Policies);

impl Authority for Decider {
    fn decide(&self, call: &Attributes) -> Decision {
        match self.0.authorize(call) {
            Answer::Allow(permit) => {
                Decision { allowed: true, reason: permit.reason().to_string(), error: String::new() }
            }
            Answer::Deny(_) => Decision { allowed: false, reason: String::new(), error: String::new() },
        }
    }
}

impl<'a> Input<'a> {
    /// The same without the namespace, which conditions don't see.
    pub(super) fn without_namespace(&self) -> Self {
        Self { namespace: NOTHING, ..self.clone() }
    }

    /// The same without the authorizer, which messages and audit annotations don't see.
    pub(super) fn without_authorizer(&self) -> Self {
        Self { authorizer: None, ..self.clone() }
    }

    /// Values of all variables; those of the policy are worked out when they are looked at, once.
    pub(super) fn bindings(&self, variables: &'a [(String, Result<Program, String>)]) -> Bindings<'a> {
        let mut bindings = Bindings::new();
        bindings.set("object", Cel::view(self.object, None));
        bindings.set("oldObject", Cel::view(self.old, None));
        bindings.set("request", Cel::view(self.request, None));
        bindings.set("namespaceObject", Cel::view(self.namespace, None));
        bindings.set("params", Cel::view(self.params, None));
        if let Some(authorizer) = &self.authorizer {
            bindings.set("authorizer", authorizer.value());
            bindings.set("authorizer.requestResource", authorizer.for_resource(self.target.clone()));
        }
        if !variables.is_empty() {
            let composed = Arc::new_cyclic(|own| Variables {
                own: own.clone(),
                programs: variables,
                bindings: bindings.clone(),
                known: Mutex::default(),
            });
            bindings.set("variables", Cel::Map(Map::Lazy(composed)));
        }
        bindings
    }
}

/// Variables of a policy.
struct Variables<'a> {
    own: Weak<Self>,
    programs: &'a [(String, Result<Program, String>)],
    bindings: Bindings<'a>,
    known: Mutex<Vec<(&'a str, Result<Cel<'a>, EvalError>)>>,
}

impl<'a> Lazy<'a> for Variables<'a> {
    fn get(&self, name: &str, meter: &Meter) -> Option<Result<Cel<'a>, EvalError>> {
        if let Some((_, known)) = self.known.lock().iter().find(|(own, _)| *own == name) {
            return Some(known.clone());
        }
        let (name, program) = self.programs.iter().find(|(own, _)| own == name)?;
        let result = match program {
            Ok(program) => {
                let mut bindings = self.bindings.clone();
                if let Some(own) = self.own.upgrade() {
                    bindings.set("variables", Cel::Map(Map::Lazy(own)));
                }
                let own = meter.apart(PER_CALL_LIMIT);
                let result = program.evaluate_on(&bindings, &own).map_err(|error| EvalError {
                    // To the expression that looks at it, what the variable fails with is an error like others.
                    kind: if error.kind == ErrorKind::CostExceeded { ErrorKind::Runtime } else { error.kind },
                    message: format!("composited variable {name:?} fails to evaluate: {error}").into(),
                });
                meter.settle(&own);
                result
            }
            Err(why) => Err(EvalError::runtime(format!("composited variable {name:?} fails to compile: {why}"))),
        };
        self.known.lock().push((name, result.clone()));
        Some(result)
    }
}

/// What is left to spend on expressions that belong together.
pub(super) struct Purse {
    left: u64,
    deadline: Option<Instant>,
}

/// Why an expression of a policy has no value.
pub(super) enum Trouble {
    /// It failed.
    Failed(String),
    /// What belongs together costs too much.
    Spent,
}

/// Upstream's words for that.
pub(super) const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Purse {
    pub(super) fn new(left: u64) -> Self {
        Self { left, deadline: Budget::of(left).deadline }
    }

    /// Evaluates an expression.
    pub(super) fn evaluate<'a>(
        &mut self,
        program: &'a Result<Program, String>,
        source: &str,
        bindings: &Bindings<'a>,
    ) -> Result<Cel<'a>, Trouble> {
        let program = program.as_ref().map_err(|why| Trouble::Failed(format!("compilation error: {why}")))?;
        let evaluation = program.evaluate(bindings, Budget { limit: PER_CALL_LIMIT, deadline: self.deadline });
        let spent = evaluation.cost > self.left;
        self.left = self.left.saturating_sub(evaluation.cost);
        if spent {
            return Err(Trouble::Spent);
        }
        let failed = |error| Trouble::Failed(format!("expression '{source}' resulted in error: {error}"));
        evaluation.result.map_err(failed)
    }
}
