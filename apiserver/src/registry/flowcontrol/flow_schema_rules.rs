//! What holds for FlowSchemas.

use martello_api::status::Cause;
use serde_json::Value;

use crate::registry::{
    object,
    validation::{
        field::{Field, go_form},
        text,
    },
};

/// Largest precedence: that of the schema that takes what no other takes.
const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// Subjects: kind, and the key of its part.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

const NAMESPACES: &str = "each member of this list must be '*' or a DNS-1123 label";

/// Checks a FlowSchema.
pub fn check(schema: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(schema, "");
    let spec = whole.at("spec");
    let precedence = spec.at("matchingPrecedence");
    match precedence.int().unwrap_or(0) {
        ..=0 => precedence.invalid("must be a positive value", causes),
        1 if object::name(schema) != "exempt" => {
            precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1", causes);
        }
        number if number > MAX_PRECEDENCE => precedence.invalid("must not be greater than 10000", causes),
        _ => {}
    }
    if let Some(method) = spec.get("distinguisherMethod")
        && !["ByNamespace", "ByUser"].contains(&method.str("type"))
    {
        let shown = go_form(method.value, &[("type", "Type", "".into())]);
        causes.push(Cause::not_supported(method.at("type").path, &shown, &["ByNamespace", "ByUser"]));
    }
    let level = spec.at("priorityLevelConfiguration").at("name");
    if level.text().is_empty() {
        level.required("must reference a priority level", causes);
    } else {
        level.check(text::dns1123_subdomain, causes);
    }
    for rule in spec.items("rules") {
        check_rule(&rule, causes);
    }
}

fn check_rule(rule: &Field<'_>, causes: &mut Vec<Cause>) {
    let subjects = rule.items("subjects");
    if subjects.is_empty() {
        rule.at("subjects").required("subjects must contain at least one value", causes);
    }
    subjects.iter().for_each(|one| subject(one, causes));
    if rule.count("resourceRules") == 0 && rule.count("nonResourceRules") == 0 {
        rule.required("at least one of resourceRules and nonResourceRules has to be non-empty", causes);
    }
    rule.items("resourceRules").iter().for_each(|one| resource_rule(one, causes));
    rule.items("nonResourceRules").iter().for_each(|one| path_rule(one, causes));
}

fn subject(subject: &Field<'_>, causes: &mut Vec<Cause>) {
    let kind = subject.str("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind) else {
        return subject.at("kind").one_of(&["Group", "ServiceAccount", "User"], causes);
    };
    let part = subject.at(own);
    if part.value.is_null() {
        part.required(&format!("{own} is required when subject kind is '{kind}'"), causes);
    } else {
        let name = part.at("name");
        if name.needs_text(causes) && kind == "ServiceAccount" && name.text() != "*" {
            name.check(text::dns1123_subdomain, causes);
        }
        if kind == "ServiceAccount" {
            let namespace = part.at("namespace");
            if namespace.text().is_empty() {
                namespace.required("must specify namespace for service account", causes);
            } else {
                namespace.check(text::dns1123_label, causes);
            }
        }
    }
    for (name, key) in SUBJECTS.iter().filter(|(name, _)| *name != kind) {
        if let Some(other) = subject.get(key) {
            other.forbidden(&format!("{key} is forbidden when subject kind is not '{name}'"), causes);
        }
    }
}

/// Checks a list that may be the wildcard alone; answers whether it is neither empty nor the wildcard.
fn list(list: &Field<'_>, missing: &str, others: &str, causes: &mut Vec<Cause>) -> bool {
    let values: Vec<&str> = object::list(list.value, &[]).iter().filter_map(Value::as_str).collect();
    if values.is_empty() {
        list.required(missing, causes);
        return false;
    }
    if values.contains(&"*") {
        if values.len() > 1 {
            list.invalid(&format!("if '*' is present, must not specify other {others}"), causes);
        }
        return false;
    }
    true
}

fn verbs(rule: &Field<'_>, causes: &mut Vec<Cause>) {
    let verbs = rule.at("verbs");
    if list(&verbs, "verbs must contain at least one value", "verbs", causes) {
        let known = |verb: &Value| verb.as_str().is_some_and(|verb| VERBS.contains(&verb));
        if !object::list(verbs.value, &[]).iter().all(known) {
            causes.push(Cause::not_supported(verbs.path.as_str(), verbs.value, &VERBS));
        }
    }
}

fn resource_rule(rule: &Field<'_>, causes: &mut Vec<Cause>) {
    verbs(rule, causes);
    list(&rule.at("apiGroups"), "resource rules must supply at least one api group", "api groups", causes);
    list(&rule.at("resources"), "resource rules must supply at least one resource", "resources", causes);
    let namespaces = rule.at("namespaces");
    if rule.flag("clusterScope") && rule.count("namespaces") == 0 {
        return;
    }
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    if list(&namespaces, missing, "namespaces", causes) {
        let label = |name: &str| -> text::Faults {
            text::dns1123_label(name).into_iter().map(|fault| format!("{NAMESPACES}; {fault}")).collect()
        };
        rule.items("namespaces").iter().for_each(|one| one.check(label, causes));
    }
}

fn path_rule(rule: &Field<'_>, causes: &mut Vec<Cause>) {
    verbs(rule, causes);
    let missing = "nonResourceURLs must contain at least one value";
    if list(&rule.at("nonResourceURLs"), missing, "non-resource URLs", causes) {
        for path in rule.items("nonResourceURLs") {
            if let Some(why) = path_fault(path.text()) {
                path.invalid(why, causes);
            }
        }
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(rule: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_rule(&Field::new(&rule, "r"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_subject_has_the_part_of_its_kind_only() {
        let rule = json!({
            "subjects": [{"kind": "User", "group": {"name": "g"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a*"]}],
        });
        assert_eq!(
            faults(rule),
            [
                "r.subjects[0].user: Required value: user is required when subject kind is 'User'",
                "r.subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "r.nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
            ]
        );
    }

    #[test]
    fn the_objects_of_every_cluster_are_valid() {
        for object in super::super::bootstrap::MANDATORY.iter().chain(super::super::bootstrap::SUGGESTED.iter()) {
            let mut causes = Vec::new();
            if object["kind"] == "FlowSchema" {
                check(object, &mut causes);
            } else {
                super::super::priority_level::check(object, &mut causes);
            }
            assert_eq!(causes, [], "{}", object["metadata"]["name"]);
        }
    }
}
