//! Whether two objects say the same, as Go's semantic equality of typed values has it.

use serde_json::{Map, Value};

use super::{Field, Kind, Presence, Schema, zero};
use crate::quantity::Quantity;

/// Whether two objects of a schema are equal: amounts by their value, however they are written; an empty list or map is none;
/// an empty object is something where it may be absent.
#[must_use]
pub fn same(schema: &Schema, left: Option<&Value>, right: Option<&Value>) -> bool {
    match (object(left), object(right)) {
        (None, None) => present(left) == present(right),
        (Some(left), Some(right)) => {
            let unknown = |key: &&String| schema.field(key).is_none();
            schema.fields().iter().all(|field| same_field(field, left.get(&*field.name), right.get(&*field.name)))
                && left.keys().chain(right.keys()).filter(unknown).all(|key| left.get(key) == right.get(key))
        }
        _ => false,
    }
}

/// The same of values of one field of a schema; a field that there is not is compared to the letter.
#[must_use]
pub fn same_member(schema: &Schema, name: &str, left: Option<&Value>, right: Option<&Value>) -> bool {
    schema.field(name).map_or_else(|| present(left) == present(right), |field| same_field(field, left, right))
}

/// The same of what stands at `path` in two values of a schema.
#[must_use]
pub fn same_at(schema: &Schema, path: &[&str], left: Option<&Value>, right: Option<&Value>) -> bool {
    let Some((key, rest)) = path.split_first() else { return same(schema, left, right) };
    let [left, right] = [left, right].map(|owner| object(owner).and_then(|owner| owner.get(*key)));
    match schema.field(key).map(|field| &field.kind) {
        Some(Kind::Message(link)) if !rest.is_empty() => same_at(link.get(), rest, left, right),
        _ => same_member(schema, key, left, right),
    }
}

fn same_field(field: &Field, left: Option<&Value>, right: Option<&Value>) -> bool {
    match (present(left), present(right)) {
        (None, None) => true,
        // What a type always has, and what it leaves out where it is zero, is never absent.
        (Some(one), None) | (None, Some(one)) if field.presence != Presence::Optional => {
            alike(&field.kind, Some(one), Some(&zero(&field.kind)))
        }
        (left, right) => alike(&field.kind, left, right),
    }
}

fn alike(kind: &Kind, left: Option<&Value>, right: Option<&Value>) -> bool {
    match kind {
        Kind::Message(link) => same(link.get(), left, right),
        Kind::List(list) => {
            let (left, right) = (items(left), items(right));
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| alike(&list.item, Some(left), Some(right)))
        }
        Kind::Map(map) => {
            let (left, right) = (object(left), object(right));
            let count = |entries: Option<&Map<String, Value>>| entries.map_or(0, Map::len);
            let holds = |key: &String, value: &Value| {
                right.and_then(|right| right.get(key)).is_some_and(|other| alike(&map.value, Some(value), Some(other)))
            };
            count(left) == count(right) && left.into_iter().flatten().all(|(key, value)| holds(key, value))
        }
        Kind::Quantity => match (amount(left), amount(right)) {
            (Some(left), Some(right)) => left == right,
            _ => present(left) == present(right),
        },
        // No bytes are none, as no items are.
        Kind::Bytes => text(left) == text(right),
        _ => present(left) == present(right),
    }
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

fn amount(value: Option<&Value>) -> Option<Quantity> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Schemas;
    use super::*;

    fn equal(schema: &str, left: Value, right: Value) -> bool {
        let schema = Schemas::builtin().named(schema).unwrap();
        let there = same(schema, Some(&left), Some(&right));
        assert_eq!(there, same(schema, Some(&right), Some(&left)), "{left} {right}");
        assert!(same(schema, Some(&left), Some(&left)));
        there
    }

    fn pods(left: Value, right: Value) -> bool {
        equal("io.k8s.api.core.v1.PodSpec", left, right)
    }

    #[test]
    fn amounts_are_equal_by_their_value() {
        let asks = |cpu: &str, memory: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
        for (left, right) in [(("1", "1Gi"), ("1000m", "1073741824")), (("0.5", "1k"), ("500m", "1000"))] {
            assert!(pods(asks(left.0, left.1), asks(right.0, right.1)));
        }
        assert!(!pods(asks("1", "1Gi"), asks("1", "1G")) && !pods(asks("1", "1Gi"), asks("1001m", "1Gi")));
        let volume = |limit: &str| json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": limit}}]});
        assert!(pods(volume("1Mi"), volume("1024Ki")) && !pods(volume("1Mi"), volume("1M")));
        // What only looks like an amount is text.
        let labels = |text: &str| json!({"nodeSelector": {"size": text}});
        assert!(!pods(labels("1"), labels("1000m")));
    }

    #[test]
    fn an_amount_that_is_there_differs_from_none() {
        let asks = |requests: Value| json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        assert!(!pods(asks(json!({"cpu": "0"})), asks(json!({}))));
        assert!(pods(asks(json!({})), asks(Value::Null)));
    }

    #[test]
    fn an_empty_list_is_none_and_an_empty_object_is_something() {
        assert!(pods(json!({"volumes": [], "nodeSelector": {}}), json!({"volumes": null})));
        let volume = |source: Value| json!({"volumes": [{"name": "v", "emptyDir": source}]});
        assert!(!pods(volume(json!({})), volume(Value::Null)));
        assert!(!pods(json!({"securityContext": {}}), json!({})) && !pods(json!({"affinity": {}}), json!({})));
        // `resources` is no pointer: it is always there.
        let container = |resources: Value| json!({"containers": [{"name": "c", "resources": resources}]});
        assert!(pods(container(json!({})), container(Value::Null)));
        assert!(pods(container(json!({"limits": {}})), container(Value::Null)));
    }

    #[test]
    fn what_no_field_declares_is_compared_as_it_is_written() {
        assert!(pods(json!({"unknown": {"a": [1]}}), json!({"unknown": {"a": [1]}})));
        assert!(!pods(json!({"unknown": 1}), json!({"unknown": 2})) && !pods(json!({"unknown": 1}), json!({})));
        assert!(!pods(json!({"unknown": 1}), json!({"other": 1})));
        // Nor is one map another because all that it has is there.
        assert!(!pods(json!({"nodeSelector": {"a": "b"}}), json!({"nodeSelector": {"a": "b", "c": "d"}})));
    }

    #[test]
    fn what_is_left_out_is_zero_where_there_is_no_pointer() {
        assert!(pods(json!({"nodeName": "", "hostNetwork": false}), json!({})));
        assert!(!pods(json!({"automountServiceAccountToken": false}), json!({})));
        assert!(!pods(json!({"terminationGracePeriodSeconds": 0}), json!({})));
        assert!(!pods(json!({"nodeName": "a"}), json!({})));
    }

    #[test]
    fn no_bytes_are_none() {
        let secret = |data: Value| json!({"data": data});
        assert!(equal("io.k8s.api.core.v1.Secret", secret(json!({"a": ""})), secret(json!({"a": null}))));
        assert!(!equal("io.k8s.api.core.v1.Secret", secret(json!({"a": ""})), secret(json!({}))));
        assert!(!equal("io.k8s.api.core.v1.Secret", secret(json!({"a": ""})), secret(json!({"a": "YQ=="}))));
    }

    #[test]
    fn what_stands_deep_within_is_compared_as_its_field_is() {
        let schema = Schemas::builtin().named("io.k8s.api.core.v1.Pod").unwrap();
        let same = |path: &[&str], left: Value, right: Value| same_at(schema, path, Some(&left), Some(&right));
        let pod = |amount: &str| json!({"spec": {"nodeName": "a", "overhead": {"cpu": amount}}});
        assert!(same(&["spec", "overhead"], pod("1"), pod("1000m")));
        assert!(!same(&["spec", "overhead"], pod("1"), pod("2")) && same(&["spec", "tolerations"], pod("1"), pod("2")));
        assert!(
            !same(&["spec", "overhead"], pod("1"), json!({})) && same(&["spec", "overhead"], json!({}), Value::Null)
        );
        let claims = |claims: Value| json!({"status": {"resourceClaimStatuses": claims}});
        let path = ["status", "resourceClaimStatuses"];
        assert!(same(&path, claims(json!([])), json!({})));
        assert!(!same(&path, claims(json!([{"name": "a"}])), claims(json!([{"name": "a", "resourceClaimName": ""}]))));
    }

    #[test]
    fn a_member_is_compared_as_its_field_is() {
        let schema = Schemas::builtin().named("io.k8s.api.batch.v1.JobSpec").unwrap();
        let same = |name: &str, left: Value, right: Value| same_member(schema, name, Some(&left), Some(&right));
        assert!(!same("selector", json!({}), Value::Null) && same("selector", json!({"matchLabels": {}}), json!({})));
        assert!(same("completions", json!(1), json!(1)) && !same("completions", json!(0), Value::Null));
    }
}
