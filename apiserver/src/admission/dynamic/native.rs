//! What an object that an expression built is to upstream once it is untyped: the lists and maps that it was built of are
//! taken apart, but not what stands within them in turn.

use martello_api::{
    go,
    schema::{Kind, List as ListKind, ListMerge, Schema},
};
use serde_json::Value;

use crate::cel::{List, Map, Object, Value as Cel, whole_part};

/// As JSON. A float without a fraction is as good as a whole number.
pub(super) fn json(value: &Cel<'_>) -> Result<Value, String> {
    Ok(match value {
        Cel::Double(number) => match whole_part(*number) {
            Some(number) => number.into(),
            None => value.to_json()?,
        },
        Cel::Object(object) => {
            let fields = object.fields.iter().map(|(name, value)| Ok((name.to_string(), json(value)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        Cel::List(List::Made(items)) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Cel::Map(map @ Map::Made(_)) => {
            let entries = map.entries().into_iter().map(|(key, value)| match &key {
                Cel::String(name) => Ok((name.to_string(), json(&value)?)),
                other => Err(format!("map key of type {} is no string", other.type_name())),
            });
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        other => other.to_json()?,
    })
}

/// What JSON would not show that it does not fit its schema, as upstream tells it.
pub(super) fn misfit(schema: &Schema, object: &Object<'_>) -> Option<String> {
    let mut found = Vec::new();
    message(schema, object, "", &mut found);
    match found.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn message(schema: &Schema, object: &Object<'_>, path: &str, found: &mut Vec<String>) {
    let mut fields: Vec<_> = object.fields.iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, value) in fields {
        if let Some(field) = schema.field(name) {
            held(&field.kind, value, &format!("{path}.{name}"), true, found);
        }
    }
}

/// Looks at a value; lists and maps of the expression are `open` only where they are a field of an object.
fn held(kind: &Kind, value: &Cel<'_>, path: &str, open: bool, found: &mut Vec<String>) {
    match (kind, value) {
        (Kind::Message(link), Cel::Object(object)) => message(link.get(), object, path, found),
        (Kind::Message(link), Cel::Map(map @ Map::Made(_))) if open => {
            for (name, value) in named(map) {
                if let Some(field) = link.get().field(&name) {
                    held(&field.kind, &value, &format!("{path}.{name}"), false, found);
                }
            }
        }
        (Kind::Map(of), Cel::Object(object)) => {
            for (name, value) in &object.fields {
                held(&of.value, value, &format!("{path}.{name}"), true, found);
            }
        }
        (Kind::Map(of), Cel::Map(map @ Map::Made(_))) if open => {
            for (name, value) in named(map) {
                held(&of.value, &value, &format!("{path}.{name}"), false, found);
            }
        }
        (Kind::List(list), Cel::List(List::Made(items))) if open => elements(list, items, path, found),
        (Kind::Message(_) | Kind::Map(_), Cel::Null | Cel::Map(Map::Made(_))) => {
            found.push(format!("{path}: expected map, got &{{{}}}", plain(value)));
        }
        (Kind::List(_), Cel::Null | Cel::List(List::Made(_))) => {
            found.push(format!("{path}: expected list, got &{{{}}}", plain(value)));
        }
        (Kind::String | Kind::Bytes, Cel::Null | Cel::Bytes(_) | Cel::Uint(_)) => {
            let shown = syntax(value);
            found.push(format!("{path}: expected string, got &value.valueUnstructured{{Value:{shown}}}"));
        }
        (Kind::Int32 | Kind::Int64 | Kind::Double, Cel::Null | Cel::Bytes(_) | Cel::Uint(_)) => {
            let of = match value {
                Cel::Null => "structpb.NullValue",
                Cel::Bytes(_) => "[]uint8",
                _ => "uint64",
            };
            found.push(format!("{path}: expected numeric (int or float), got {of}"));
        }
        (Kind::Bool, Cel::Null | Cel::Bytes(_) | Cel::Uint(_)) => {
            found.push(format!("{path}: expected boolean, got &{{{}}}", plain(value)));
        }
        _ => {}
    }
}

fn elements(list: &ListKind, items: &[Cel<'_>], path: &str, found: &mut Vec<String>) {
    for (at, item) in items.iter().enumerate() {
        let step = match (&list.merge, item) {
            (ListMerge::Keys(_), Cel::Null | Cel::Map(Map::Made(_)) | Cel::List(List::Made(_))) => {
                let why = "associative list with keys may not have non-map elements";
                found.push(format!("{path}: element {at}: {why}"));
                return;
            }
            (ListMerge::Keys(keys), Cel::Object(object)) => {
                let mut sorted: Vec<&str> = keys.iter().map(|key| &**key).collect();
                sorted.sort_unstable();
                let shown = sorted.into_iter().filter_map(|key| {
                    let (_, value) = object.fields.iter().find(|(name, _)| **name == *key)?;
                    Some(format!("{key}={}", json(value).ok()?))
                });
                format!("[{}]", shown.collect::<Vec<_>>().join(","))
            }
            _ => format!("[{at}]"),
        };
        held(&list.item, item, &format!("{path}{step}"), false, found);
    }
}

fn named<'a>(map: &Map<'a>) -> Vec<(String, Cel<'a>)> {
    let mut entries: Vec<(String, Cel<'a>)> = map
        .entries()
        .into_iter()
        .filter_map(|(key, value)| match key {
            Cel::String(name) => Some((name.to_string(), value)),
            _ => None,
        })
        .collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

/// A value as Go's `%v` prints it.
fn plain(value: &Cel<'_>) -> String {
    match value {
        Cel::Null => "NULL_VALUE".to_owned(),
        Cel::String(text) => text.to_string(),
        Cel::Bytes(data) => {
            format!("[{}]", data.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Cel::List(list) => format!("[{}]", list.iter().map(|item| plain(&item)).collect::<Vec<_>>().join(" ")),
        Cel::Map(map) => {
            let mut shown: Vec<String> =
                map.entries().iter().map(|(key, value)| format!("{}:{}", plain(key), plain(value))).collect();
            shown.sort_unstable();
            format!("map[{}]", shown.join(" "))
        }
        other => other.to_json().map_or_else(|why| why, |json| go::plain(&json)),
    }
}

/// A value as Go's `%#v` prints it.
fn syntax(value: &Cel<'_>) -> String {
    match value {
        Cel::Null => "0".to_owned(),
        Cel::Bytes(data) => {
            format!("[]uint8{{{}}}", data.iter().map(|byte| format!("{byte:#x}")).collect::<Vec<_>>().join(", "))
        }
        Cel::Uint(number) => format!("{number:#x}"),
        other => other.to_json().map_or_else(|why| why, |json| go::syntax(&json)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use martello_api::schema::Schemas;

    use super::*;
    use crate::cel::Text;

    fn object<'a>(name: &str, fields: Vec<(&str, Cel<'a>)>) -> Cel<'a> {
        let fields = fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
        Cel::Object(Arc::new(Object { name: Arc::from(name), fields }))
    }

    #[test]
    fn what_json_would_hide_is_told() {
        let schema = Schemas::builtin().named("io.k8s.api.core.v1.PodSpec").unwrap();
        for (fields, told) in [
            (vec![("containers", Cel::Null)], ".containers: expected list, got &{NULL_VALUE}"),
            (vec![("nodeName", Cel::Null)], ".nodeName: expected string, got &value.valueUnstructured{Value:0}"),
            (vec![("priority", Cel::Uint(5))], ".priority: expected numeric (int or float), got uint64"),
            (
                vec![("nodeName", Cel::Bytes(Arc::from(*b"abc")))],
                ".nodeName: expected string, got &value.valueUnstructured{Value:[]uint8{0x61, 0x62, 0x63}}",
            ),
            (
                vec![("containers", Cel::List(List::Made(Arc::new(vec![Cel::Null]))))],
                ".containers: element 0: associative list with keys may not have non-map elements",
            ),
            (
                vec![(
                    "containers",
                    Cel::List(List::Made(Arc::new(vec![object(
                        "Object.spec.containers",
                        vec![("name", Cel::String(Text::Borrowed("c"))), ("image", Cel::Null)],
                    )]))),
                )],
                ".containers[name=\"c\"].image: expected string, got &value.valueUnstructured{Value:0}",
            ),
        ] {
            let Cel::Object(built) = object("Object.spec", fields) else { panic!("an object") };
            assert_eq!(misfit(schema, &built).as_deref(), Some(told));
        }
        let fits = object("Object.spec", vec![("priority", Cel::Double(5.0))]);
        let Cel::Object(built) = &fits else { panic!("an object") };
        assert_eq!(misfit(schema, built), None);
        assert_eq!(json(&fits).unwrap(), serde_json::json!({"priority": 5}));
    }
}
