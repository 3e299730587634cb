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
    if maximum < 1 {
        most.required("must be set and greater than 0", causes);
    }
    if least.int().is_some_and(|least| maximum < least) {
        let why = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid(most.path, &maximum.into(), why));
    }
    let target = spec.at("scaleTargetRef");
    let old_target = old.and_then(|old| object::at(old, &["spec", "scaleTargetRef"]));
    let lenient = old_target.is_some_and(|old| !version_faults(old, false).is_empty());
    reference(&target, !lenient, false, causes);
    metrics(&spec, least.int(), causes);
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").get(direction) {
            scaling(&rules, causes);
        }
    }
}

fn version_faults(reference: &Value, core_too: bool) -> Vec<String> {
    let version = object::text(reference, &["apiVersion"]);
    match version.matches('/').count() {
        0 if core_too || object::text(reference, &["kind"]) == "ReplicationController" && version == "v1" => Vec::new(),
        0 => vec!["apiVersion must specify API group".to_owned()],
        1 => Vec::new(),
        _ => vec![format!("unexpected GroupVersion string: {version}")],
    }
}

fn reference(reference: &Field<'_>, versioned: bool, core_too: bool, causes: &mut Vec<Cause>) {
    reference.at("kind").check_required(text::path_segment, causes);
    reference.at("name").check_required(text::path_segment, causes);
    if versioned {
        for fault in version_faults(reference.value, core_too) {
            let version = reference.at("apiVersion");
            causes.push(Cause::invalid(version.path, &reference.str("apiVersion").into(), &fault));
        }
    }
}

fn metrics(spec: &Field<'_>, least: Option<i64>, causes: &mut Vec<Cause>) {
    let all = spec.items("metrics");
    for metric in &all {
        one_metric(metric, causes);
    }
    let outside = all.iter().any(|metric| matches!(metric.str("type"), "Object" | "External"));
    if least == Some(0) && !outside {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        spec.at("metrics").forbidden(why, causes);
    }
}

fn one_metric(metric: &Field<'_>, causes: &mut Vec<Cause>) {
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
        source(first, causes);
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

fn source(source: &Field<'_>, causes: &mut Vec<Cause>) {
    let field = source.path.rsplit('.').next().unwrap_or_default();
    let target = source.at("target");
    if field == "object" {
        reference(&source.at("describedObject"), true, true, causes);
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
