//! HorizontalPodAutoscalers between their versions. What version 1 has no field for, it has as annotations of JSON.

use martello_api::{
    go,
    resource::GroupVersionKind,
    schema::{self, Schemas},
};
use serde_json::{Map, Value, json};

use super::metrics;
use crate::registry::object;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// Fields of a behavior as they are named in its annotation, which upstream writes from an internal type.
const RULES: [(&str, &str); 4] = [
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
];
const POLICY: [(&str, &str); 3] = [("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")];
const DIRECTIONS: [(&str, &str); 2] = [("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")];

/// Drops the annotations that only version 1 has.
pub(super) fn drop_annotations(object: &mut Value) {
    drop_keys(object, &[METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR]);
}

/// Drops the annotations that say how things are.
pub(super) fn drop_seen(object: &mut Value) {
    drop_keys(object, &[CURRENT_METRICS, CONDITIONS]);
}

/// What version 1 says of the status as annotations is kept as it was.
pub(super) fn keep_seen(object: &mut Value, old: &Value) {
    keep(object, old, &[CURRENT_METRICS, CONDITIONS]);
}

/// What version 1 says of the spec as annotations is kept as it was.
pub(super) fn keep_wanted(object: &mut Value, old: &Value) {
    keep(object, old, &[METRICS, BEHAVIOR]);
}

fn keep(object: &mut Value, old: &Value, keys: &[&str]) {
    drop_keys(object, keys);
    for key in keys {
        if let Some(value) = object::at(old, &["metadata", "annotations", key]) {
            object::set(object, &["metadata", "annotations"], key, value.clone());
        }
    }
}

fn drop_keys(object: &mut Value, keys: &[&str]) {
    for key in keys {
        object::remove(object, &["metadata", "annotations"], key);
    }
    if object::at(object, &["metadata", "annotations"]).is_some_and(object::is_zero) {
        object::remove(object, &["metadata"], "annotations");
    }
}

/// Whether an object of version 1 has metrics beside the share of CPU.
pub(super) fn has_metrics(object: &Value) -> bool {
    annotated(object, METRICS, metrics::spec_to_v2).is_some_and(|metrics| !metrics.is_empty())
}

/// Version 2 becomes version 1.
pub(super) fn to_v1(object: &mut Value) {
    drop_annotations(object);
    object::set(object, &[], "apiVersion", "autoscaling/v1");
    let metrics = take_list(object, "spec", "metrics");
    let rest: Vec<Value> =
        metrics.iter().filter(|metric| !metrics::is_cpu_share(metric)).map(metrics::spec_to_v1).collect();
    annotate_list(object, METRICS, rest);
    let cpu = metrics.iter().find(|metric| metrics::is_cpu(metric));
    if let Some(percent) =
        cpu.and_then(|metric| object::at(metric, &["resource", "target", "averageUtilization"]).cloned())
    {
        object::set(object, &["spec"], "targetCPUUtilizationPercentage", percent);
    }
    if let Some(behavior) = object::remove(object, &["spec"], "behavior").filter(|behavior| !behavior.is_null()) {
        annotate(object, BEHAVIOR, &internal_behavior(&behavior));
    }
    let current = take_list(object, "status", "currentMetrics");
    let cpu = current.iter().rev().filter(|metric| metrics::is_cpu(metric));
    let mut percents = cpu.filter_map(|metric| object::at(metric, &["resource", "current", "averageUtilization"]));
    if let Some(percent) = percents.next().cloned() {
        object::set(object, &["status"], "currentCPUUtilizationPercentage", percent);
    }
    annotate_list(object, CURRENT_METRICS, current.iter().map(metrics::status_to_v1).collect());
    let conditions = take_list(object, "status", "conditions");
    annotate_list(object, CONDITIONS, conditions.iter().map(in_order).collect());
    normalize(object, "v1");
}

/// A condition with its fields in upstream's order.
fn in_order(condition: &Value) -> Value {
    let own = ["type", "status", "lastTransitionTime", "reason", "message"];
    let own = own.into_iter().filter_map(|key| Some((key.to_owned(), condition.get(key)?.clone())));
    Value::Object(own.collect())
}

/// What a version always writes is written.
fn normalize(object: &mut Value, version: &'static str) {
    let gvk = GroupVersionKind::new("autoscaling", version, "HorizontalPodAutoscaler");
    if let Some(schema) = Schemas::builtin().get(&gvk) {
        schema::normalize(schema, object);
    }
}

/// Version 1 becomes version 2.
pub(super) fn to_v2(object: &mut Value) {
    object::set(object, &[], "apiVersion", "autoscaling/v2");
    let mut metrics = annotated(object, METRICS, metrics::spec_to_v2).unwrap_or_default();
    if let Some(percent) =
        object::remove(object, &["spec"], "targetCPUUtilizationPercentage").filter(|percent| !percent.is_null())
    {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        object::set(object, &["spec"], "metrics", metrics);
    }
    if let Some(behavior) = annotation(object, BEHAVIOR).and_then(|behavior| public_behavior(&behavior)) {
        object::set(object, &["spec"], "behavior", behavior);
    }
    let percent = object::remove(object, &["status"], "currentCPUUtilizationPercentage");
    let share = percent.filter(|percent| !percent.is_null()).map(
        |percent| json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}),
    );
    // What the annotation says is more than the one share.
    let current =
        annotated(object, CURRENT_METRICS, metrics::status_to_v2).unwrap_or_else(|| share.into_iter().collect());
    if !current.is_empty() {
        object::set(object, &["status"], "currentMetrics", current);
    }
    let conditions = annotated(object, CONDITIONS, |condition| condition.is_object().then(|| condition.clone()));
    if let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) {
        object::set(object, &["status"], "conditions", conditions);
    }
    drop_annotations(object);
    normalize(object, "v2");
}

fn take_list(object: &mut Value, part: &str, key: &str) -> Vec<Value> {
    match object::remove(object, &[part], key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn annotate_list(object: &mut Value, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        annotate(object, key, &Value::Array(items));
    }
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    object::set(object, &["metadata", "annotations"], key, go::shown(value));
}

fn annotation(object: &Value, key: &str) -> Option<Value> {
    serde_json::from_str(object::text(object, &["metadata", "annotations", key])).ok()
}

/// The list that an annotation holds; none where one of its items can't be read.
fn annotated(object: &Value, key: &str, read: impl Fn(&Value) -> Option<Value>) -> Option<Vec<Value>> {
    match annotation(object, key)? {
        Value::Array(items) => items.iter().map(read).collect(),
        _ => None,
    }
}

/// Every field, null where it is unset.
fn internal_behavior(behavior: &Value) -> Value {
    let of = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_default();
    let named = |value: &Value, names: &[(&str, &str)]| -> Map<String, Value> {
        names.iter().map(|(key, name)| ((*name).to_owned(), of(value, key))).collect()
    };
    let rules = |rules: Value| {
        if rules.is_null() {
            return rules;
        }
        let mut shown = named(&rules, &RULES);
        let policies: Vec<Value> =
            object::list(&rules, &["policies"]).iter().map(|policy| Value::Object(named(policy, &POLICY))).collect();
        shown.insert("Policies".to_owned(), if policies.is_empty() { Value::Null } else { policies.into() });
        Value::Object(shown)
    };
    let directions = DIRECTIONS.iter().map(|(key, name)| ((*name).to_owned(), rules(of(behavior, key))));
    Value::Object(directions.collect())
}

/// The fields that are set, by their public names; none where nothing is set.
fn public_behavior(behavior: &Value) -> Option<Value> {
    let named = |value: &Value, names: &[(&str, &str)]| -> Map<String, Value> {
        let found = names.iter().filter_map(|(key, name)| Some(((*key).to_owned(), any_case(value, name)?.clone())));
        found.filter(|(_, value)| !value.is_null()).collect()
    };
    let mut shown = named(behavior, &DIRECTIONS);
    for rules in shown.values_mut() {
        let mut own = named(rules, &RULES);
        if let Some(Value::Array(policies)) = own.get_mut("policies") {
            for policy in policies {
                *policy = Value::Object(named(policy, &POLICY));
            }
        }
        *rules = Value::Object(own);
    }
    (!shown.is_empty()).then_some(Value::Object(shown))
}

/// A field whatever the case of its name, as Go reads JSON.
fn any_case<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rich() -> Value {
        json!({
            "apiVersion": "autoscaling/v2",
            "metadata": {"name": "a", "annotations": {"own": "kept"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, "minReplicas": 1, "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "p"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
                    "metric": {"name": "o", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "2k"}}},
                {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "AverageValue", "averageValue": "500m"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
                "behavior": {"scaleDown": {"selectPolicy": "Min", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}},
            "status": {"desiredReplicas": 2, "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "400m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        })
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_version_1_and_back() {
        let mut object = rich();
        to_v1(&mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 40);
        assert_eq!(object["metadata"]["annotations"]["own"], "kept");
        to_v2(&mut object);
        assert_eq!(object, rich());
    }

    #[test]
    fn annotations_have_upstreams_form() {
        let mut object = rich();
        to_v1(&mut object);
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(
            annotations[BEHAVIOR],
            r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Min","Policies":[{"Type":"Pods","Value":1,"PeriodSeconds":60}],"Tolerance":null}}"#
        );
        let mut escaped = json!({});
        annotate(&mut escaped, CONDITIONS, &json!([{"message": "<&>"}]));
        assert_eq!(escaped["metadata"]["annotations"][CONDITIONS], r#"[{"message":"\u003c\u0026\u003e"}]"#);
        let condition = json!({"message": "m", "status": "True", "type": "X"});
        assert_eq!(in_order(&condition).to_string(), r#"{"type":"X","status":"True","message":"m"}"#);
        assert!(
            annotations[METRICS].as_str().unwrap().starts_with(
                r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"100Mi"}},{"type":"Pods","pods":{"metricName":"p","targetAverageValue":"10"}},{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"o","targetValue":"2k","selector":{"matchLabels":{"a":"b"}}}}"#
            ),
            "{annotations}"
        );
    }

    #[test]
    fn an_annotation_that_can_not_be_read_says_nothing() {
        let object = |metrics: &str| json!({"metadata": {"annotations": {METRICS: metrics}}, "spec": {}});
        assert!(has_metrics(&object(r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1"}}]"#)));
        assert!(!has_metrics(&object(r#"[{"type":"Resource","resource":{"name":5}}]"#)));
        assert!(!has_metrics(&object("[]")));
        assert!(!has_metrics(&object("{")));
    }

    #[test]
    fn a_part_that_is_not_written_keeps_its_annotations() {
        let with = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let mut object = with(json!({CONDITIONS: "new", METRICS: "new", "own": "new"}));
        keep_seen(&mut object, &with(json!({CURRENT_METRICS: "old", METRICS: "old"})));
        assert_eq!(object, with(json!({METRICS: "new", "own": "new", CURRENT_METRICS: "old"})));
        drop_seen(&mut object);
        keep_wanted(&mut object, &with(json!({})));
        assert_eq!(object, with(json!({"own": "new"})));
    }
}
