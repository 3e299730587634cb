//! What holds for policies in CEL.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{policy::Policies, rules};
use crate::{
    cel,
    crd::jsonpath::JsonPath,
    registry::{
        object,
        validation::{
            condition,
            expression::{self, Place, Scope},
            field::{Field, capitalized},
            text,
        },
    },
};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Most annotations of the audit trail, and longest expression of one.
const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_BYTES: usize = 5 * 1024;
/// What a mutating policy may be about: nothing is left to change of what is deleted.
const MUTABLE: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// Checks a policy, given what it was.
pub fn check(policies: Policies, policy: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let whole = Field::new(policy, "");
    let spec = whole.at("spec");
    let params = spec.get("paramKind");
    // Upstream always knows the name in mutating policies.
    let composed = policies == Policies::Mutating || spec.count("variables") > 0;
    let mut scope = Scope { params: params.is_some(), composed, variables: Vec::new() };
    spec.at("failurePolicy").needs_one_of(&rules::FAILURE_POLICIES, causes);
    if let Some(kind) = params {
        rules::param_kind(&kind, causes);
    }
    match spec.get("matchConstraints") {
        None => spec.at("matchConstraints").required("", causes),
        Some(about) => {
            rules::match_resources(&about, causes);
            if about.count("resourceRules") == 0 {
                about.at("resourceRules").required("", causes);
            }
            if policies == Policies::Mutating {
                mutable(&about, causes);
            }
        }
    }
    let unchanged = |key: &str| {
        let part = |policy| object::at(policy, &["spec", key]);
        old.is_some_and(|old| object::same(part(old), part(policy)))
    };
    if !(unchanged("paramKind") && unchanged("matchConditions")) {
        rules::conditions(&spec, &scope, causes);
    }
    for one in spec.items("variables") {
        variable(&one, &scope, causes);
        scope.variables.push((one.str("name").to_owned(), one.str("expression").to_owned()));
    }
    match policies {
        Policies::Validating => validations(policy, &spec, &scope, causes),
        Policies::Mutating => mutations(&spec, &scope, causes),
    }
}

fn variable(variable: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    let (name, expression) = (variable.at("name"), variable.at("expression"));
    if name.text().trim().is_empty() {
        name.required("name is not specified", causes);
    } else if !text::c_identifier(name.text()).is_empty() || cel::is_no_name(name.text()) {
        name.invalid("must be a valid CEL identifier", causes);
    }
    if expression.text().trim().is_empty() {
        expression.required("expression is not specified", causes);
    } else {
        expression::check(&expression, Place::Variable, scope, causes);
    }
}

fn validations(policy: &Value, spec: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    let (rules, annotations) = (spec.items("validations"), spec.items("auditAnnotations"));
    if rules.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        spec.at("validations").required(why, causes);
        return spec.at("auditAnnotations").required(why, causes);
    }
    rules.iter().for_each(|rule| validation(rule, scope, causes));
    if annotations.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        let all = spec.at("auditAnnotations");
        causes.push(Cause::invalid(all.path, &capitalized(all.value), &why));
    }
    let mut seen = HashSet::new();
    for annotation in &annotations {
        let key = annotation.at("key");
        audit_annotation(object::name(policy), annotation, scope, causes);
        if seen.contains(&key.text()) {
            key.duplicate(causes);
        }
        seen.insert(key.text());
    }
}

fn validation(rule: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    let (expression, message, computed) = (rule.at("expression"), rule.at("message"), rule.at("messageExpression"));
    if expression.text().trim().is_empty() {
        expression.required("expression is not specified", causes);
    } else {
        expression::check(&expression, Place::Validation, scope, causes);
    }
    if !computed.text().trim().is_empty() {
        expression::check(&computed, Place::Message, scope, causes);
    } else if !computed.text().is_empty() {
        computed.invalid("must be non-empty if specified", causes);
    }
    if message.text().trim().contains(['\n', '\r']) {
        message.invalid("must not contain line breaks", causes);
    } else if !message.text().is_empty() && message.text().trim().is_empty() {
        message.invalid("must be non-empty if specified", causes);
    }
    if let Some(reason) = rule.get("reason") {
        reason.one_of(&REASONS, causes);
    }
}

fn audit_annotation(policy: &str, annotation: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    let (key, value) = (annotation.at("key"), annotation.at("valueExpression"));
    if policy.is_empty() {
        key.invalid("requires metadata.name be non-empty", causes);
    } else {
        let whole = format!("{policy}/{}", key.text());
        for fault in text::qualified_name(&whole) {
            causes.push(Cause::invalid(key.path.as_str(), &json!(whole), &fault));
        }
    }
    match value.text().trim() {
        "" => value.required("valueExpression is not specified", causes),
        long if long.len() > MAX_ANNOTATION_BYTES => {
            value.required(&format!("must not exceed {MAX_ANNOTATION_BYTES} bytes in length"), causes);
        }
        _ => expression::check(&value, Place::AuditAnnotation, scope, causes),
    }
}

/// Checks that a mutating policy is about nothing that is deleted.
pub fn mutable(about: &Field<'_>, causes: &mut Vec<Cause>) {
    for operation in about.items("resourceRules").iter().flat_map(|rule| rule.items("operations")) {
        let shown = Field::new(operation.value, format!("{}.resourceRules.operations", about.path));
        shown.one_of(&MUTABLE, causes);
    }
}

fn mutations(spec: &Field<'_>, scope: &Scope, causes: &mut Vec<Cause>) {
    const FORMS: [(&str, &str, Place); 2] = [
        ("ApplyConfiguration", "applyConfiguration", Place::ApplyConfiguration),
        ("JSONPatch", "jsonPatch", Place::JsonPatch),
    ];
    let mutations = spec.items("mutations");
    if mutations.is_empty() {
        spec.at("mutations").required("mutations must contain at least one item", causes);
    }
    for mutation in &mutations {
        let kind = mutation.at("patchType");
        if !kind.needs_text(causes) {
            continue;
        }
        let Some((name, key, place)) = FORMS.iter().find(|(name, ..)| *name == kind.text()) else {
            kind.one_of(&FORMS.map(|(name, ..)| name), causes);
            continue;
        };
        match mutation.get(key) {
            None => mutation.at(key).required(&format!("must be specified when patchType is {name}"), causes),
            Some(patch) if patch.str("expression").trim().is_empty() => patch.at("expression").required("", causes),
            Some(patch) => {
                let trimmed = json!(patch.str("expression").trim());
                expression::check(&Field::new(&trimmed, patch.at("expression").path), *place, scope, causes);
            }
        }
        for (_, other, _) in FORMS.iter().filter(|(_, other, _)| other != key) {
            if let Some(found) = mutation.get(other) {
                let why = format!("must not be specified when patchType is {name}");
                causes.push(Cause::invalid(found.path, &json!(format!("{{{other}}}")), &why));
            }
        }
    }
    spec.at("reinvocationPolicy").needs_one_of(&["Never", "IfNeeded"], causes);
}

/// Checks the status of a validating policy.
pub fn check_status(policy: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(policy, "");
    let status = whole.at("status");
    for warning in status.at("typeChecking").items("expressionWarnings") {
        warning.at("warning").needs_text(causes);
        reference(&warning.at("fieldRef"), causes);
    }
    condition::check(&status, causes);
}

/// What a warning is about is a JSON path; it may begin without a dot.
fn reference(field: &Field<'_>, causes: &mut Vec<Cause>) {
    let path = field.text().trim();
    if path.is_empty() {
        return field.required("", causes);
    }
    let dot = if path.starts_with(|first: char| first.is_alphanumeric() || first == '_') { "." } else { "" };
    if let Err(fault) = JsonPath::parse(&format!("{dot}{path}")) {
        causes.push(Cause::invalid(field.path.clone(), &path.into(), &format!("invalid JSONPath: {fault}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(policies: Policies, spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(policies, &json!({"metadata": {"name": "p"}, "spec": spec}), None, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_policy_says_what_it_is_about_and_what_it_does() {
        assert_eq!(
            faults(Policies::Mutating, json!({"failurePolicy": "Fail"})),
            [
                "spec.matchConstraints: Required value",
                "spec.mutations: Required value: mutations must contain at least one item",
                "spec.reinvocationPolicy: Required value",
            ]
        );
        assert_eq!(faults(Policies::Validating, json!({})).len(), 4);
    }

    #[test]
    fn nothing_is_changed_of_what_is_deleted() {
        let about = json!({"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [
            {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
        let spec = json!({"failurePolicy": "Fail", "matchConstraints": about, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}, "applyConfiguration": {}}]});
        assert_eq!(
            faults(Policies::Mutating, spec),
            [
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
            ]
        );
    }

    #[test]
    fn variables_are_known_where_there_are_some() {
        let spec = |variables: Value| {
            let about = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "operations": ["CREATE"]}], "matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}});
            json!({"failurePolicy": "Fail", "matchConstraints": about, "variables": variables,
                "validations": [{"expression": "variables.x == 1"}]})
        };
        let without = faults(Policies::Validating, spec(json!([])));
        assert!(without.iter().any(|told| told.contains("undeclared reference to 'variables'")), "{without:?}");
        let with = faults(Policies::Validating, spec(json!([{"name": "y", "expression": "1"}])));
        assert!(with.iter().any(|told| told.contains("undefined field 'x'")), "{with:?}");
    }

    #[test]
    fn a_warning_is_about_a_path() {
        let faults = |path: &str| {
            let warning = json!({"fieldRef": path, "warning": "w"});
            let mut causes = Vec::new();
            check_status(&json!({"status": {"typeChecking": {"expressionWarnings": [warning]}}}), &mut causes);
            causes.len()
        };
        assert_eq!(faults("spec.validations[0].expression"), 0);
        assert_eq!(faults(" "), 1);
        assert_eq!(faults("spec.validations[0"), 1);
    }
}
