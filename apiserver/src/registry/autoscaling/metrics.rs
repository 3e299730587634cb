//! Metrics between the form of version 2 and the flat one that version 1 has in its annotations.

use martello_api::quantity;
use serde_json::{Map, Value, json};

use crate::registry::{object, validation::field::selector_shown};

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
                let value = match *name {
                    "target" => reference(&value),
                    "selector" | "metricSelector" => selector_shown(&value).into_owned(),
                    _ => value,
                };
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

/// None where a field has a type that it can't have.
fn unfold(flat: &Value, current: bool) -> Option<Value> {
    let mut metric = json!({"type": given(flat, "type").map_or_else(|| Some("".into()), |kind| read("type", kind))?});
    for (_, field) in SOURCES {
        let Some(source) = given(flat, field) else { continue };
        source.as_object()?;
        let averaged = field == "object" && given(source, "averageValue").is_some();
        let mut unfolded = json!({});
        for (name, path, unset) in flat_fields(field, current) {
            let found = match given(source, name) {
                Some(value) => Some(read(name, value)?),
                None => unset.filter(|unset| *unset == "0").map(Value::from),
            };
            let (Some(value), Some((last, parents))) = (found, path.split_last()) else { continue };
            // A zero that is there only because it has to be stands for nothing.
            if *unset == Some("0") && value == "0" && (current || averaged) {
                continue;
            }
            object::set(&mut unfolded, parents, last, value);
        }
        if !current {
            let kind = target_type(field, &unfolded);
            object::set(&mut unfolded, &["target"], "type", kind);
        }
        object::set(&mut metric, &[], field, unfolded);
    }
    Some(metric)
}

fn given<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

/// What a flat field holds, if it is of the field's type.
fn read(name: &str, value: &Value) -> Option<Value> {
    let text = |value: &Value| value.is_null() || value.is_string();
    let fits = match name {
        "selector" | "metricSelector" => value.is_object(),
        "target" => {
            value.is_object() && ["kind", "name", "apiVersion"].iter().all(|key| value.get(*key).is_none_or(text))
        }
        name if name.ends_with("Utilization") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        name if name.ends_with("Value") => {
            let amount = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return quantity::written(amount.trim()).ok().map(Value::from);
        }
        _ => value.is_string(),
    };
    fits.then(|| value.clone())
}

/// The type that a target has by what it says.
fn target_type(field: &str, source: &Value) -> &'static str {
    let has = |key: &str| object::at(source, &["target", key]).is_some();
    match field {
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        _ => "AverageValue",
    }
}

/// A wanted metric, to version 1.
pub(super) fn spec_to_v1(metric: &Value) -> Value {
    flatten(metric, false)
}

/// A wanted metric, from version 1; none where it can't be read.
pub(super) fn spec_to_v2(metric: &Value) -> Option<Value> {
    unfold(metric, false)
}

/// A seen metric, to version 1.
pub(super) fn status_to_v1(metric: &Value) -> Value {
    flatten(metric, true)
}

/// A seen metric, from version 1; none where it can't be read.
pub(super) fn status_to_v2(metric: &Value) -> Option<Value> {
    unfold(metric, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_written_in_upstreams_order() {
        let rule = json!({"values": ["x"], "operator": "In", "key": "k"});
        assert_eq!(
            selector_shown(&json!({"matchExpressions": [rule], "matchLabels": {"b": "1", "a": "2"}})).to_string(),
            r#"{"matchLabels":{"a":"2","b":"1"},"matchExpressions":[{"key":"k","operator":"In","values":["x"]}]}"#
        );
    }

    #[test]
    fn a_flat_metric_is_read_as_upstream_reads_it() {
        let described = json!({"kind": "Service", "name": "s", "apiVersion": "v1"});
        let flat = |more: Value| {
            let mut source = json!({"target": described, "metricName": "m", "targetValue": "0"});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"type": "Object", "object": source})
        };
        let target = |flat: &Value| spec_to_v2(flat).unwrap()["object"]["target"].clone();
        assert_eq!(target(&flat(json!({}))), json!({"value": "0", "type": "Value"}));
        let averaged = json!({"averageValue": "1000m"});
        assert_eq!(target(&flat(averaged)), json!({"averageValue": "1", "type": "AverageValue"}));
        let pods = spec_to_v2(&json!({"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": 5}})).unwrap();
        assert_eq!(pods["pods"]["target"], json!({"averageValue": "5", "type": "AverageValue"}));
        assert_eq!(spec_to_v2(&flat(json!({"metricName": 5}))), None);
        assert_eq!(spec_to_v2(&flat(json!({"targetValue": "five"}))), None);
    }
}
