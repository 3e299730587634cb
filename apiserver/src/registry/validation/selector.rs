//! What holds for label selectors of workloads.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{metadata, text};
use crate::registry::object;

/// Checks a selector at `path`.
pub fn check(selector: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let Some(selector) = selector else { return };
    metadata::labels(selector.get("matchLabels"), &format!("{path}.matchLabels"), causes);
    for (index, expression) in object::list(selector, &["matchExpressions"]).iter().enumerate() {
        let here = format!("{path}.matchExpressions[{index}]");
        let (key, operator) = (object::text(expression, &["key"]), object::text(expression, &["operator"]));
        let values = object::list(expression, &["values"]);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                causes.push(Cause::required(
                    format!("{here}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                causes.push(Cause::forbidden(
                    format!("{here}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                causes.push(Cause::invalid(format!("{here}.operator"), &json!(other), "not a valid selector operator"))
            }
        }
        for fault in text::label_key(key) {
            causes.push(Cause::invalid(format!("{here}.key"), &json!(key), &fault));
        }
        for (place, value) in values.iter().enumerate() {
            for fault in text::label_value(value.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("{here}.values[{place}]"), value, &fault));
            }
        }
    }
}

/// Whether the operators of a selector are known and have the values that they need.
#[must_use]
pub fn is_sound(selector: &Value) -> bool {
    object::list(selector, &["matchExpressions"]).iter().all(|expression| {
        let values = object::list(expression, &["values"]);
        match object::text(expression, &["operator"]) {
            "In" | "NotIn" => !values.is_empty(),
            "Exists" | "DoesNotExist" => values.is_empty(),
            _ => false,
        }
    })
}

/// Whether a selector selects labels.
#[must_use]
pub fn selects(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let exact = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == value.as_str());
    exact
        && object::list(selector, &["matchExpressions"]).iter().all(|expression| {
            let found = label(object::text(expression, &["key"]));
            let listed =
                |text: &str| object::list(expression, &["values"]).iter().any(|value| value.as_str() == Some(text));
            match object::text(expression, &["operator"]) {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector selects everything.
#[must_use]
pub fn is_empty(selector: &Value) -> bool {
    ["matchLabels", "matchExpressions"].iter().all(|key| selector.get(*key).is_none_or(object::is_zero))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_looked_at_even_where_none_may_be() {
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b c"]}]});
        let mut causes = Vec::new();
        check(Some(&selector), "spec.selector", &mut causes);
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(fields, ["spec.selector.matchExpressions[0].values", "spec.selector.matchExpressions[0].values[0]"]);
    }
}
