//! RBAC as its documentation says it, in a few lines: what the Cedar policies are tested against.

use martello_api::{
    attributes::{Attributes, Target},
    identity::User,
};

use super::{Binding, BindingKey, RoleKey, Rule, Subject};

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) roles: Vec<(RoleKey, Vec<Rule>)>,
    pub(crate) bindings: Vec<(BindingKey, Binding)>,
}

impl Model {
    pub(crate) fn allows(&self, asked: &Attributes) -> bool {
        self.bindings.iter().any(|(key, binding)| {
            in_scope(key, asked)
                && binding.subjects.iter().any(|subject| is_meant(subject, &asked.user))
                && self
                    .roles
                    .iter()
                    .filter(|(role, _)| *role == binding.role)
                    .any(|(_, rules)| rules.iter().any(|rule| allows(rule, asked)))
        })
    }
}

fn in_scope(key: &BindingKey, asked: &Attributes) -> bool {
    let Some(namespace) = &key.namespace else { return true };
    // What is in no namespace is no binding's of a namespace, even if one had no name.
    asked.resource().is_some_and(|target| !namespace.is_empty() && target.namespace == *namespace)
}

fn is_meant(subject: &Subject, user: &User) -> bool {
    match subject {
        Subject::User(name) => user.name == *name,
        Subject::Group(name) => user.groups.contains(name),
        Subject::ServiceAccount(namespace, name) => user.name == format!("system:serviceaccount:{namespace}:{name}"),
    }
}

fn allows(rule: &Rule, asked: &Attributes) -> bool {
    if !has(&rule.verbs, &asked.verb) {
        return false;
    }
    match &asked.target {
        Target::Path(path) => rule.non_resource_urls.iter().any(|pattern| {
            pattern == "*"
                || pattern == path
                || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
        }),
        Target::Resource(target) => {
            let combined = target.resource_and_subresource();
            has(&rule.api_groups, &target.group)
                && rule.resources.iter().any(|resource| {
                    resource == "*"
                        || *resource == combined
                        || (!target.subresource.is_empty() && *resource == format!("*/{}", target.subresource))
                })
                && (rule.resource_names.is_empty() || rule.resource_names.contains(&target.name))
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}
