//! What workloads share: a template, a selector that selects it, a number of replicas.

use std::num::{IntErrorKind, ParseIntError};

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    core::pod_defaults,
    kind::{Cell, plain_field},
    object, table,
    validation::{
        field::{Field, selector_shown},
        pod, selector, text,
    },
};

/// Defaults of a pod template at `spec.template`.
pub fn default_template(object: &mut Value) {
    pod_defaults::spec(object, &["spec", "template", "spec"], false);
}

/// Checks that a number is not negative.
pub fn not_negative(object: &Value, key: &str, causes: &mut Vec<Cause>) {
    Field::new(object, "").at("spec").at(key).not_negative(causes);
}

/// Checks selector and template.
pub fn check(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let (spec, found) = (whole.at("spec"), whole.at("spec").at("selector"));
    if found.value.is_null() {
        found.required("", causes);
    } else {
        selector::check(Some(found.value), &found.path, causes);
        if selector::is_empty(found.value) {
            found.invalid("empty selector is invalid for deployment", causes);
        }
        if !selector::is_sound(found.value) {
            return found.invalid("invalid label selector", causes);
        }
    }
    let labels = spec.at("template").at("metadata").at("labels");
    if found.value.is_null() || !selector::selects(found.value, Some(labels.value)) {
        labels.invalid("`selector` does not match template `labels`", causes);
    }
    template(object, "ReplicaSet", causes);
}

/// Checks the pod template at `spec.template` of a kind whose pods run for ever.
pub fn template(object: &Value, kind: &str, causes: &mut Vec<Cause>) {
    pod::template(object, &["spec", "template"], "spec.template", causes);
    always_restarts(object, kind, causes);
}

/// Checks that the pods of the template at `spec.template` run for ever.
pub fn always_restarts(object: &Value, kind: &str, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec").at("template").at("spec");
    spec.at("restartPolicy").one_of(&["Always"], causes);
    if spec.get("activeDeadlineSeconds").is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        spec.at("activeDeadlineSeconds").forbidden(&why, causes);
    }
}

/// Warnings about a workload whose pods bear its name, and whose template is at `spec.template`.
#[must_use]
pub fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = name_warnings(object, old);
    said.extend(template_warnings(object, old, &["spec", "template"], "spec.template"));
    said
}

/// Warnings about the pod template at `at`; on an update only of a new generation.
#[must_use]
pub fn template_warnings(object: &Value, old: Option<&Value>, at: &[&str], path: &str) -> Vec<String> {
    if old.is_some_and(|old| object::same_generation(object, old)) {
        return Vec::new();
    }
    pod::template_warnings(object, at, path)
}

/// What is told of a new object whose name can't be the name of a host.
#[must_use]
pub fn name_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let faults = text::dns1123_label(object::name(object));
    if old.is_some() || faults.is_empty() {
        return Vec::new();
    }
    let faults = faults.join(" ");
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{faults}]"
    )]
}

/// The row of what keeps so many pods of one template, with its selector as it is shown.
#[must_use]
pub fn replicas_row(object: &Value, selector: String) -> Vec<Cell> {
    let count = |part: &str, key: &str| Cell::from(object::int(object, &[part, key]).unwrap_or(0));
    let [names, images] = containers(object);
    vec![
        object::name(object).into(),
        count("spec", "replicas"),
        count("status", "replicas"),
        count("status", "readyReplicas"),
        table::age(object),
        names,
        images,
        selector.into(),
    ]
}

/// A count as field selectors compare it: what is not there is zero.
#[must_use]
pub fn count_field(object: &Value, path: &str) -> String {
    let found = plain_field(object, path);
    if found.is_empty() { "0".to_owned() } else { found }
}

/// The selector is for ever.
pub fn check_selector(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, was) = (object::at(object, &["spec", "selector"]), object::at(old, &["spec", "selector"]));
    if !object::same(new, was) {
        let shown = selector_shown(new.unwrap_or(&Value::Null));
        causes.push(Cause::invalid("spec.selector", &shown, "field is immutable"));
    }
}

/// Checks that numbers of a status are not negative.
pub fn check_not_negative_status(object: &Value, keys: &[&str], causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    for key in keys {
        whole.at("status").at(key).not_negative(causes);
    }
}

/// Checks that the count of collisions does not fall.
pub fn check_collisions(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let count = |value| object::int(value, &["status", "collisionCount"]);
    let now = count(object).unwrap_or(0);
    if count(old).is_some_and(|before| before > now) {
        causes.push(Cause::invalid("status.collisionCount", &json!(now), "cannot be decremented"));
    }
}

/// Checks these numbers of a status: none is negative, and no part is more than the whole.
pub fn check_counts(object: &Value, keys: &[&str], causes: &mut Vec<Cause>) {
    check_not_negative_status(object, keys, causes);
    let count = |key: &str| object::int(object, &["status", key]).unwrap_or(0);
    let limits = [
        ("fullyLabeledReplicas", "replicas", "cannot be greater than status.replicas"),
        ("updatedReplicas", "replicas", "cannot be greater than status.replicas"),
        ("readyReplicas", "replicas", "cannot be greater than status.replicas"),
        ("availableReplicas", "replicas", "cannot be greater than status.replicas"),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ];
    for (key, bound, why) in limits {
        if keys.contains(&key) && count(key) > count(bound) {
            causes.push(Cause::invalid(format!("status.{key}"), &json!(count(key)), why));
        }
    }
}

/// The number in an annotation that upstream reads as a field; the error is the one of its parser.
pub fn annotated_number(object: &Value, key: &str) -> Result<Option<i64>, String> {
    let Some(text) = object::at(object, &["metadata", "annotations", key]).and_then(Value::as_str) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|error: ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// Names and images of the template's containers, as columns.
#[must_use]
pub fn containers(object: &Value) -> [Cell; 2] {
    containers_at(object, &["spec", "template", "spec", "containers"])
}

/// Names and images of the containers at `path`, as columns.
#[must_use]
pub fn containers_at(object: &Value, path: &[&str]) -> [Cell; 2] {
    let of = |key: &str| {
        let all: Vec<&str> =
            object::list(object, path).iter().map(|container| object::text(container, &[key])).collect();
        Cell::from(all.join(","))
    };
    [of("name"), of("image")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_numbers_that_a_kind_has_are_compared() {
        let mut causes = Vec::new();
        let keys = ["replicas", "readyReplicas"];
        check_counts(&json!({"status": {"replicas": -1}}), &keys, &mut causes);
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(fields, ["status.replicas", "status.readyReplicas"]);
    }

    #[test]
    fn a_number_in_an_annotation_is_read_as_upstream_reads_it() {
        let read = |text: &str| annotated_number(&json!({"metadata": {"annotations": {"n": text}}}), "n");
        assert_eq!(read("+5"), Ok(Some(5)));
        assert_eq!(read("x"), Err(r#"strconv.ParseInt: parsing "x": invalid syntax"#.to_owned()));
        let large = "99999999999999999999";
        assert_eq!(read(large), Err(format!("strconv.ParseInt: parsing {large:?}: value out of range")));
        assert_eq!(annotated_number(&json!({}), "n"), Ok(None));
    }
}
