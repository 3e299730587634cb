//! What workloads share: a template, a selector that selects it, a number of replicas.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    core::pod_defaults,
    object,
    validation::{field::Field, metadata, pod, selector},
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
    template(object, causes);
}

/// Checks the pod template at `spec.template`.
pub fn template(object: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.template";
    let whole = Field::new(object, "");
    let template = whole.at("spec").at("template");
    let of = |key: &str| object::at(template.value, &["metadata", key]);
    metadata::labels(of("labels"), &format!("{PATH}.labels"), causes);
    metadata::annotations(of("annotations"), &format!("{PATH}.annotations"), causes);
    pod::spec(object, &["spec", "template", "spec"], "spec.template.spec", causes);
    let spec = template.at("spec");
    if spec.count("ephemeralContainers") > 0 {
        let path = Field::new(&Value::Null, format!("{PATH}.spec.ephemeralContainers"));
        path.forbidden("ephemeral containers not allowed in pod template", causes);
    }
    let policy = spec.at("restartPolicy");
    if !policy.text().is_empty() {
        policy.one_of(&["Always"], causes);
    }
    if spec.get("activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        spec.at("activeDeadlineSeconds").forbidden(why, causes);
    }
}

/// The selector is for ever.
pub fn check_selector(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, was) = (object::at(object, &["spec", "selector"]), object::at(old, &["spec", "selector"]));
    if !object::semantically_equal(new, was) {
        causes.push(Cause::invalid("spec.selector", new.unwrap_or(&Value::Null), "field is immutable"));
    }
}

/// Checks that numbers of a status are not negative.
pub fn check_counts(object: &Value, keys: &[&str], causes: &mut Vec<Cause>) {
    for key in keys {
        if let Some(value) = object::int(object, &["status", key])
            && value < 0
        {
            causes.push(Cause::invalid(format!("status.{key}"), &json!(value), "must be greater than or equal to 0"));
        }
    }
    let count = |key: &str| object::int(object, &["status", key]).unwrap_or(0);
    let limits = [
        ("fullyLabeledReplicas", "replicas", "cannot be greater than status.replicas"),
        ("updatedReplicas", "replicas", "cannot be greater than status.replicas"),
        ("readyReplicas", "replicas", "cannot be greater than status.replicas"),
        ("availableReplicas", "replicas", "cannot be greater than status.replicas"),
        ("availableReplicas", "readyReplicas", "cannot be greater than readyReplicas"),
    ];
    for (key, bound, why) in limits {
        if count(key) > count(bound) {
            causes.push(Cause::invalid(format!("status.{key}"), &json!(count(key)), why));
        }
    }
}

/// Names and images of the template's containers, as columns.
#[must_use]
pub fn containers(object: &Value) -> [Value; 2] {
    containers_at(object, &["spec", "template", "spec", "containers"])
}

/// Names and images of the containers at `path`, as columns.
#[must_use]
pub fn containers_at(object: &Value, path: &[&str]) -> [Value; 2] {
    let of = |key: &str| {
        let all: Vec<&str> =
            object::list(object, path).iter().map(|container| object::text(container, &[key])).collect();
        Value::from(all.join(","))
    };
    [of("name"), of("image")]
}
