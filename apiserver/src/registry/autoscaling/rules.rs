//! What holds for HorizontalPodAutoscalers, in the form of version 2.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::Value;

use crate::registry::{
    object,
    validation::{field::Field, pod, text},
};

/// Longest period of a policy, in seconds.
const MAX_PERIOD: i64 = 1800;
/// Longest look back before scaling, in seconds.
const MAX_WINDOW: i64 = 3600;
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Sources in the order in which upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// Checks one, against what it was if it was there.
pub(super) fn check(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = Field::new(object, "").at("spec");
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    let was_zero = old.and_then(|old| object::int(old, &["spec", "minReplicas"])) == Some(0);
    let bound = i64::from(!was_zero);
    if least.int().is_some_and(|number| number < bound) {
        least.invalid(&format!("must be greater than or equal to {bound}"), causes);
    }
    let maximum = most.int().unwrap_or(0);
    match maximum {
        0 => most.required("must be set and greater than 0", causes),
        ..0 => most.invalid("must be greater than or equal to 1", causes),
        _ => {}
    }
    if least.int().is_some_and(|least| maximum < least) {
        let why = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid(most.path.as_str(), &maximum.into(), why));
    }
    reference(&spec.at("scaleTargetRef"), target_version(&spec, old), causes);
    metrics(&spec, least.int(), described_version(old), causes);
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").get(direction) {
            scaling(&rules, causes);
        }
    }
}

/// What the `apiVersion` of a reference has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// A group and a version.
    Grouped,
    /// A version, of the group without a name too.
    Any,
    /// Nothing: it was there before.
    Unchecked,
}

/// The target need not name a group where it is the one kind of the group without a name that has a scale.
fn target_version(spec: &Field<'_>, old: Option<&Value>) -> Version {
    let of = |key: &str| spec.at("scaleTargetRef").str(key);
    let kept = |old: &Value| {
        ["apiVersion", "kind"].into_iter().all(|key| object::text(old, &["spec", "scaleTargetRef", key]) == of(key))
    };
    if old.is_some_and(kept) {
        Version::Unchecked
    } else if of("kind") == "ReplicationController" {
        Version::Any
    } else {
        Version::Grouped
    }
}

/// Objects that metrics describe are let be where one was wrong before.
fn described_version(old: Option<&Value>) -> Version {
    let metrics = old.map_or(&[][..], |old| object::list(old, &["spec", "metrics"]));
    let described = metrics
        .iter()
        .filter(|metric| object::text(metric, &["type"]) == "Object")
        .filter_map(|metric| object::at(metric, &["object", "describedObject"]));
    let mut versions = described.map(|object| object::text(object, &["apiVersion"]));
    if versions.any(|version| version_fault(version, Version::Any).is_some()) {
        Version::Unchecked
    } else {
        Version::Any
    }
}

fn version_fault(version: &str, wanted: Version) -> Option<String> {
    if wanted == Version::Unchecked {
        return None;
    }
    match version.split_once('/') {
        Some((_, rest)) if rest.contains('/') => Some(format!("unexpected GroupVersion string: {version}")),
        Some((group, _)) if !group.is_empty() => None,
        _ if wanted == Version::Any => None,
        _ => Some("apiVersion must specify API group".to_owned()),
    }
}

fn reference(reference: &Field<'_>, wanted: Version, causes: &mut Vec<Cause>) {
    reference.at("kind").check_required(text::path_segment, causes);
    reference.at("name").check_required(text::path_segment, causes);
    let version = reference.str("apiVersion");
    if let Some(fault) = version_fault(version, wanted) {
        causes.push(Cause::invalid(reference.at("apiVersion").path, &version.into(), &fault));
    }
}

fn metrics(spec: &Field<'_>, least: Option<i64>, described: Version, causes: &mut Vec<Cause>) {
    let all = spec.items("metrics");
    for metric in &all {
        one_metric(metric, described, causes);
    }
    let outside = all.iter().any(|metric| matches!(metric.str("type"), "Object" | "External"));
    if least == Some(0) && !outside {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        spec.at("metrics").forbidden(why, causes);
    }
}

fn one_metric(metric: &Field<'_>, described: Version, causes: &mut Vec<Cause>) {
    let kind = metric.at("type");
    if kind.text().is_empty() {
        kind.required("must specify a metric source type", causes);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, field)| *field);
    if expected.is_none() {
        kind.one_of(&TYPES, causes);
    }
    let present: Vec<Field<'_>> = SOURCES.iter().filter_map(|(_, field)| metric.get(field)).collect();
    if let Some(first) = present.first() {
        source(first, described, causes);
    }
    match expected {
        None => kind.one_of(&TYPES, causes),
        Some(field) if metric.get(field).is_none() => {
            metric.at(field).required("must populate information for the given metric source", causes);
        }
        Some(_) => {}
    }
    if present.len() != 1 {
        let own = expected.map(|field| metric.at(field).path);
        for other in present.iter().filter(|other| Some(&other.path) != own.as_ref()) {
            other.forbidden("must populate the given metric source only", causes);
        }
    }
}

fn source(source: &Field<'_>, described: Version, causes: &mut Vec<Cause>) {
    let field = source.path.rsplit('.').next().unwrap_or_default();
    let target = source.at("target");
    if field == "object" {
        reference(&source.at("describedObject"), described, causes);
    }
    if matches!(field, "object" | "external" | "pods") {
        let name = source.at("metric").at("name");
        if name.text().is_empty() {
            name.required("must specify a metric name", causes);
        } else {
            name.check(text::path_segment, causes);
        }
    } else {
        resource(source, field, causes);
    }
    metric_target(&target, causes);
    let has = |key: &str| target.get(key).is_some();
    let (value, average, share) = (has("value"), has("averageValue"), has("averageUtilization"));
    match field {
        "object" if !value && !average => {
            target.at("averageValue").required("must set either a target value or averageValue", causes);
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            target.at("averageValue").required(why, causes);
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            target.at("value").forbidden(why, causes);
        }
        "pods" if !average => {
            target.at("averageValue").required("must specify a positive target averageValue", causes);
        }
        "resource" | "containerResource" if !share && !average => {
            let why = "must set either a target raw value or a target utilization";
            target.at("averageUtilization").required(why, causes);
        }
        "resource" | "containerResource" if share && average => {
            let why = "may not set both a target raw value and a target utilization";
            target.at("averageValue").forbidden(why, causes);
        }
        _ => {}
    }
}

fn resource(source: &Field<'_>, field: &str, causes: &mut Vec<Cause>) {
    let name = source.at("name");
    if name.text().is_empty() {
        name.required("must specify a resource name", causes);
    } else if field == "containerResource" {
        pod::container_resource_name(name.text(), &name, causes);
    }
    if field == "containerResource" {
        let container = source.at("container");
        if container.text().is_empty() {
            container.required("must specify a container", causes);
        } else {
            container.check(text::dns1123_label, causes);
        }
    }
}

fn metric_target(target: &Field<'_>, causes: &mut Vec<Cause>) {
    let kind = target.at("type");
    if kind.text().is_empty() {
        kind.required("must specify a metric target type", causes);
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        causes.push(Cause::invalid(kind.path, &target.str("type").into(), why));
    }
    for key in ["value", "averageValue"] {
        let amount = target.at(key);
        let parsed = amount.text().parse::<Quantity>();
        if parsed.is_ok_and(|quantity| quantity.is_negative() || quantity.is_zero()) {
            amount.invalid("must be positive", causes);
        }
    }
    let share = target.at("averageUtilization");
    if share.int().is_some_and(|share| share < 1) {
        share.invalid("must be greater than 0", causes);
    }
}

fn scaling(rules: &Field<'_>, causes: &mut Vec<Cause>) {
    let window = rules.at("stabilizationWindowSeconds");
    match window.int() {
        Some(seconds) if seconds < 0 => window.invalid("must be greater than or equal to zero", causes),
        Some(seconds) if seconds > MAX_WINDOW => {
            window.invalid(&format!("must be less than or equal to {MAX_WINDOW}"), causes);
        }
        _ => {}
    }
    if let Some(select) = rules.get("selectPolicy") {
        select.one_of(&["Disabled", "Max", "Min"], causes);
    }
    if rules.count("policies") == 0 {
        rules.at("policies").required("must specify at least one Policy", causes);
    }
    for policy in rules.items("policies") {
        policy.at("type").one_of(&["Percent", "Pods"], causes);
        for key in ["value", "periodSeconds"] {
            let number = policy.at(key);
            if number.int().unwrap_or(0) <= 0 {
                let shown = number.int().unwrap_or(0).into();
                causes.push(Cause::invalid(number.path, &shown, "must be greater than zero"));
            }
        }
        let period = policy.at("periodSeconds");
        if period.int().is_some_and(|seconds| seconds > MAX_PERIOD) {
            period.invalid(&format!("must be less than or equal to {MAX_PERIOD}"), causes);
        }
    }
    if let Some(tolerance) = rules.get("tolerance")
        && tolerance.text().parse::<Quantity>().is_ok_and(|quantity| quantity.is_negative())
    {
        tolerance.invalid("must be greater than or equal to 0", causes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&json!({ "spec": spec }), None, &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn target() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"})
    }

    #[test]
    fn a_target_names_its_group() {
        assert_eq!(
            faults(json!({"minReplicas": 1, "maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}})),
            [r#"spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group"#]
        );
    }

    #[test]
    fn a_maximum_is_set_and_positive() {
        let most = |most: i64| faults(json!({"maxReplicas": most, "scaleTargetRef": target()}));
        assert_eq!(most(0), ["spec.maxReplicas: Required value: must be set and greater than 0"]);
        assert_eq!(most(-1), ["spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1"]);
    }

    #[test]
    fn a_target_of_old_is_let_be() {
        let spec = |kind: &str, version: &str| {
            json!({"minReplicas": 1, "maxReplicas": 1,
                "scaleTargetRef": {"kind": kind, "name": "d", "apiVersion": version}})
        };
        let faults = |new: Value, old: Value| {
            let mut causes = Vec::new();
            check(&json!({ "spec": new }), Some(&json!({ "spec": old })), &mut causes);
            causes.len()
        };
        assert_eq!(faults(spec("Deployment", "v1"), spec("Deployment", "v1")), 0);
        assert_eq!(faults(spec("Deployment", "a/b/c"), spec("Deployment", "v1")), 1);
        assert_eq!(faults(spec("ReplicationController", ""), spec("Deployment", "v1")), 0);
    }

    #[test]
    fn a_metric_has_one_source_and_one_target() {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 5, "averageValue": "1"}}});
        assert_eq!(
            faults(json!({"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": target(), "metrics": [metric]})),
            [
                "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"
            ]
        );
    }
}
