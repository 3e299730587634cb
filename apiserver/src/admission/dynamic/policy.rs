//! Policies, compiled.

use serde_json::Value;

use super::{binding::Binding, conditions::Condition, matching::Match};
use crate::{
    cel::{Declarations, Environment, Fields, Program, Type},
    registry::object,
};

/// A policy with what binds it.
pub(super) struct Policy {
    pub(super) name: String,
    /// Errors let pass.
    pub(super) ignores_failure: bool,
    pub(super) constraints: Result<Match, String>,
    pub(super) param_kind: Option<(String, String)>,
    pub(super) conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Result<Program, String>)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) mutations: Vec<Mutation>,
    /// It is called again where others changed the object after it.
    pub(super) reinvoked: bool,
}

/// What must be true.
pub(super) struct Validation {
    pub(super) expression: String,
    pub(super) program: Result<Program, String>,
    pub(super) message: String,
    pub(super) message_program: Option<(String, Result<Program, String>)>,
    pub(super) reason: String,
}

/// What the audit trail is told.
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) expression: String,
    pub(super) program: Result<Program, String>,
}

/// What is changed.
pub(super) struct Mutation {
    /// Operations rather than a part of the object.
    pub(super) json_patch: bool,
    pub(super) expression: String,
    pub(super) program: Result<Program, String>,
}

/// A policy and its bindings, in the order of their names.
pub(super) struct Bound {
    pub(super) policy: std::sync::Arc<Policy>,
    pub(super) bindings: Vec<std::sync::Arc<Binding>>,
}

impl Policy {
    /// Compiles a policy of either kind.
    pub(super) fn compile(json: &Value) -> Self {
        let spec = json.get("spec").unwrap_or(&Value::Null);
        let mutation = spec.get("mutations").is_some();
        let param_kind = spec
            .get("paramKind")
            .filter(|kind| kind.is_object())
            .map(|kind| (object::text(kind, &["apiVersion"]).to_owned(), object::text(kind, &["kind"]).to_owned()));
        let declared =
            Declarations { params: param_kind.is_some(), authorizer: true, mutation, ..Declarations::default() };
        let mut environment = Environment::admission(&declared);
        let conditions = Condition::compile(spec, &environment);
        let mut variables = Vec::new();
        for variable in object::list(spec, &["variables"]) {
            let name = object::text(variable, &["name"]);
            let program = compile(&environment, object::text(variable, &["expression"]), None);
            let ty = program.as_ref().map_or(Type::Dyn, |program: &Program| program.output_type().clone());
            environment = environment.with_variable(name, ty);
            variables.push((name.to_owned(), program));
        }
        let list = |key: &str| object::list(spec, &[key]);
        Self {
            name: object::name(json).to_owned(),
            ignores_failure: object::text(spec, &["failurePolicy"]) == "Ignore",
            constraints: Match::of_policy(spec.get("matchConstraints").unwrap_or(&Value::Null)),
            param_kind,
            conditions,
            variables,
            validations: list("validations").iter().map(|one| Validation::compile(one, &environment)).collect(),
            annotations: list("auditAnnotations").iter().map(|one| Annotation::compile(one, &environment)).collect(),
            mutations: list("mutations").iter().map(|one| Mutation::compile(one, &environment)).collect(),
            reinvoked: object::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

fn compile(environment: &Environment, source: &str, wanted: Option<&[Type]>) -> Result<Program, String> {
    match wanted {
        Some(wanted) => environment.compile_as(source, wanted).map_err(|error| error.to_string()),
        None => environment.compile(source).map_err(|issues| format!("compilation failed: {issues}")),
    }
}

impl Validation {
    fn compile(json: &Value, environment: &Environment) -> Self {
        let expression = object::text(json, &["expression"]).to_owned();
        let message = object::text(json, &["messageExpression"]);
        let message_program =
            (!message.is_empty()).then(|| (message.to_owned(), compile(environment, message, Some(&[Type::String]))));
        Self {
            program: compile(environment, &expression, Some(&[Type::Bool])),
            expression,
            message: object::text(json, &["message"]).to_owned(),
            message_program,
            reason: object::text(json, &["reason"]).to_owned(),
        }
    }
}

impl Annotation {
    fn compile(json: &Value, environment: &Environment) -> Self {
        let expression = object::text(json, &["valueExpression"]).to_owned();
        let program = compile(environment, &expression, Some(&[Type::String, Type::Null]));
        Self { key: object::text(json, &["key"]).to_owned(), expression, program }
    }
}

impl Mutation {
    fn compile(json: &Value, environment: &Environment) -> Self {
        let json_patch = object::text(json, &["patchType"]) == "JSONPatch";
        let part = if json_patch { "jsonPatch" } else { "applyConfiguration" };
        let expression = object::text(json, &[part, "expression"]).to_owned();
        let wanted = if json_patch {
            Type::list(Type::Object(Fields::json_patch().into()))
        } else {
            Type::Object(Fields::built("Object").into())
        };
        let program = compile(environment, &expression, Some(&[wanted]));
        Self { json_patch, expression, program }
    }
}
