//! ValidatingAdmissionPolicyBindings and MutatingAdmissionPolicyBindings: where a policy holds, and with which parameters.

use std::collections::HashSet;

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::{GROUP, policy_rules, rules};
use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
    validation::{field::Field, text},
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
        let shown = reference.map_or("<unset>".to_owned(), |reference| {
            let text = |key: &str| object::text(reference, &[key]).to_owned();
            if text("namespace").is_empty() { text("name") } else { format!("{}/{}", text("namespace"), text("name")) }
        });
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
