//! Nobody gives what they do not have: writes of roles and bindings are checked against the writer's own rights.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    go,
    identity::GROUP_MASTERS,
    k8s_openapi::api::rbac::v1::PolicyRule,
    status::ApiError,
};
use serde_json::Value;

use super::GROUP;
use crate::{
    registry::{call::Call, kind::Change, object},
    server::Core,
};

/// Checks the rules of a role that is about to be written.
pub fn check_role(core: &Arc<Core>, call: &Call, role: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if old.is_some_and(|old| object::same_but_for_owners(role, old))
        || call.user.is_in(GROUP_MASTERS)
        || holds(core, call, "escalate", &call.target)
    {
        return Ok(());
    }
    let refuse = |why: String| ApiError::forbidden(GROUP, &call.target.resource, object::name(role), &why);
    core.authorizer
        .may_grant(&call.user, call.namespace(), &rules_of(role))
        .map_err(|error| refuse(error.to_string()))?;
    if std::iter::once(role).chain(old).any(gathers) {
        core.authorizer.may_aggregate(&call.user).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}

/// Checks what a binding that is about to be written gives.
pub async fn check_binding(
    core: &Arc<Core>,
    call: &Call,
    binding: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if old.is_some_and(|old| object::same_but_for_owners(binding, old)) || call.user.is_in(GROUP_MASTERS) {
        return Ok(());
    }
    let name = object::text(binding, &["roleRef", "name"]);
    let plural = match object::text(binding, &["roleRef", "kind"]) {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        other => {
            let why = format!("unsupported role reference kind: {}", go::quoted(other));
            return Err(ApiError::new(500, "", why));
        }
    };
    let target = ResourceTarget {
        group: object::text(binding, &["roleRef", "apiGroup"]).to_owned(),
        resource: plural.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
        ..call.target.clone()
    };
    if holds(core, call, "bind", &target) {
        return Ok(());
    }
    let kind = core.registry.find(GROUP, "v1", plural).ok_or_else(ApiError::no_such_route)?;
    let entry = core.find(kind, call.namespace(), name).await?;
    let entry = entry.ok_or_else(|| ApiError::not_found(GROUP, &call.target.resource, name))?;
    let role = core.value(kind, &entry).await?;
    core.authorizer
        .may_grant(&call.user, call.namespace(), &rules_of(&role))
        .map_err(|error| ApiError::forbidden(GROUP, &call.target.resource, object::name(binding), &error.to_string()))
}

/// Whether a role takes its rules from others.
fn gathers(role: &Value) -> bool {
    !object::list(role, &["aggregationRule", "clusterRoleSelectors"]).is_empty()
}

fn holds(core: &Arc<Core>, call: &Call, verb: &str, target: &ResourceTarget) -> bool {
    let attributes =
        Attributes { user: Arc::clone(&call.user), verb: verb.to_owned(), target: Target::Resource(target.clone()) };
    core.authorizer.authorize(&attributes).is_allowed()
}

fn rules_of(role: &Value) -> Vec<PolicyRule> {
    object::list(role, &["rules"]).iter().filter_map(|rule| serde::Deserialize::deserialize(rule).ok()).collect()
}

/// Before a role or a binding is stored: what the authorizer could not read must not be.
pub fn before_commit(change: &Change<'_>) -> BoxFuture<'static, Result<(), ApiError>> {
    let read = martello_policy::Change::written(change.object);
    let read = read.map(|_| ()).map_err(|error| ApiError::bad_request(error.cause.to_string()));
    Box::pin(std::future::ready(read))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_garbage_collection_changes_is_let_through_unseen() {
        let old = json!({"metadata": {"name": "r", "finalizers": ["a"], "resourceVersion": "1"}, "rules": []});
        let freed = json!({"metadata": {"name": "r", "resourceVersion": "1"}, "rules": []});
        let labeled = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": []});
        assert!(object::same_but_for_owners(&freed, &old));
        assert!(!object::same_but_for_owners(&labeled, &old));
    }

    #[test]
    fn a_role_with_selectors_takes_rules_from_others() {
        assert!(gathers(&json!({"aggregationRule": {"clusterRoleSelectors": [{}]}})));
        assert!(!gathers(&json!({"aggregationRule": {}, "rules": []})));
    }
}
