//! Roles and ClusterRoles.

use std::sync::Arc;

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use super::{GROUP, guard};
use crate::{
    registry::{
        call::Call,
        kind::{Change, Checked, NameRule, Strategy, resource},
        object,
        validation::selector,
    },
    server::Core,
};

/// Roles, of the cluster or of a namespace.
pub struct Roles {
    /// ClusterRoles.
    pub cluster: bool,
}

impl Strategy for Roles {
    fn resource(&self) -> Resource {
        if self.cluster {
            resource(GROUP, "v1", "ClusterRole", "clusterroles").cluster_scoped().build()
        } else {
            resource(GROUP, "v1", "Role", "roles").build()
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        object::map_mut(object, &[]).map(|map| map.entry("rules").or_insert(Value::Null));
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        for (index, rule) in object::list(object, &["rules"]).iter().enumerate() {
            check_rule(rule, &format!("rules[{index}]"), self.cluster, causes);
        }
        if self.cluster {
            let selectors = object::list(object, &["aggregationRule", "clusterRoleSelectors"]);
            if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && selectors.is_empty() {
                causes.push(Cause::required(
                    "aggregationRule.clusterRoleSelectors",
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                ));
            }
            for (index, found) in selectors.iter().enumerate() {
                let (path, before) = (format!("aggregationRule.clusterRoleSelectors[{index}]"), causes.len());
                selector::check(Some(found), &path, causes);
                // Upstream says it once more of the whole.
                if causes.len() > before {
                    causes.push(Cause::invalid(path, &Value::Null, "invalid label selector."));
                }
            }
        }
    }

    fn validate_update(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        // Upstream looks at all of it once more.
        self.validate(object, causes);
    }

    fn guard<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Checked<'a> {
        let checked = guard::check_role(core, call, object, old);
        Box::pin(async move { checked })
    }

    fn before_commit<'a>(&'a self, _core: &'a Arc<Core>, _call: &'a Call, change: Change<'a>) -> Checked<'a> {
        guard::before_commit(&change)
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        crate::server::bootstrap::tell_authorizer(core, object, old, revision);
    }
}

fn check_rule(rule: &Value, path: &str, cluster: bool, causes: &mut Vec<Cause>) {
    let list = |key: &str| object::list(rule, &[key]);
    if list("verbs").is_empty() {
        causes.push(Cause::required(format!("{path}.verbs"), "verbs must contain at least one value"));
    }
    let urls = list("nonResourceURLs");
    if !urls.is_empty() {
        let urls = Value::Array(urls.to_vec());
        if !cluster {
            causes.push(Cause::invalid(
                format!("{path}.nonResourceURLs"),
                &urls,
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !list(key).is_empty()) {
            causes.push(Cause::invalid(
                format!("{path}.nonResourceURLs"),
                &urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            ));
        }
        return;
    }
    if list("apiGroups").is_empty() {
        causes.push(Cause::required(format!("{path}.apiGroups"), "resource rules must supply at least one api group"));
    }
    if list("resources").is_empty() {
        causes.push(Cause::required(format!("{path}.resources"), "resource rules must supply at least one resource"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_of_roles_that_cannot_be_read_is_told_of_twice() {
        let role = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}},
            {"matchExpressions": [{"key": "k", "operator": "Odd"}]}]}});
        let mut causes = Vec::new();
        Roles { cluster: true }.validate(&role, &mut causes);
        let said: Vec<_> = causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            said,
            [
                "aggregationRule.clusterRoleSelectors[1].matchExpressions[0].operator: Invalid value: \"Odd\": not a valid selector operator",
                "aggregationRule.clusterRoleSelectors[1]: Invalid value: null: invalid label selector.",
            ]
        );
    }
}
