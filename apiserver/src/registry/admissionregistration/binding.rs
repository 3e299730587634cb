//! ValidatingAdmissionPolicyBindings and MutatingAdmissionPolicyBindings: where a policy holds, and with which parameters.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::{GROUP, policy_rules, read_access, rules};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Checked, Column, Generation, Strategy, resource},
        object, table,
        validation::{field::Field, text},
    },
    server::Core,
};

/// Bindings of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bindings {
    /// Of policies that change.
    Mutating,
    /// Of policies that refuse.
    Validating,
}

impl Strategy for Bindings {
    fn resource(&self) -> Resource {
        let (kind, plural) = match self {
            Self::Mutating => ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
            Self::Validating => ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        };
        resource(GROUP, "v1", kind, plural).cluster_scoped().categories(&["api-extensions"]).build()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        rules::default_match(object, "matchResources");
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        let spec = whole.at("spec");
        spec.at("policyName").check_required(text::dns1123_subdomain, causes);
        if let Some(reference) = spec.get("paramRef") {
            rules::param_ref(&reference, causes);
        }
        if let Some(about) = spec.get("matchResources") {
            // Upstream's path of validating bindings has lost a letter.
            let path = if *self == Self::Validating { "spec.matchResouces" } else { "spec.matchResources" };
            let about = Field::new(about.value, path);
            rules::match_resources(&about, causes);
            if *self == Self::Mutating {
                policy_rules::mutable(&about, causes);
            }
        }
        if *self == Self::Validating {
            actions(&spec, causes);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        super::name_warnings(object)
    }

    fn before_commit<'a>(&'a self, core: &'a Arc<Core>, call: &'a Call, change: Change<'a>) -> Checked<'a> {
        Box::pin(async move { read_access::check_binding(*self, core, call, change.object).await })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
            Column::text("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let reference = object::at(object, &["spec", "paramRef"]).filter(|reference| !reference.is_null());
        let shown = reference.map_or_else(unset, named);
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "policyName"]).into(),
            shown.into(),
            table::age(object),
        ]
    }
}

fn actions(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (all, actions) = (spec.at("validationActions"), spec.items("validationActions"));
    let mut seen = HashSet::new();
    for action in &actions {
        action.one_of(&["Audit", "Deny", "Warn"], causes);
        if seen.contains(&action.text()) {
            action.duplicate(causes);
        }
        seen.insert(action.text());
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        all.invalid(why, causes);
    }
    if seen.is_empty() {
        all.required("at least one validation action is required", causes);
    }
}

fn unset() -> String {
    "<unset>".to_owned()
}

/// What a binding takes its parameters from, in one cell; whether they live in a namespace can't be told from here.
fn named(reference: &Value) -> String {
    let text = |key: &str| object::text(reference, &[key]);
    match (text("namespace"), text("name")) {
        (_, "") => {
            object::at(reference, &["selector"]).filter(|selector| !selector.is_null()).map_or_else(unset, in_go)
        }
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// A selector as upstream prints its type.
fn in_go(selector: &Value) -> String {
    let labels: BTreeMap<&str, &str> = object::at(selector, &["matchLabels"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    let labels: String = labels.into_iter().map(|(key, value)| format!("{key}: {value},")).collect();
    let rules = object::list(selector, &["matchExpressions"]).iter().map(|rule| {
        let values: Vec<&str> = object::list(rule, &["values"]).iter().filter_map(Value::as_str).collect();
        let (key, operator) = (object::text(rule, &["key"]), object::text(rule, &["operator"]));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    });
    let rules: String = rules.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_parameters_are_taken_from_is_told_in_one_cell() {
        assert_eq!(named(&json!({"name": "p", "namespace": "n"})), "n/p");
        assert_eq!(named(&json!({"name": "p"})), "*/p");
        assert_eq!(named(&json!({"namespace": "n"})), "<unset>");
        let selector = json!({"matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
        assert_eq!(
            named(&json!({"selector": selector})),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
        assert_eq!(
            named(&json!({"selector": {}})),
            "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"
        );
    }
}
