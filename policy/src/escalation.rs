//! Nobody hands out rights that they do not hold: the guard of writes to roles and bindings.
//!
//! Whoever holds the verb `escalate` on the role, or `bind` on the role that is bound, is exempt: the caller asks the
//! authorizer for that first.

use std::collections::BTreeSet;

use martello_api::{
    go,
    identity::{GROUP_MASTERS, User},
    k8s_openapi::api::rbac::v1::PolicyRule,
};

use crate::{Authorizer, rbac::Rule};

/// Most atomic rights that a role may consist of: a role of 64 groups × 64 resources × 8 verbs is far beyond any that is
/// written by hand, and breaking down more than that would cost the server seconds.
pub const MOST_RIGHTS: usize = 32_768;

/// What a user would grant and does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Escalation {
    /// These rules are beyond the user's own, as upstream words it.
    #[error("user {user} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{rules}")]
    Exceeds {
        /// Who writes, quoted.
        user: String,
        /// The user's groups, quoted.
        groups: String,
        /// The missing rules, a line each.
        rules: String,
    },
    /// An aggregated role may come to hold any rule, and the user does not hold all.
    #[error("must have cluster-admin privileges to use the aggregationRule")]
    Aggregation,
    /// The role is too large to be compared.
    #[error("the rules consist of more than {MOST_RIGHTS} single rights: split the role")]
    TooLarge,
}

/// Everything that can be granted: what a user must hold to write an aggregation rule.
#[must_use]
pub fn full_authority() -> Vec<Rule> {
    vec![Rule::on_resources(&["*"], &["*"], &["*"]), Rule::on_paths(&["*"], &["*"])]
}

impl Authorizer {
    /// Whether `user` holds all that `rules` grant in `namespace` (the empty one: in the whole cluster).
    ///
    /// # Errors
    /// With upstream's message, if not.
    pub fn may_grant(&self, user: &User, namespace: &str, rules: &[PolicyRule]) -> Result<(), Escalation> {
        let missing = self.missing_to_grant(user, namespace, rules)?;
        if missing.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = user.groups.iter().map(|group| go::quoted(group)).collect();
        let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
        let mut rules = lines.into_iter().collect::<Vec<_>>().join("\n");
        let unresolved = self.missing_roles(user, namespace);
        if !unresolved.is_empty() {
            rules.push_str(&format!("; resolution errors: [{unresolved}]"));
        }
        Err(Escalation::Exceeds { user: go::quoted(&user.name), groups: groups.join(" "), rules })
    }

    /// Whether `user` may write an aggregation rule.
    ///
    /// # Errors
    /// If the user does not hold every right.
    pub fn may_aggregate(&self, user: &User) -> Result<(), Escalation> {
        let wanted: Vec<PolicyRule> = full_authority().iter().map(PolicyRule::from).collect();
        match self.missing_to_grant(user, "", &wanted)?.is_empty() {
            true => Ok(()),
            false => Err(Escalation::Aggregation),
        }
    }

    fn missing_to_grant(&self, user: &User, namespace: &str, rules: &[PolicyRule]) -> Result<Vec<Rule>, Escalation> {
        if user.is_in(GROUP_MASTERS) {
            return Ok(Vec::new());
        }
        let wanted: Vec<Rule> = rules.iter().map(Rule::from).collect();
        missing(&self.granted_rules(user, namespace), &wanted)
    }
}

/// The single rights of `wanted` that no rule of `held` covers.
///
/// # Errors
/// If `wanted` consists of more than [`MOST_RIGHTS`].
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Result<Vec<Rule>, Escalation> {
    let count: usize = wanted.iter().map(count_rights).fold(0, usize::saturating_add);
    if count > MOST_RIGHTS {
        return Err(Escalation::TooLarge);
    }
    let single = wanted.iter().flat_map(break_down);
    Ok(single.filter(|right| !held.iter().any(|rule| covers(rule, right))).collect())
}

fn count_rights(rule: &Rule) -> usize {
    let names = rule.resource_names.len().max(1);
    let places = rule.api_groups.len().saturating_mul(rule.resources.len()).saturating_mul(names);
    rule.verbs.len().saturating_mul(places.saturating_add(rule.non_resource_urls.len()))
}

/// A rule as rules of one verb on one resource (and name) of one group, or on one path.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let mut single = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let right = Rule::on_resources(&[group], &[resource], &[verb]);
                if rule.resource_names.is_empty() {
                    single.push(right);
                } else {
                    single.extend(rule.resource_names.iter().map(|name| right.clone().named(&[name])));
                }
            }
        }
    }
    for path in &rule.non_resource_urls {
        single.extend(rule.verbs.iter().map(|verb| Rule::on_paths(&[path], &[verb])));
    }
    single
}

/// Whether `held` grants all of the single right.
fn covers(held: &Rule, right: &Rule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|entry| entry == "*") || wanted.iter().all(|entry| held.contains(entry))
    };
    if !all(&held.verbs, &right.verbs) {
        return false;
    }
    if !right.non_resource_urls.is_empty() {
        return right
            .non_resource_urls
            .iter()
            .all(|path| held.non_resource_urls.iter().any(|own| covers_path(own, path)));
    }
    let names = held.resource_names.is_empty()
        || (!right.resource_names.is_empty()
            && right.resource_names.iter().all(|name| held.resource_names.contains(name)));
    names
        && all(&held.api_groups, &right.api_groups)
        && right.resources.iter().all(|resource| held.resources.iter().any(|own| covers_resource(own, resource)))
}

fn covers_resource(own: &str, resource: &str) -> bool {
    let subresource = resource.split_once('/').map(|(_, subresource)| subresource);
    own == "*" || own == resource || (subresource.is_some() && own.strip_prefix("*/") == subresource)
}

fn covers_path(own: &str, path: &str) -> bool {
    own == "*" || own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}

/// Single rights on the same resource, or on the same one of its names, joined to one rule with their verbs.
fn compact(single: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for right in single {
        let same = |rule: &&mut Rule| {
            rule.api_groups == right.api_groups
                && rule.resources == right.resources
                && rule.resource_names == right.resource_names
        };
        match joined.iter_mut().find(same).filter(|_| !right.resources.is_empty()) {
            Some(rule) => rule.verbs.extend(right.verbs),
            None => joined.push(right),
        }
    }
    joined
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
fn describe(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let fields: Vec<String> = fields
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| go::quoted(value)).collect();
            format!("{name}:[{}]", values.join(" "))
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
        let lines: BTreeSet<String> = compact(missing(held, wanted).unwrap()).iter().map(describe).collect();
        lines.into_iter().collect()
    }

    #[test]
    fn the_missing_rules_are_named_as_upstream_names_them() {
        let held = [Rule::on_resources(&[""], &["pods"], &["get"])];
        let wanted = [
            Rule::on_resources(&[""], &["pods", "secrets"], &["get", "list"]),
            Rule::on_resources(&["apps"], &["deployments"], &["*"]),
            Rule::on_resources(&[""], &["configmaps"], &["get"]).named(&["a", "b"]),
            Rule::on_paths(&["/a"], &["get"]),
        ];
        assert_eq!(
            lines(&held, &wanted),
            [
                r#"{APIGroups:[""], Resources:["configmaps"], ResourceNames:["a"], Verbs:["get"]}"#,
                r#"{APIGroups:[""], Resources:["configmaps"], ResourceNames:["b"], Verbs:["get"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
                r#"{APIGroups:["apps"], Resources:["deployments"], Verbs:["*"]}"#,
                r#"{NonResourceURLs:["/a"], Verbs:["get"]}"#,
            ]
        );
    }

    #[test]
    fn rights_to_a_name_are_told_together_and_a_verb_as_often_as_it_is_asked_for() {
        let wanted = [
            Rule::on_resources(&[""], &["secrets"], &["get", "list"]).named(&["a"]),
            Rule::on_resources(&[""], &["pods"], &["get", "get"]),
        ];
        assert_eq!(
            lines(&[], &wanted),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "get"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], ResourceNames:["a"], Verbs:["get" "list"]}"#,
            ]
        );
    }

    #[test]
    fn a_right_to_some_names_does_not_cover_all_names() {
        let held = [Rule::on_resources(&[""], &["secrets"], &["get"]).named(&["a"])];
        assert!(lines(&held, &[Rule::on_resources(&[""], &["secrets"], &["get"]).named(&["a"])]).is_empty());
        assert_eq!(lines(&held, &[Rule::on_resources(&[""], &["secrets"], &["get"])]).len(), 1);
    }

    #[test]
    fn a_right_to_a_resource_does_not_cover_its_subresources() {
        let held = [Rule::on_resources(&[""], &["pods", "*/scale"], &["*"])];
        assert_eq!(lines(&held, &[Rule::on_resources(&[""], &["pods/exec"], &["create"])]).len(), 1);
        assert!(lines(&held, &[Rule::on_resources(&[""], &["things/scale"], &["get"])]).is_empty());
        assert_eq!(lines(&held, &[Rule::on_resources(&[""], &["*"], &["get"])]).len(), 1);
    }

    #[test]
    fn whoever_holds_everything_misses_nothing() {
        assert!(lines(&full_authority(), &full_authority()).is_empty());
        let wanted = [Rule::on_resources(&["a", "b"], &["c/d"], &["e"]), Rule::on_paths(&["/x/*"], &["get"])];
        assert!(lines(&full_authority(), &wanted).is_empty());
    }

    #[test]
    fn a_role_of_absurd_size_is_refused_not_compared() {
        let many: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let rule = Rule { verbs: many.clone(), api_groups: many.clone(), resources: many, ..Rule::default() };
        assert_eq!(missing(&[], &[rule]), Err(Escalation::TooLarge));
    }
}
