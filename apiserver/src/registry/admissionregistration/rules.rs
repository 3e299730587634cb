//! What webhooks and policies share: rules that say what they are about, conditions, parameters.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{
        expression::{self, Place, Scope},
        field::Field,
        selector, text,
    },
};

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// Most conditions of one webhook or policy.
const MAX_CONDITIONS: usize = 64;

/// Fills in the scope of rules.
pub fn default_rules(owner: &mut Value, path: &[&str]) {
    for rule in object::list_mut(owner, path).into_iter().flatten() {
        object::set_default(rule, &[], "scope", "*");
    }
}

/// Fills in what a policy or binding is about, where it says anything.
pub fn default_match(owner: &mut Value, key: &str) {
    let path = ["spec", key];
    if object::at(owner, &path).is_none_or(Value::is_null) {
        return;
    }
    object::set_default(owner, &path, "matchPolicy", "Equivalent");
    object::set_default(owner, &path, "namespaceSelector", json!({}));
    object::set_default(owner, &path, "objectSelector", json!({}));
    default_rules(owner, &["spec", key, "resourceRules"]);
    default_rules(owner, &["spec", key, "excludeResourceRules"]);
}

fn texts<'a>(list: &Field<'a>) -> Vec<&'a str> {
    object::list(list.value, &[]).iter().filter_map(Value::as_str).collect()
}

/// Checks a rule with operations.
pub fn rule(rule: &Field<'_>, causes: &mut Vec<Cause>) {
    let operations = rule.at("operations");
    let values = texts(&operations);
    if values.is_empty() {
        operations.required("", causes);
    }
    if values.len() > 1 && values.contains(&"*") {
        operations.invalid("if '*' is present, must not specify other operations", causes);
    }
    rule.items("operations").iter().for_each(|one| one.one_of(&OPERATIONS, causes));
    for (key, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.at(key);
        let values = texts(&list);
        if values.is_empty() {
            list.required("", causes);
        }
        if values.len() > 1 && values.contains(&"*") {
            list.invalid(&format!("if '*' is present, must not specify other {what}"), causes);
        }
        if key == "apiVersions" {
            rule.items(key).iter().for_each(|version| {
                version.needs_text(causes);
            });
        }
    }
    resources(&rule.at("resources"), &rule.items("resources"), causes);
    if let Some(scope) = rule.get("scope") {
        scope.one_of(&SCOPES, causes);
    }
}

fn resources(list: &Field<'_>, items: &[Field<'_>], causes: &mut Vec<Cause>) {
    if items.is_empty() {
        list.required("", causes);
    }
    let (mut all_parts, mut all_resources) = (Vec::new(), Vec::new());
    let (mut everything, mut any, mut plain) = (false, false, false);
    for item in items {
        if !item.needs_text(causes) {
            continue;
        }
        everything |= item.text() == "*/*";
        any |= item.text() == "*";
        let Some((resource, part)) = item.text().split_once('/') else {
            // The last one counts, as upstream's.
            plain = item.text() != "*";
            continue;
        };
        if all_parts.contains(&resource) {
            item.invalid(&format!("if '{resource}/*' is present, must not specify {}", item.text()), causes);
        }
        if all_resources.contains(&part) {
            item.invalid(&format!("if '*/{part}' is present, must not specify {}", item.text()), causes);
        }
        if part == "*" {
            all_parts.push(resource);
        }
        if resource == "*" {
            all_resources.push(part);
        }
    }
    if items.len() > 1 && everything {
        list.invalid("if '*/*' is present, must not specify other resources", causes);
    }
    if any && plain {
        list.invalid("if '*' is present, must not specify other resources without subresources", causes);
    }
}

/// Checks what a policy or binding is about.
pub fn match_resources(about: &Field<'_>, causes: &mut Vec<Cause>) {
    about.at("matchPolicy").needs_one_of(&MATCH_POLICIES, causes);
    for key in ["namespaceSelector", "objectSelector"] {
        let found = about.at(key);
        if found.value.is_null() {
            found.required("", causes);
        } else {
            selector::check(Some(found.value), &found.path, causes);
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for named in about.items(rules) {
            let mut seen = HashSet::new();
            for name in named.items("resourceNames") {
                name.check(text::path_segment, causes);
                if seen.contains(&name.text()) {
                    name.duplicate(causes);
                }
                seen.insert(name.text());
            }
            rule(&named, causes);
        }
    }
}

/// Checks conditions.
pub fn conditions(owner: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    let conditions = owner.items("matchConditions");
    if conditions.len() > MAX_CONDITIONS {
        owner.at("matchConditions").too_many(conditions.len(), MAX_CONDITIONS, causes);
    }
    let mut seen = HashSet::new();
    for condition in &conditions {
        let (name, expression) = (condition.at("name"), condition.at("expression"));
        if expression.text().trim().is_empty() {
            expression.required("", causes);
        } else {
            let trimmed = json!(expression.text().trim());
            let shown = Field::new(&trimmed, expression.path.as_str());
            expression::check(&shown, Place::MatchCondition, scope, causes);
        }
        name.check_required(text::qualified_name, causes);
        if !name.text().is_empty() && seen.contains(&name.text()) {
            name.duplicate(causes);
        }
        seen.insert(name.text());
    }
}

/// Checks what kind of object parameters are.
pub fn param_kind(kind: &Field<'_>, causes: &mut Vec<Cause>) {
    let (version, name) = (kind.at("apiVersion"), kind.at("kind"));
    if version.needs_text(causes) {
        let refuse = |value: &str, why: &str, causes: &mut Vec<Cause>| {
            causes.push(Cause::invalid(version.path.as_str(), &json!(value), why));
        };
        let parts: Vec<&str> = version.text().split('/').collect();
        let (group, own) = match parts.as_slice() {
            [own] => ("", *own),
            [group, own] => (*group, *own),
            _ => {
                refuse(version.text(), &format!("unexpected GroupVersion string: {}", version.text()), causes);
                ("", "v1")
            }
        };
        let faults = if group.is_empty() { Vec::new() } else { text::dns1123_subdomain(group) };
        if !faults.is_empty() {
            refuse(group, &faults.join(","), causes);
        }
        let faults = text::dns1035_label(own);
        if own.is_empty() {
            refuse(version.text(), "version must be specified", causes);
        } else if !faults.is_empty() {
            refuse(own, &faults.join(","), causes);
        }
    }
    if name.needs_text(causes) {
        let faults = text::dns1035_label(&name.text().to_lowercase());
        if !faults.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            name.invalid(&why, causes);
        }
    }
}

/// Checks which parameters are meant.
pub fn param_ref(reference: &Field<'_>, causes: &mut Vec<Cause>) {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, labels) = (reference.at("name"), reference.get("selector"));
    let named = !name.text().is_empty();
    if named {
        name.check(text::path_segment, causes);
        if labels.is_some() {
            name.forbidden(BOTH, causes);
        }
    }
    match &labels {
        Some(labels) => {
            selector::check(Some(labels.value), &labels.path, causes);
            if named {
                labels.forbidden(BOTH, causes);
            }
        }
        None if !named => reference.required("one of name or selector must be specified", causes),
        None => {}
    }
    reference.at("parameterNotFoundAction").needs_one_of(&["Deny", "Allow"], causes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(value: Value) -> Vec<String> {
        let mut causes = Vec::new();
        rule(&Field::new(&value, "r"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn wildcards_stand_alone() {
        let rule = |resources: Value| json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": resources});
        assert_eq!(faults(rule(json!(["pods", "pods/status", "*/scale"]))), Vec::<String>::new());
        assert_eq!(
            faults(rule(json!(["pods/*", "pods/status"]))),
            ["r.resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status"]
        );
        assert_eq!(
            faults(rule(json!(["*", "pods"]))),
            [
                "r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources"
            ]
        );
    }
}
