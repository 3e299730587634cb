//! Whoever has a policy read parameters must be allowed to read them.

use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::{GROUP_MASTERS, User},
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::{GROUP, binding::Bindings, policy::Policies};
use crate::{
    registry::{
        call::Call,
        kind::{Kind, Strategy as _},
        object,
    },
    server::Core,
};

/// What a right is asked for where the kind of the parameters is not known.
const ANY: &str = "*";

/// Checks that who writes a policy may read every object of the kind of its parameters.
pub(super) fn check_policy(
    policies: Policies,
    core: &Core,
    call: &Call,
    policy: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(kind) = param_kind(policy) else { return Ok(()) };
    if old.and_then(param_kind).is_some_and(|before| before == kind) || call.user.is_in(GROUP_MASTERS) {
        return Ok(());
    }
    let (all, _) = parameters(core, Some(kind));
    let target = ResourceTarget { name: ANY.to_owned(), namespace: ANY.to_owned(), ..all };
    if may(core, call, "get", target) {
        return Ok(());
    }
    let why = format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        shown(&call.user),
        object::text(kind, &["kind"]),
        object::text(kind, &["apiVersion"]),
    );
    Err(refused(&policies.resource().gvk.kind, policy, "spec.paramKind", &why))
}

/// Checks that who writes a binding may read the parameters that it names.
pub(super) async fn check_binding(
    bindings: Bindings,
    core: &Core,
    call: &Call,
    binding: &Value,
) -> Result<(), ApiError> {
    let reference = object::at(binding, &["spec", "paramRef"]).filter(|reference| reference.is_object());
    let Some(reference) = reference.filter(|_| !call.user.is_in(GROUP_MASTERS)) else { return Ok(()) };
    let policy = policy_of(bindings, core, object::text(binding, &["spec", "policyName"])).await?;
    let kind = policy.as_ref().and_then(param_kind);
    let (all, known) = parameters(core, kind);
    let text = |key: &str| object::text(reference, &[key]).to_owned();
    let target = ResourceTarget { name: text("name"), namespace: text("namespace"), ..all };
    let verb = if target.name.is_empty() { "list" } else { "get" };
    if may(core, call, verb, target) {
        return Ok(());
    }
    let user = shown(&call.user);
    let everywhere = || {
        format!(
            "to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
        )
    };
    let why = match (bindings, &policy, kind) {
        // Upstream mixes up the two.
        (Bindings::Mutating, ..) => {
            format!("user {verb} does not have \"{user}\" permission on the object referenced by paramRef")
        }
        (Bindings::Validating, None, _) => {
            format!("unable to get policy {} {}", object::text(binding, &["spec", "policyName"]), everywhere())
        }
        (Bindings::Validating, Some(_), Some(kind)) if !known => {
            let text = |key: &str| object::text(kind, &[key]);
            format!("unable to resolve paramKind &{{{} {}}} {}", text("apiVersion"), text("kind"), everywhere())
        }
        _ => format!("user {user} does not have \"{verb}\" permission on the object referenced by paramRef"),
    };
    Err(refused(&bindings.resource().gvk.kind, binding, "spec.paramRef", &why))
}

fn param_kind(policy: &Value) -> Option<&Value> {
    object::at(policy, &["spec", "paramKind"]).filter(|kind| kind.is_object())
}

/// The policy of a binding, if it is there.
async fn policy_of(bindings: Bindings, core: &Core, name: &str) -> Result<Option<Value>, ApiError> {
    let plural = match bindings {
        Bindings::Mutating => "mutatingadmissionpolicies",
        Bindings::Validating => "validatingadmissionpolicies",
    };
    let Some(kind) = core.registry.find(GROUP, "v1", plural) else { return Ok(None) };
    match core.find(kind, "", name).await? {
        None => Ok(None),
        Some(entry) => core.value(kind, &entry).await.map(Some),
    }
}

/// The resource of parameters of this kind, and whether it is known.
fn parameters(core: &Core, kind: Option<&Value>) -> (ResourceTarget, bool) {
    let any = || ANY.to_owned();
    let Some(kind) = kind else {
        let target = ResourceTarget { group: any(), version: any(), resource: any(), ..ResourceTarget::default() };
        return (target, false);
    };
    let (whole, name) = (object::text(kind, &["apiVersion"]), object::text(kind, &["kind"]));
    let (group, version) = whole.split_once('/').unwrap_or(("", whole));
    let fits = |known: &Kind| {
        let gvk = &known.resource.gvk;
        gvk.group == group && gvk.version == version && gvk.kind == name
    };
    let known = core.registry.find_by(fits);
    let resource = known.as_ref().map_or_else(any, |known| known.resource.plural.to_string());
    let target =
        ResourceTarget { group: group.to_owned(), version: version.to_owned(), resource, ..ResourceTarget::default() };
    (target, known.is_some())
}

fn may(core: &Core, call: &Call, verb: &str, target: ResourceTarget) -> bool {
    let (user, target) = (Arc::clone(&call.user), Target::Resource(target));
    core.authorizer.authorize(&Attributes { user, verb: verb.to_owned(), target }).is_allowed()
}

fn refused(kind: &str, object: &Value, path: &str, why: &str) -> ApiError {
    ApiError::invalid(GROUP, kind, object::name(object), vec![Cause::forbidden(path, why)])
}

/// A user as Go prints one.
fn shown(user: &User) -> String {
    let extra: Vec<String> = user.extra.iter().map(|(key, values)| format!("{key}:[{}]", values.join(" "))).collect();
    let uid = user.uid.as_deref().unwrap_or_default();
    format!("&{{{} {uid} [{}] map[{}]}}", user.name, user.groups.join(" "), extra.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_as_go_prints_one() {
        let user = User {
            name: "alice".to_owned(),
            uid: None,
            groups: vec!["devs".to_owned(), "system:authenticated".to_owned()],
            extra: [("b".to_owned(), vec!["1".to_owned(), "2".to_owned()]), ("a".to_owned(), Vec::new())].into(),
        };
        assert_eq!(shown(&user), "&{alice  [devs system:authenticated] map[a:[] b:[1 2]]}");
    }
}
