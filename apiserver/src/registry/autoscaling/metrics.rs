//! Metrics between the form of version 2 and the flat one that version 1 has in its annotations.

use serde_json::{Map, Value, json};

use crate::registry::object;

/// Sources: type, field.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// Whether a metric is the CPU of the pods.
pub(super) fn is_cpu(metric: &Value) -> bool {
    object::text(metric, &["type"]) == "Resource" && object::text(metric, &["resource", "name"]) == "cpu"
}

/// Whether a metric is a share of the CPU that the pods request, for which version 1 has a field.
pub(super) fn is_cpu_share(metric: &Value) -> bool {
    is_cpu(metric) && object::at(metric, &["resource", "target", "averageUtilization"]).is_some()
}

/// A flat field: its name, where it is in version 2, and what it is where it has to be there.
type Flat = (&'static str, &'static [&'static str], Option<&'static str>);

fn flat_fields(field: &str, current: bool) -> &'static [Flat] {
    match (field, current) {
        ("object", false) => &[
            ("target", &["describedObject"], None),
            ("metricName", &["metric", "name"], Some("")),
            ("targetValue", &["target", "value"], Some("0")),
            ("selector", &["metric", "selector"], None),
            ("averageValue", &["target", "averageValue"], None),
        ],
        ("object", true) => &[
            ("target", &["describedObject"], None),
            ("metricName", &["metric", "name"], Some("")),
            ("currentValue", &["current", "value"], Some("0")),
            ("selector", &["metric", "selector"], None),
            ("averageValue", &["current", "averageValue"], None),
        ],
        ("pods", false) => &[
            ("metricName", &["metric", "name"], Some("")),
            ("targetAverageValue", &["target", "averageValue"], Some("0")),
            ("selector", &["metric", "selector"], None),
        ],
        ("pods", true) => &[
            ("metricName", &["metric", "name"], Some("")),
            ("currentAverageValue", &["current", "averageValue"], Some("0")),
            ("selector", &["metric", "selector"], None),
        ],
        ("resource" | "containerResource", false) => &[
            ("name", &["name"], Some("")),
            ("targetAverageUtilization", &["target", "averageUtilization"], None),
            ("targetAverageValue", &["target", "averageValue"], None),
            ("container", &["container"], None),
        ],
        ("resource" | "containerResource", true) => &[
            ("name", &["name"], Some("")),
            ("currentAverageUtilization", &["current", "averageUtilization"], None),
            ("currentAverageValue", &["current", "averageValue"], Some("0")),
            ("container", &["container"], None),
        ],
        ("external", false) => &[
            ("metricName", &["metric", "name"], Some("")),
            ("metricSelector", &["metric", "selector"], None),
            ("targetValue", &["target", "value"], None),
            ("targetAverageValue", &["target", "averageValue"], None),
        ],
        ("external", true) => &[
            ("metricName", &["metric", "name"], Some("")),
            ("metricSelector", &["metric", "selector"], None),
            ("currentValue", &["current", "value"], Some("0")),
            ("currentAverageValue", &["current", "averageValue"], None),
        ],
        _ => &[],
    }
}

fn flatten(metric: &Value, current: bool) -> Value {
    let mut flat = json!({"type": object::text(metric, &["type"])});
    for (_, field) in SOURCES {
        let Some(source) = metric.get(field).filter(|source| !source.is_null()) else { continue };
        let mut fields = Map::new();
        for (name, path, unset) in flat_fields(field, current) {
            let found = object::at(source, path).filter(|value| !value.is_null()).cloned();
            if let Some(value) = found.or_else(|| unset.map(Value::from)) {
                let value = if *name == "target" { reference(&value) } else { value };
                fields.insert((*name).to_owned(), value);
            }
        }
        object::set(&mut flat, &[], field, fields);
    }
    flat
}

/// A reference with its fields in upstream's order.
fn reference(value: &Value) -> Value {
    let own =
        ["kind", "name", "apiVersion"].into_iter().filter_map(|key| Some((key.to_owned(), value.get(key)?.clone())));
    Value::Object(own.collect())
}

fn unfold(flat: &Value, current: bool) -> Value {
    let mut metric = json!({"type": object::text(flat, &["type"])});
    for (_, field) in SOURCES {
        let Some(source) = flat.get(field).filter(|source| !source.is_null()) else { continue };
        let mut unfolded = json!({});
        for (name, path, unset) in flat_fields(field, current) {
            let Some(value) = source.get(*name).filter(|value| !value.is_null()) else { continue };
            // A zero that is there only because it has to be stands for nothing.
            if *unset == Some("0") && value == "0" {
                continue;
            }
            if let Some((last, parents)) = path.split_last() {
                object::set(&mut unfolded, parents, last, value.clone());
            }
        }
        if !current {
            let kind = target_type(&unfolded);
            object::set(&mut unfolded, &["target"], "type", kind);
        }
        object::set(&mut metric, &[], field, unfolded);
    }
    metric
}

/// The type that a target has by what it says.
fn target_type(source: &Value) -> &'static str {
    let has = |key: &str| object::at(source, &["target", key]).is_some();
    if has("averageUtilization") {
        "Utilization"
    } else if has("averageValue") {
        "AverageValue"
    } else {
        "Value"
    }
}

/// A wanted metric, to version 1.
pub(super) fn spec_to_v1(metric: &Value) -> Value {
    flatten(metric, false)
}

/// A wanted metric, from version 1.
pub(super) fn spec_to_v2(metric: &Value) -> Value {
    unfold(metric, false)
}

/// A seen metric, to version 1.
pub(super) fn status_to_v1(metric: &Value) -> Value {
    flatten(metric, true)
}

/// A seen metric, from version 1.
pub(super) fn status_to_v2(metric: &Value) -> Value {
    unfold(metric, true)
}
