//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations.

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{
    GROUP, rules,
    webhook_rules::{self, Strictness},
};
use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
};

/// Configurations of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhooks {
    /// Webhooks that change.
    Mutating,
    /// Webhooks that refuse.
    Validating,
}

/// Seconds that a webhook may take.
const DEFAULT_SECONDS: i64 = 10;
/// Port of a webhook's Service.
const DEFAULT_PORT: i64 = 443;

impl Strategy for Webhooks {
    fn resource(&self) -> Resource {
        let (kind, plural) = match self {
            Self::Mutating => ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            Self::Validating => ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        };
        resource(GROUP, "v1", kind, plural).cluster_scoped().categories(&["api-extensions"]).build()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        for hook in object::list_mut(object, &["webhooks"]).into_iter().flatten() {
            object::set_default(hook, &[], "failurePolicy", "Fail");
            object::set_default(hook, &[], "matchPolicy", "Equivalent");
            object::set_default(hook, &[], "namespaceSelector", json!({}));
            object::set_default(hook, &[], "objectSelector", json!({}));
            object::set_default(hook, &[], "timeoutSeconds", DEFAULT_SECONDS);
            if *self == Self::Mutating {
                object::set_default(hook, &[], "reinvocationPolicy", "Never");
            }
            rules::default_rules(hook, &["rules"]);
            if object::at(hook, &["clientConfig", "service"]).is_some_and(|service| !service.is_null()) {
                object::set_default(hook, &["clientConfig", "service"], "port", DEFAULT_PORT);
            }
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        webhook_rules::check(object, Strictness::FULL, *self == Self::Mutating, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        webhook_rules::check(object, Strictness::after(old, object), *self == Self::Mutating, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        super::name_warnings(object)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration")
                .integer(),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), object::list(object, &["webhooks"]).len().into(), table::age(object)]
    }
}
