//! HorizontalPodAutoscalers as a Table.

use serde_json::Value;

use crate::registry::{
    kind::{Cell, Column},
    object, table,
};

/// Most metrics that are shown one by one.
const MOST_METRICS: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// Columns of both versions, described in the words of version 2.
pub(super) const COLUMNS: [Column; 7] = [
    Column::name(),
    Column::text(
        "Reference",
        "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
    ),
    Column::text(
        "Targets",
        "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).  The desired replica count is calculated multiplying the ratio between the target value and the current value by the current number of pods.  Ergo, metrics used must decrease as the pod count is increased, and vice-versa.  See the individual metric source types for more information about how each type of metric must respond. If not set, the default metric will be set to 80% average CPU utilization.",
    ),
    Column::text(
        "MinPods",
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.  It defaults to 1 pod.  minReplicas is allowed to be 0 if the alpha feature gate HPAScaleToZero is enabled and at least one Object or External metric is configured.  Scaling is active as long as at least one metric value is available.",
    ),
    Column::text(
        "MaxPods",
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up. It cannot be less that minReplicas.",
    ),
    Column::text(
        "Replicas",
        "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
    ),
    Column::age(),
];

/// Cells of one in the form of version 2.
pub(super) fn row(object: &Value) -> Vec<Cell> {
    let target = |key: &str| object::text(object, &["spec", "scaleTargetRef", key]);
    let least = object::int(object, &["spec", "minReplicas"]);
    vec![
        object::name(object).into(),
        format!("{}/{}", target("kind"), target("name")).into(),
        targets(object).into(),
        least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string()).into(),
        object::int(object, &["spec", "maxReplicas"]).unwrap_or(0).into(),
        object::int(object, &["status", "currentReplicas"]).unwrap_or(0).into(),
        table::age(object),
    ]
}

fn targets(object: &Value) -> String {
    let current = object::list(object, &["status", "currentMetrics"]);
    let metrics = object::list(object, &["spec", "metrics"]);
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(MOST_METRICS)
        .map(|(at, metric)| target(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    let shown = all.join(", ");
    match metrics.len().saturating_sub(MOST_METRICS) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn target(metric: &Value, status: &Value) -> String {
    let field = match object::text(metric, &["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = |key: &str| object::at(metric, &[field, "target", key]).map(shown);
    let current = object::at(status, &[field]).filter(|current| !current.is_null());
    let reading = |key: &str| current.and_then(|current| object::at(current, &["current", key]));
    // A source that was read without this number is shown as upstream shows a number that is not there.
    let seen = |key: &str| current.map_or_else(|| UNKNOWN.to_owned(), |_| reading(key).map_or_else(nil, shown));
    match field {
        "resource" | "containerResource" => {
            let name = object::text(metric, &[field, "name"]);
            if let Some(average) = wanted("averageValue") {
                return format!("{name}: {}/{average}", seen("averageValue"));
            }
            let percent = |value: Option<&Value>, unset: &str| {
                value.map_or_else(|| unset.to_owned(), |value| format!("{}%", shown(value)))
            };
            let seen = percent(reading("averageUtilization"), UNKNOWN);
            let wanted = percent(object::at(metric, &[field, "target", "averageUtilization"]), "<auto>");
            format!("{name}: {seen}/{wanted}")
        }
        "pods" => format!("{}/{}", seen("averageValue"), wanted("averageValue").unwrap_or_else(nil)),
        _ => match wanted("averageValue") {
            Some(average) => {
                let seen = reading("averageValue").map_or_else(|| UNKNOWN.to_owned(), shown);
                format!("{seen}/{average} (avg)")
            }
            None => format!("{}/{}", seen("value"), wanted("value").unwrap_or_else(nil)),
        },
    }
}

fn nil() -> String {
    "<nil>".to_owned()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_metrics_are_shown_and_the_rest_counted() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let outside =
            json!({"type": "External", "external": {"metric": {"name": "e"}, "target": {"averageValue": "5"}}});
        let seen = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}});
        let object = json!({"spec": {"metrics": [cpu, outside, cpu]}, "status": {"currentMetrics": [seen]}});
        assert_eq!(targets(&object), "cpu: 7%/80%, <unknown>/5 (avg) + 1 more...");
    }

    #[test]
    fn a_source_that_was_read_without_its_number_has_none() {
        let of = |metric: Value, status: Value| target(&metric, &status);
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"averageValue": "5"}}});
        assert_eq!(of(pods.clone(), json!({"type": "Pods", "pods": {"current": {}}})), "<nil>/5");
        assert_eq!(of(pods, json!({"type": "Pods"})), "<unknown>/5");
        let average = json!({"type": "External", "external": {"target": {"averageValue": "5"}}});
        assert_eq!(of(average, json!({"type": "External", "external": {"current": {}}})), "<unknown>/5 (avg)");
    }
}
