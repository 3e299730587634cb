//! The policies that do not come from objects: of the masters, of anonymous requests, of nodes.

use std::{str::FromStr, sync::LazyLock};

use cedar_policy::{Policy, PolicyId, PolicySet};
use martello_api::identity::{ANONYMOUS, GROUP_MASTERS, GROUP_UNAUTHENTICATED, User};

/// Policies that ship with the product, and whom each set concerns.
pub(crate) struct Builtin {
    pub(crate) masters: PolicySet,
    pub(crate) anonymous: PolicySet,
    pub(crate) nodes: PolicySet,
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
        nodes: load("nodes.cedar", NODES)?,
    })
});

impl Builtin {
    pub(crate) fn get() -> Result<&'static Self, &'static BuiltinBroken> {
        BUILTIN.as_ref()
    }

    /// The sets that concern `user`.
    pub(crate) fn of(&self, user: &User) -> impl Iterator<Item = &PolicySet> {
        let is_anonymous = user.name == ANONYMOUS || user.is_in(GROUP_UNAUTHENTICATED);
        let chosen = [
            (is_anonymous, &self.anonymous),
            (user.is_in(GROUP_MASTERS), &self.masters),
            (user.node_name().is_some(), &self.nodes),
        ];
        chosen.into_iter().filter_map(|(concerns, policies)| concerns.then_some(policies))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_that_ship_are_valid() {
        let builtin = Builtin::get().unwrap();
        assert!(builtin.nodes.num_of_policies() > 10);
    }
}
