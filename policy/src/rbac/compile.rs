//! One rule granted to one subject, as the text of a Cedar policy.

use std::fmt::Write as _;

use cedar_policy::{Policy, PolicyId, PolicySet};

use super::{Grant, Rule, Subject};

/// A policy that was generated and that Cedar does not take: a defect of the generator, and a denial for the request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the Cedar policy {id} does not compile: {cause}")]
pub struct PolicyBroken {
    /// Identifier of the policy.
    pub id: String,
    /// What Cedar says.
    pub cause: String,
}

/// The policy of the rule at `position`, in a set of its own.
pub(super) fn compile(grant: &Grant, position: usize, rule: &Rule) -> Result<PolicySet, PolicyBroken> {
    let id = grant.policy_id(position);
    let text = policy_text(&grant.subject, grant.binding.namespace.as_deref(), rule);
    let broken = |cause: String| PolicyBroken { id: id.clone(), cause };
    let policy = Policy::parse(Some(PolicyId::new(&id)), text).map_err(|error| broken(error.to_string()))?;
    PolicySet::from_policies([policy]).map_err(|error| broken(error.to_string()))
}

/// The Cedar policy that permits `subject` what `rule` says, within `namespace` if the binding lives in one.
///
/// A rule of a namespaced binding says nothing about paths. A rule may speak of both resources and paths.
#[must_use]
pub fn policy_text(subject: &Subject, namespace: Option<&str>, rule: &Rule) -> String {
    let mut text = String::from("permit (\n  ");
    match subject {
        Subject::Group(name) => write_all(&mut text, format_args!("principal in Group::{}", quoted(name))),
        user => write_all(&mut text, format_args!("principal == User::{}", quoted(&user.user_name()))),
    }
    text.push_str(",\n  ");
    write_action(&mut text, &rule.verbs);
    text.push_str(",\n  resource\n) when {\n  ");
    let resources = resource_condition(namespace, rule);
    let paths = if namespace.is_some() { None } else { path_condition(&rule.non_resource_urls) };
    match (resources, paths) {
        (Some(resources), Some(paths)) => write_all(&mut text, format_args!("({resources})\n  || ({paths})")),
        (Some(condition), None) | (None, Some(condition)) => text.push_str(&condition),
        (None, None) => text.push_str("false"),
    }
    text.push_str("\n};\n");
    text
}

fn write_action(text: &mut String, verbs: &[String]) {
    if verbs.iter().any(|verb| verb == "*") {
        text.push_str("action");
    } else if let [verb] = verbs {
        write_all(text, format_args!("action == Action::{}", quoted(verb)));
    } else {
        let verbs: Vec<String> = verbs.iter().map(|verb| format!("Action::{}", quoted(verb))).collect();
        write_all(text, format_args!("action in [{}]", verbs.join(", ")));
    }
}

/// What must hold for a request on a resource; `None` if the rule speaks of none.
fn resource_condition(namespace: Option<&str>, rule: &Rule) -> Option<String> {
    if rule.resources.is_empty() || rule.api_groups.is_empty() {
        return None;
    }
    let mut parts = vec!["resource is Resource".to_owned()];
    if let Some(namespace) = namespace {
        parts.push(format!("context.namespace == {}", quoted(namespace)));
    }
    if !rule.api_groups.iter().any(|group| group == "*") {
        parts.push(one_of("context.apiGroup", rule.api_groups.iter().map(quoted).collect()));
    }
    if !rule.resources.iter().any(|resource| resource == "*") {
        parts.push(one_of_resources(&rule.resources));
    }
    if !rule.resource_names.is_empty() {
        parts.push(one_of("context.name", rule.resource_names.iter().map(quoted).collect()));
    }
    Some(parts.join(" &&\n  "))
}

/// `pods/log` is matched by its own name only; `*/log` by the subresource alone; a parent never covers its subresources.
fn one_of_resources(resources: &[String]) -> String {
    let (any_parent, exact): (Vec<_>, Vec<_>) = resources.iter().partition(|resource| resource.starts_with("*/"));
    let mut alternatives = Vec::new();
    if !exact.is_empty() {
        let exact = exact.iter().map(|resource| format!("Resource::{}", quoted(resource))).collect();
        alternatives.push(one_of("resource", exact));
    }
    let subresources: Vec<String> = any_parent
        .iter()
        .filter_map(|text| text.strip_prefix("*/"))
        .filter(|text| !text.is_empty())
        .map(quoted)
        .collect();
    if !subresources.is_empty() {
        alternatives.push(one_of("context.subresource", subresources));
    }
    match alternatives.as_slice() {
        [] => "false".to_owned(),
        [only] => only.clone(),
        _ => format!("({})", alternatives.join(" || ")),
    }
}

/// What must hold for a request on a path; `None` if the rule speaks of none.
fn path_condition(paths: &[String]) -> Option<String> {
    if paths.is_empty() {
        return None;
    }
    if paths.iter().any(|path| path == "*") {
        return Some("resource is Path".to_owned());
    }
    let (prefixes, exact): (Vec<_>, Vec<_>) = paths.iter().partition(|path| path.ends_with('*'));
    let mut alternatives: Vec<String> = Vec::new();
    if !exact.is_empty() {
        alternatives.push(one_of("context.path", exact.iter().map(quoted).collect()));
    }
    for prefix in prefixes {
        // The stars at the end stand for any rest; a star before them, for itself.
        alternatives
            .push(format!("context.path like \"{}*\"", escaped(prefix.trim_end_matches('*')).replace('*', "\\*")));
    }
    Some(format!("resource is Path &&\n  ({})", alternatives.join(" || ")))
}

fn one_of(what: &str, mut values: Vec<String>) -> String {
    if values.len() == 1 {
        format!("{what} == {}", values.remove(0))
    } else {
        format!("[{}].contains({what})", values.join(", "))
    }
}

/// `text` as a Cedar string literal.
fn quoted(text: &(impl AsRef<str> + ?Sized)) -> String {
    format!("\"{}\"", escaped(text.as_ref()))
}

/// `text` as it stands within a Cedar string literal.
fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

fn write_all(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(arguments).unwrap_or_default();
}
