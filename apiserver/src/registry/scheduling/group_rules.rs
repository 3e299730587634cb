//! What holds for groups of pods that are scheduled together, and for templates of such groups.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{
        field::Field,
        text::{self, Faults},
    },
};

/// Most claims of a group, as many as a claim may be reserved for together.
const MAX_CLAIMS: usize = 4;
const MAX_TOPOLOGY: usize = 1;
/// The highest priority that users may give.
const MAX_PRIORITY: i64 = 1_000_000_000;
const MODES: [&str; 2] = ["Pod", "PodGroup"];

/// Checks what a group and a template of a group have in common. `old` is the group as it was: what it was made with stays.
pub fn check(own: &Field<'_>, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(policy) = changed(own, "schedulingPolicy", old, causes) {
        check_policy(&policy, causes);
    }
    if let Some(constraints) = changed(own, "schedulingConstraints", old, causes) {
        list(&constraints, "topology", MAX_TOPOLOGY, None, causes, |one, causes| {
            one.at("key").check_required(text::label_key, causes);
        });
    }
    if changed(own, "resourceClaims", old, causes).is_some() {
        list(own, "resourceClaims", MAX_CLAIMS, Some("name"), causes, check_claim);
    }
    if let Some(mode) = changed(own, "disruptionMode", old, causes).filter(|mode| !mode.value.is_null()) {
        mode.one_of(&MODES, causes);
    }
    if let Some(class) = changed(own, "priorityClassName", old, causes) {
        class.check_if_set(text::dns1123_subdomain, causes);
    }
    if let Some(priority) = changed(own, "priority", old, causes)
        && priority.int().is_some_and(|number| number > MAX_PRIORITY)
    {
        priority.invalid(&format!("must be less than or equal to {MAX_PRIORITY}"), causes);
    }
}

/// The field under `key`, where it is to be checked: what is as it was is not looked at again, and what is not may not be.
pub fn changed<'a>(owner: &Field<'a>, key: &str, old: Option<&Value>, causes: &mut Vec<Cause>) -> Option<Field<'a>> {
    let field = owner.at(key);
    let Some(old) = old else { return Some(field) };
    if !object::same(Some(field.value), old.get(key)) {
        field.invalid("field is immutable", causes);
    }
    None
}

/// Checks a list that may not be too long, and of which no two items have the same `name`.
pub fn list(
    owner: &Field<'_>,
    key: &str,
    limit: usize,
    name: Option<&str>,
    causes: &mut Vec<Cause>,
    check: impl Fn(&Field<'_>, &mut Vec<Cause>),
) {
    let items = owner.items(key);
    if items.len() > limit {
        return owner.at(key).too_many(items.len(), limit, causes);
    }
    if let Some(name) = name {
        let mut seen: Vec<&str> = Vec::new();
        for item in &items {
            if seen.contains(&item.str(name)) {
                item.duplicate(causes);
            }
            seen.push(item.str(name));
        }
    }
    items.iter().for_each(|item| check(item, causes));
}

/// Checks that of several fields one is set; answers it.
pub fn one_of<'a>(owner: &Field<'a>, keys: &[&str], causes: &mut Vec<Cause>) -> Option<Field<'a>> {
    let quoted = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let set: Vec<&str> = keys.iter().filter(|key| owner.get(key).is_some()).copied().collect();
    match set.as_slice() {
        [] => {
            let why = format!("must specify one of: {}", quoted(keys));
            causes.push(Cause::invalid(owner.path.as_str(), &json!(""), &why));
            None
        }
        [one] => owner.get(one),
        many => {
            let why = format!("must specify exactly one of: {}", quoted(keys));
            causes.push(Cause::invalid(owner.path.as_str(), &json!(format!("{{{}}}", many.join(", "))), &why));
            None
        }
    }
}

fn check_policy(policy: &Field<'_>, causes: &mut Vec<Cause>) {
    one_of(policy, &["basic", "gang"], causes);
    if let Some(gang) = policy.get("gang") {
        let count = gang.at("minCount");
        match count.int().unwrap_or(0) {
            0 => count.required("", causes),
            ..0 => count.invalid("must be greater than or equal to 1", causes),
            _ => {}
        }
    }
}

fn check_claim(claim: &Field<'_>, causes: &mut Vec<Cause>) {
    const SOURCES: [&str; 2] = ["resourceClaimName", "resourceClaimTemplateName"];
    one_of(claim, &SOURCES, causes);
    claim.at("name").check_required(text::dns1123_label, causes);
    for source in SOURCES {
        if let Some(name) = claim.get(source) {
            name.check(text::dns1123_subdomain, causes);
        }
    }
}

/// How a name is judged.
pub type Rule = fn(&str) -> Faults;

/// Checks the names that a field must have, each by its rule.
pub fn names(owner: &Field<'_>, rules: &[(&str, Rule)], causes: &mut Vec<Cause>) {
    for (key, rule) in rules {
        owner.at(key).check_required(rule, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(group: &Value, old: Option<&Value>) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::new(group, "spec"), old, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_group_has_one_policy_and_a_gang_has_members() {
        assert!(faults(&json!({"schedulingPolicy": {"basic": {}}}), None).is_empty());
        assert_eq!(
            faults(&json!({"schedulingPolicy": {}}), None),
            ["spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`"]
        );
        assert_eq!(
            faults(&json!({"schedulingPolicy": {"gang": {"minCount": -1}, "basic": {}}}), None),
            [
                "spec.schedulingPolicy: Invalid value: \"{basic, gang}\": must specify exactly one of: `basic`, `gang`",
                "spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1",
            ]
        );
    }

    #[test]
    fn what_a_group_was_made_with_stays() {
        let old = json!({"schedulingPolicy": {"gang": {"minCount": 2}}, "priority": 3});
        assert!(faults(&old, Some(&old)).is_empty());
        let new = json!({"schedulingPolicy": {"gang": {"minCount": 3}}, "disruptionMode": "Pod"});
        assert_eq!(
            faults(&new, Some(&old)),
            [
                "spec.schedulingPolicy: Invalid value: {\"gang\":{\"minCount\":3}}: field is immutable",
                "spec.disruptionMode: Invalid value: \"Pod\": field is immutable",
                "spec.priority: Invalid value: null: field is immutable",
            ]
        );
    }

    #[test]
    fn claims_have_names_of_their_own_and_one_source() {
        let group = json!({"schedulingPolicy": {"basic": {}}, "resourceClaims": [
            {"name": "a", "resourceClaimName": "c"}, {"name": "a"}]});
        assert_eq!(
            faults(&group, None),
            [
                "spec.resourceClaims[1]: Duplicate value: {\"name\":\"a\"}",
                "spec.resourceClaims[1]: Invalid value: \"\": must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ]
        );
    }
}
