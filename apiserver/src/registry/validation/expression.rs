//! Expressions in CEL that objects carry: the one place where they are compiled before they are stored.

use std::sync::Arc;

use martello_api::status::Cause;

use super::field::Field;
use crate::cel::{CompileError, Declarations, Environment, Fields, Schema, Type};

/// Most that a selector of devices may cost.
const MAX_DEVICE_COST: u64 = 1_000_000;

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
        Place::Device => vec![Type::Bool, Type::Any],
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
        Ok(program) if place == Place::Device && program.estimate().max > MAX_DEVICE_COST => {
            expression.forbidden("too complex, exceeds cost limit", causes);
        }
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
        ("attributes".to_owned(), Type::map(Type::String, Type::map(Type::String, Type::Any))),
        ("capacity".to_owned(), Type::map(Type::String, Type::map(Type::String, quantity))),
        ("allowMultipleAllocations".to_owned(), Type::Bool),
    ];
    let device = Type::Object(Arc::new(Fields::typed("kubernetes.DRADevice", fields)));
    Environment::with(vec![("device", device)]).sized(Schema::of_device())
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

    /// The costs are those that upstream counts for its selectors.
    #[test]
    fn selectors_of_devices_cost_what_upstream_counts() {
        const TENS: &str = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
        let walks = |names: &[&str], inner: &str| {
            let open: String = names.iter().map(|name| format!("{TENS}.all({name}, ")).collect();
            format!("{open}{inner}{}", ")".repeat(names.len()))
        };
        let expensive = walks(&["x", "y", "z", "z2", "z3", "z4", "z5"], "int('1'.find('[0-9]*')) < 100");
        for (cost, text) in [
            (0, "true"),
            (2, "device.driver == ''"),
            (4, "device.driver == 'dra.example.com'"),
            (3, "'dra.example.com' in device.attributes"),
            (4, "device.attributes['dra.example.com'].name"),
            (4, "device.attributes['dra.example.com']['name']"),
            (15, "cel.bind(dra, device.attributes['dra.example.com'], dra.name)"),
            (5, "device.attributes['dra.example.com'].name > 0"),
            (5, "device.attributes['dra.example.com'].name == 'fish'"),
            (6, "device.attributes['dra.example.com'].name.isGreaterThan(semver('0.0.1'))"),
            (6, "device.capacity['dra.example.com'].name.isGreaterThan(quantity('1Ki'))"),
            (164, "device.attributes.exists_one(x, x == 'dra.example.com')"),
            (133, "device.attributes['dra.example.com'].exists_one(x, x == 'services')"),
            (133, "device.capacity['dra.example.com'].exists_one(x, x == 'memory')"),
            (19, "device.attributes['dra.example.com'].services.split('example').size() >= 2"),
            (18, "device.attributes['dra.example.com'].services.matches('[^a]?sym')"),
            (579, "device.attributes.all(d, d.matches('^[a-z]+$'))"),
            (1102, "device.attributes.map(d, d + 'x').exists(y, y == device.driver)"),
            (10_499, "device.attributes.all(d, device.attributes[d].all(i, device.attributes[d][i] == 'x'))"),
            (118, "device.attributes['a'].b.matches(device.driver)"),
            (25, "['a','b'].all(x, x == device.driver)"),
            (67, "['a','bbbbbbbbbbbbbbbbbbbbb'].exists(x, device.driver.contains(x))"),
            (38, "{'a':1}.all(k, k == device.driver)"),
            (68, "1 in device.attributes['dra.example.com'].names"),
            (3, "device.allowMultipleAllocations == true"),
            (85_555_551, expensive.as_str()),
        ] {
            let program = device().compile(text).unwrap();
            assert_eq!(program.estimate().max, cost, "{text}");
        }
        assert_eq!(told(Place::Device, &expensive), ["Forbidden: too complex, exceeds cost limit"]);
    }

    #[test]
    fn what_an_attribute_holds_is_walked_over_by_nothing() {
        let refused = told(Place::Device, "device.attributes['x'].a.exists(x, x == 1)");
        assert!(
            refused.first().is_some_and(|told| told.contains(
                "expression of type 'any' cannot be range of a comprehension (must be list, map, or dynamic)"
            )),
            "{refused:?}"
        );
        assert_eq!(
            told(Place::Device, "device.attributes['x'].a.b"),
            ["Invalid value: \"device.attributes['x'].a.b\": must evaluate to bool or the unknown type, not dyn"]
        );
        assert_eq!(
            told(Place::Device, "device.attributes['x']"),
            [
                "Invalid value: \"device.attributes['x']\": must evaluate to bool or the unknown type, not map(string, google.protobuf.Any)"
            ]
        );
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
