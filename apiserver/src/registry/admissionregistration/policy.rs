//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{GROUP, policy_rules, read_access, rules};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Checked, Column, Generation, Strategy, resource},
        object, table,
    },
    server::Core,
};

/// Policies in CEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    /// Policies that change.
    Mutating,
    /// Policies that refuse.
    Validating,
}

const PARAM_KIND: &str = "ParamKind specifies the kind of resources used to parameterize this policy";

impl Strategy for Policies {
    fn resource(&self) -> Resource {
        let built = match self {
            Self::Mutating => resource(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
            Self::Validating => {
                resource(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies").status()
            }
        };
        built.cluster_scoped().categories(&["api-extensions"]).build()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["spec"], "failurePolicy", "Fail");
        rules::default_match(object, "matchConstraints");
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        if *self == Self::Validating {
            object::set(object, &[], "status", json!({}));
        }
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        policy_rules::check(*self, object, None, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        policy_rules::check(*self, object, Some(old), causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        policy_rules::check_status(object, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        super::name_warnings(object)
    }

    fn before_commit<'a>(&'a self, core: &'a Arc<Core>, call: &'a Call, change: Change<'a>) -> Checked<'a> {
        let checked = read_access::check_policy(*self, core, call, change.object, change.old);
        Box::pin(async move { checked })
    }

    fn columns(&self) -> &'static [Column] {
        const VALIDATING: [Column; 4] = [
            Column::name(),
            Column::text(
                "Validations",
                "Validations indicates the number of validation rules defined in this configuration",
            )
            .integer(),
            Column::text("ParamKind", PARAM_KIND),
            Column::age(),
        ];
        const MUTATING: [Column; 4] = [
            Column::name(),
            Column::text("Mutations", "Mutation indicates the number of mutations rules defined in this configuration")
                .integer(),
            Column::text("ParamKind", PARAM_KIND),
            Column::age(),
        ];
        match self {
            Self::Mutating => &MUTATING,
            Self::Validating => &VALIDATING,
        }
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let rules = if *self == Self::Mutating { "mutations" } else { "validations" };
        let kind = object::at(object, &["spec", "paramKind"]).filter(|kind| !kind.is_null());
        let kind =
            kind.map(|kind| format!("{}/{}", object::text(kind, &["apiVersion"]), object::text(kind, &["kind"])));
        vec![
            object::name(object).into(),
            object::list(object, &["spec", rules]).len().into(),
            kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
            table::age(object),
        ]
    }
}
