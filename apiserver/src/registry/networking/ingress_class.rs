//! IngressClasses.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::ingress_rules;
use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
    validation::{field::Field, text},
};

/// IngressClasses.
pub struct IngressClasses;

/// Marks the class of Ingresses that name none.
pub const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// Longest name of a controller, as upstream's.
const MAX_CONTROLLER_BYTES: usize = 250;

impl Strategy for IngressClasses {
    fn resource(&self) -> Resource {
        resource("networking.k8s.io", "v1", "IngressClass", "ingressclasses").cluster_scoped().build()
    }

    fn default(&self, object: &mut Value) {
        if object::at(object, &["spec", "parameters"]).is_some_and(|parameters| !parameters.is_null()) {
            object::set_default(object, &["spec", "parameters"], "scope", "Cluster");
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let (new, was) = (object::text(object, &["spec", "controller"]), object::text(old, &["spec", "controller"]));
        if new != was {
            causes.push(Cause::invalid("spec.controller", &new.into(), "field is immutable"));
        }
        check(object, causes);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Controller", "Controller that is responsible for handling this class"),
            Column::text("Parameters", "A reference to a resource with additional parameters"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let parameters = object::at(object, &["spec", "parameters"]).filter(|parameters| !parameters.is_null());
        let shown = parameters.map_or("<none>".to_owned(), |parameters| {
            let group = parameters.get("apiGroup").and_then(Value::as_str);
            let group = group.map_or_else(String::new, |group| format!(".{group}"));
            let (kind, name) = (object::text(parameters, &["kind"]), object::text(parameters, &["name"]));
            format!("{kind}{group}/{name}")
        });
        let name = object::name(object);
        let default = object::text(object, &["metadata", "annotations", DEFAULT_ANNOTATION]) == "true";
        vec![
            if default { format!("{name} (default)") } else { name.to_owned() }.into(),
            object::text(object, &["spec", "controller"]).into(),
            shown.into(),
            table::age(object),
        ]
    }
}

fn check(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec");
    let controller = spec.at("controller");
    if controller.text().len() > MAX_CONTROLLER_BYTES {
        causes.push(Cause::too_long(controller.path.as_str(), MAX_CONTROLLER_BYTES));
    }
    controller.domain_prefixed_path(causes);
    if let Some(parameters) = spec.get("parameters") {
        check_parameters(&parameters, causes);
    }
}

fn check_parameters(parameters: &Field<'_>, causes: &mut Vec<Cause>) {
    ingress_rules::reference(parameters, causes);
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    scope.one_of(&["Cluster", "Namespace"], causes);
    match (scope.text(), namespace.value.is_null()) {
        ("Namespace", true) => namespace.required("`parameters.scope` is set to 'Namespace'", causes),
        ("Namespace", false) => namespace.check(text::dns1123_label, causes),
        ("Cluster", false) => namespace.forbidden("`parameters.scope` is set to 'Cluster'", causes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_class_is_marked_and_a_group_is_shown_if_it_is_set() {
        let shown = |default: &str, parameters: Value| {
            let class = json!({"metadata": {"name": "a", "annotations": {DEFAULT_ANNOTATION: default}},
                "spec": {"controller": "x/y", "parameters": parameters}});
            IngressClasses.row(&class).into_iter().take(3).collect::<Vec<_>>()
        };
        let cells = |name: &str, parameters: &str| [name, "x/y", parameters].map(Cell::from).to_vec();
        assert_eq!(shown("true", Value::Null), cells("a (default)", "<none>"));
        assert_eq!(shown("false", json!({"kind": "K", "name": "n"})), cells("a", "K/n"));
        assert_eq!(shown("", json!({"apiGroup": "g", "kind": "K", "name": "n"})), cells("a", "K.g/n"));
        assert_eq!(shown("", json!({"apiGroup": "", "kind": "K", "name": "n"})), cells("a", "K./n"));
    }
}
