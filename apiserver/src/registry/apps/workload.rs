//! What workloads share: a template, a selector that selects it, a number of replicas.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    core::pod_defaults,
    object,
    validation::{metadata, pod, selector},
};

/// Defaults of a pod template at `spec.template`.
pub fn default_template(object: &mut Value) {
    pod_defaults::spec(object, &["spec", "template", "spec"], false);
}

/// Checks number, selector and template.
pub fn check(object: &Value, causes: &mut Vec<Cause>) {
    for (path, value) in [
        ("spec.replicas", object::int(object, &["spec", "replicas"])),
        ("spec.minReadySeconds", object::int(object, &["spec", "minReadySeconds"])),
    ] {
        if let Some(value) = value
            && value < 0
        {
            causes.push(Cause::invalid(path, &json!(value), "must be greater than or equal to 0"));
        }
    }
    let labels = object::at(object, &["spec", "template", "metadata", "labels"]);
    match object::at(object, &["spec", "selector"]).filter(|selector| !selector.is_null()) {
        None => causes.push(Cause::required("spec.selector", "")),
        Some(found) => {
            selector::check(Some(found), "spec.selector", causes);
            if selector::is_empty(found) {
                causes.push(Cause::invalid("spec.selector", found, "empty selector is invalid for deployment"));
            }
            if !selector::selects(found, labels) {
                let labels = labels.cloned().unwrap_or(Value::Null);
                causes.push(Cause::invalid(
                    "spec.template.metadata.labels",
                    &labels,
                    "`selector` does not match template `labels`",
                ));
            }
        }
    }
    template(object, causes);
}

/// Checks the pod template at `spec.template`.
pub fn template(object: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "spec.template";
    metadata::labels(
        object::at(object, &["spec", "template", "metadata", "labels"]),
        &format!("{PATH}.labels"),
        causes,
    );
    metadata::annotations(
        object::at(object, &["spec", "template", "metadata", "annotations"]),
        &format!("{PATH}.annotations"),
        causes,
    );
    pod::spec(object, &["spec", "template", "spec"], "spec.template.spec", causes);
    let policy = object::text(object, &["spec", "template", "spec", "restartPolicy"]);
    if matches!(policy, "OnFailure" | "Never") {
        causes.push(Cause::not_supported(format!("{PATH}.spec.restartPolicy"), &json!(policy), &["Always"]));
    }
    if object::int(object, &["spec", "template", "spec", "activeDeadlineSeconds"]).is_some() {
        causes.push(Cause::forbidden(
            format!("{PATH}.spec.activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        ));
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
