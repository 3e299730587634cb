//! The policies that do not come from objects: of the masters, of anonymous requests, of nodes.

use std::{collections::HashMap, str::FromStr, sync::LazyLock};

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, ResourceConstraint};
use martello_api::identity::{ANONYMOUS, GROUP_MASTERS, GROUP_UNAUTHENTICATED, User};

/// Policies that ship with the product, and whom each set concerns.
pub(crate) struct Builtin {
    pub(crate) masters: PolicySet,
    pub(crate) anonymous: PolicySet,
    /// By the resource that the policies' heads name.
    pub(crate) nodes: HashMap<EntityUid, PolicySet>,
}

/// A policy text that ships with the product is not taken by Cedar. Every request that it concerns is denied then.
#[derive(Debug, thiserror::Error)]
#[error("the built-in policies {file} are not valid: {cause}")]
pub(crate) struct BuiltinBroken {
    file: &'static str,
    cause: String,
}

/// Text of the policies for nodes.
pub(crate) const NODES: &str = include_str!("node/nodes.cedar");
const MASTERS: &str = include_str!("masters.cedar");
const ANONYMOUS_LIMITS: &str = include_str!("anonymous.cedar");

static BUILTIN: LazyLock<Result<Builtin, BuiltinBroken>> = LazyLock::new(|| {
    Ok(Builtin {
        masters: load("masters.cedar", MASTERS)?,
        anonymous: load("anonymous.cedar", ANONYMOUS_LIMITS)?,
        nodes: by_resource("nodes.cedar", NODES)?,
    })
});

impl Builtin {
    pub(crate) fn get() -> Result<&'static Self, &'static BuiltinBroken> {
        BUILTIN.as_ref()
    }

    /// The sets that can concern what `user` asks of `resource`.
    pub(crate) fn of(&self, user: &User, resource: Option<&EntityUid>) -> impl Iterator<Item = &PolicySet> {
        let is_anonymous = user.name == ANONYMOUS || user.is_in(GROUP_UNAUTHENTICATED);
        let nodes =
            if user.node_name().is_some() { resource.and_then(|resource| self.nodes.get(resource)) } else { None };
        let chosen =
            [is_anonymous.then_some(&self.anonymous), user.is_in(GROUP_MASTERS).then_some(&self.masters), nodes];
        chosen.into_iter().flatten()
    }
}

/// Parses a file of policies; each takes the identifier of its `@id` annotation.
pub(crate) fn load(file: &'static str, text: &str) -> Result<PolicySet, BuiltinBroken> {
    let broken = |cause: String| BuiltinBroken { file, cause };
    let parsed = PolicySet::from_str(text).map_err(|error| broken(error.to_string()))?;
    let mut named: Vec<Policy> = Vec::new();
    for policy in parsed.policies() {
        let id = policy.annotation("id").ok_or_else(|| broken(format!("{} has no @id", policy.id())))?;
        named.push(policy.new_id(PolicyId::new(id)));
    }
    PolicySet::from_policies(named).map_err(|error| broken(error.to_string()))
}

/// Parses a file of policies of which each names one resource in its head.
fn by_resource(file: &'static str, text: &str) -> Result<HashMap<EntityUid, PolicySet>, BuiltinBroken> {
    let broken = |cause: String| BuiltinBroken { file, cause };
    let mut sets: HashMap<EntityUid, PolicySet> = HashMap::new();
    for policy in load(file, text)?.policies() {
        let ResourceConstraint::Eq(resource) = policy.resource_constraint() else {
            return Err(broken(format!("{} does not name its resource in its head", policy.id())));
        };
        let set = sets.entry(resource).or_default();
        set.add(policy.clone()).map_err(|error| broken(error.to_string()))?;
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_that_ship_are_valid() {
        let builtin = Builtin::get().unwrap();
        assert!(builtin.nodes.len() > 15);
    }
}
