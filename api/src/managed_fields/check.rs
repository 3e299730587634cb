//! Whether an applied object fits its schema, with upstream's objections.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::kind_of;
use super::{Kind, Schema, element};
use crate::go;
use crate::schema::{List, ListMerge};

/// What does not fit, each with its path.
pub(super) fn objections(schema: &Schema, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    message(schema, value, "", &mut found);
    found
}

/// What does not fit, as upstream tells it; nothing where all fits.
pub(super) fn listed(schema: &Schema, value: &Value) -> Option<String> {
    match objections(schema, value).as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn message(schema: &Schema, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(map) = value else {
        found.push(format!("{path}: expected map, got {}", plain(value)));
        return;
    };
    let mut names: Vec<&String> = map.keys().collect();
    names.sort();
    for name in names {
        let here = format!("{path}.{name}");
        match (schema.field(name), map.get(name)) {
            (Some(field), Some(value)) => kind(kind_of(schema, field), value, &here, found),
            (None, _) if !schema.preserve_unknown => {
                found.push(format!("{here}: field not declared in schema"));
                // Upstream looks no further here.
                return;
            }
            _ => {}
        }
    }
}

fn kind(of: &Kind, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut expected = |fits: bool, what: &str, got: &dyn Fn(&Value) -> String| {
        if !fits {
            found.push(format!("{path}: expected {what}, got {}", got(value)));
        }
    };
    match of {
        _ if value.is_null() => {}
        Kind::Bool => expected(value.is_boolean(), "boolean", &plain),
        Kind::Int32 | Kind::Int64 | Kind::Double => {
            expected(value.is_number(), "numeric (int or float)", &|value: &Value| go::type_name(value).to_owned());
        }
        Kind::String | Kind::Bytes => expected(value.is_string(), "string", &syntax),
        Kind::Time | Kind::MicroTime => expected(!value.is_object() && !value.is_array(), "any scalar", &plain),
        Kind::Quantity | Kind::IntOrString | Kind::Any | Kind::Raw => {}
        Kind::Message(link) => message(link.get(), value, path, found),
        Kind::Map(map) => match value {
            Value::Object(entries) => {
                entries.iter().for_each(|(name, value)| kind(&map.value, value, &format!("{path}.{name}"), found));
            }
            _ => expected(false, "map", &plain),
        },
        Kind::List(list) => match value {
            Value::Array(items) => self::items(list, items, path, found),
            _ => expected(false, "list", &plain),
        },
    }
}

fn items(list: &List, items: &[Value], path: &str, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let step = if list.merge == ListMerge::Atomic {
            format!("[{at}]")
        } else {
            match element::named(list, item) {
                Ok(element) => {
                    let step = element::display(&element);
                    if !seen.insert(element) {
                        found.push(format!("{path}: duplicate entries for key {step}"));
                    }
                    step
                }
                Err(why) => {
                    found.push(format!("{path}: element {at}: {why}"));
                    return;
                }
            }
        };
        kind(&list.item, item, &format!("{path}{step}"), found);
    }
}

/// A value as Go's `%v` prints the one that upstream wraps it in.
fn plain(value: &Value) -> String {
    format!("&{{{}}}", go::plain(value))
}

/// A value as Go's `%#v` prints the one that upstream wraps it in.
fn syntax(value: &Value) -> String {
    format!("&value.valueUnstructured{{Value:{}}}", go::syntax(value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::schema::{Field, Link, Schemas};

    fn faults(spec: Value) -> Vec<String> {
        objections(Schemas::builtin().named("io.k8s.api.core.v1.PodSpec").unwrap(), &spec)
    }

    #[test]
    fn what_does_not_fit_is_told_as_upstream_tells_it() {
        for (spec, fault) in [
            (
                json!({"containers": [{"name": "c", "image": {"b": [1, null], "a": "x"}}]}),
                ".containers[name=\"c\"].image: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"a\":\"x\", \"b\":[]interface {}{1, interface {}(nil)}}}",
            ),
            (json!({"hostNetwork": "x"}), ".hostNetwork: expected boolean, got &{x}"),
            (
                json!({"activeDeadlineSeconds": "x"}),
                ".activeDeadlineSeconds: expected numeric (int or float), got string",
            ),
            (json!({"nodeSelector": ["x"]}), ".nodeSelector: expected map, got &{[x]}"),
            (json!({"containers": {"a": 1}}), ".containers: expected list, got &{map[a:1]}"),
            (
                json!({"containers": [null, null]}),
                ".containers: element 0: associative list with keys may not have a null element",
            ),
            (
                json!({"containers": [5]}),
                ".containers: element 0: associative list with keys may not have non-map elements",
            ),
            (json!({"frob": 1, "grob": 1}), ".frob: field not declared in schema"),
        ] {
            assert_eq!(faults(spec), [fault]);
        }
    }

    #[test]
    fn metadata_within_an_object_is_that_of_every_object_whatever_is_declared() {
        let declared = |name: &'static str, fields| {
            let mut schema = Schema::of(name, fields);
            schema.loose = true;
            Kind::Message(Link::to(Arc::new(schema)))
        };
        let metadata = declared("m", vec![Field::new("name", Kind::String)]);
        let mut schema = Schema::of("e", vec![Field::new("metadata", metadata)]);
        schema.loose = true;
        let applied = json!({"metadata": {"generateName": "a-", "labels": {"a": "b"}}});
        assert_eq!(objections(&schema, &applied), [".metadata.generateName: field not declared in schema"]);
        schema.embedded = true;
        assert_eq!(objections(&schema, &applied), [""; 0]);
    }

    #[test]
    fn a_key_that_has_a_default_may_be_left_out() {
        assert_eq!(faults(json!({"containers": [{"image": "i"}]})), [""; 0]);
        let twice = json!({"containers": [{"image": "i"}, {"name": "", "image": 5}]});
        assert_eq!(
            faults(twice),
            [
                ".containers: duplicate entries for key [name=\"\"]",
                ".containers[name=\"\"].image: expected string, got &value.valueUnstructured{Value:5}"
            ]
        );
    }
}
