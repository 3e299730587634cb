//! Expressions in CEL that objects carry: the one place where they are compiled before they are stored.

use std::sync::Arc;

use martello_api::status::Cause;

use super::field::Field;
use crate::cel::{CompileError, Declarations, Environment, Fields, Type};

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
    /// Whether the object has variables at all; where it has none, `variables` is no name.
    pub composed: bool,
    /// Names and expressions of variables, those that came before first.
    pub variables: Vec<(String, String)>,
}

/// Checks that an expression compiles and evaluates to what its place asks for.
pub fn check(expression: &Field<'_>, place: Place, scope: &Scope, causes: &mut Vec<Cause>) {
    let environment = environment(place, scope);
    let text = expression.text();
    let wanted = match place {
        Place::MatchCondition | Place::Validation => vec![Type::Bool],
        Place::Device => vec![Type::Bool, Type::Dyn],
        Place::Message => vec![Type::String],
        Place::AuditAnnotation => vec![Type::String, Type::Null],
        Place::ApplyConfiguration => vec![Type::Object(Arc::new(Fields::built("Object")))],
        Place::JsonPatch => vec![Type::list(Type::Object(Arc::new(Fields::json_patch())))],
        Place::Variable => {
            if let Err(issues) = environment.compile(text) {
                expression.invalid(&format!("compilation failed: {issues}"), causes);
            }
            return;
        }
    };
    match environment.compile_as(text, &wanted) {
        Err(CompileError::Output { found, .. }) if place == Place::Device => {
            expression.invalid(&format!("must evaluate to bool or the unknown type, not {found}"), causes);
        }
        Err(error @ CompileError::Instantiation(_)) => {
            causes.push(Cause::new("InternalError", expression.path.as_str(), format!("Internal error: {error}")));
        }
        Err(error) => expression.invalid(&error.to_string(), causes),
        Ok(_) => {}
    }
}

fn environment(place: Place, scope: &Scope) -> Environment {
    if place == Place::Device {
        return device();
    }
    let declared = Declarations {
        params: scope.params,
        authorizer: place != Place::Message,
        mutation: matches!(place, Place::ApplyConfiguration | Place::JsonPatch),
        ..Declarations::default()
    };
    let mut environment = Environment::admission(&declared);
    if place == Place::MatchCondition || !scope.composed {
        return environment.without_variables();
    }
    for (name, expression) in &scope.variables {
        let ty = environment.compile(expression).map_or(Type::Dyn, |program| program.output_type().clone());
        environment = environment.with_variable(name, ty);
    }
    environment
}

/// What selectors of devices see.
fn device() -> Environment {
    let quantity = Type::Opaque("kubernetes.Quantity", Vec::new());
    let fields = vec![
        ("driver".to_owned(), Type::String),
        ("attributes".to_owned(), Type::map(Type::String, Type::map(Type::String, Type::Dyn))),
        ("capacity".to_owned(), Type::map(Type::String, Type::map(Type::String, quantity))),
        ("allowMultipleAllocations".to_owned(), Type::Bool),
    ];
    Environment::with(vec![("device", Type::Object(Arc::new(Fields::typed("kubernetes.DRADevice", fields))))])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(place: Place, text: &str) -> Vec<String> {
        let value = json!(text);
        let variables = vec![("x".to_owned(), "object.metadata.name".to_owned())];
        let scope = Scope { params: false, composed: true, variables };
        let mut causes = Vec::new();
        check(&Field::new(&value, "spec.x"), place, &scope, &mut causes);
        causes.into_iter().map(|cause| cause.message).collect()
    }

    #[test]
    fn each_place_asks_for_its_type() {
        for (place, text) in [
            (Place::Validation, "variables.x != 'bad'"),
            (Place::Message, "'long: ' + object.metadata.name"),
            (Place::AuditAnnotation, "null"),
            (Place::ApplyConfiguration, "Object{metadata: Object.metadata{labels: {'a': 'b'}}}"),
            (Place::JsonPatch, "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]"),
            (Place::Device, "device.driver == 'a' && device.attributes['a'].model == 'b'"),
        ] {
            assert_eq!(told(place, text), Vec::<String>::new(), "{text}");
        }
        let refused = told(Place::Validation, "1 + 1");
        assert_eq!(refused, ["Invalid value: \"1 + 1\": must evaluate to bool but got int"]);
        let refused = told(Place::MatchCondition, "variables.x == 'a'");
        assert!(
            refused.first().is_some_and(|told| told.contains("undeclared reference to 'variables'")),
            "{refused:?}"
        );
    }
}
