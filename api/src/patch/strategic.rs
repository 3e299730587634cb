//! Strategic merge patch: lists merge by key, and `$` directives replace, delete, retain and order.

use serde_json::{Map as JsonMap, Value};

use super::PatchError;
use crate::schema::{Field, Kind, Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

type Object = JsonMap<String, Value>;

/// Refuses lists for maps and the like at the top, as upstream's conversion of the result would.
pub(super) fn check_shape(schema: &Schema, patch: &Object) -> Result<(), PatchError> {
    for (name, value) in patch {
        let Some(field) = schema.field(name) else { continue };
        let (wanted, fits) = match &field.kind {
            Kind::Map(_) => ("map", value.is_object()),
            Kind::Message(_) => ("struct", value.is_object()),
            Kind::List(_) => ("slice", value.is_array()),
            _ => continue,
        };
        if !fits && !value.is_null() {
            let found = match value {
                Value::Array(_) => "slice",
                Value::Object(_) => "map",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Number(number) if number.is_f64() => "float64",
                Value::Number(_) | Value::Null => "int64",
            };
            let colon = if wanted == "struct" { ":" } else { "" };
            return Err(PatchError::Shape {
                patch: go_format(&Value::Object(patch.clone())),
                why: format!("cannot restore {wanted} from{colon} {found}"),
            });
        }
    }
    Ok(())
}

/// `original` with `patch` merged into it.
pub(super) fn merge_map(
    schema: Option<&Schema>,
    mut original: Object,
    mut patch: Object,
) -> Result<Object, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            Some("merge") => merge_map(schema, original, patch),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    let orders: Vec<(String, Vec<Value>)> = take_prefixed(&mut patch, ORDER);
    for (name, order) in orders {
        let field = schema.and_then(|schema| schema.field(&name));
        let merged = match (original.remove(&name), patch.remove(&name)) {
            (None, None) => continue,
            (Some(Value::Array(ours)), Some(Value::Array(theirs))) => {
                let server = ours.clone();
                (merge_lists(field, ours, theirs)?, server)
            }
            (Some(Value::Array(ours)), None) => (ours.clone(), ours),
            (_, Some(Value::Array(theirs))) => (dropped(theirs), Vec::new()),
            (_, Some(Value::Null)) => continue,
            (Some(other), _) | (None, Some(other)) => {
                original.insert(name, other);
                continue;
            }
        };
        let key = field.and_then(|field| field.patch.key.as_deref());
        original.insert(name, Value::Array(ordered(merged.0, &order, &merged.1, key)));
    }
    for (name, gone) in take_prefixed(&mut patch, DELETE) {
        if let Some(Value::Array(items)) = original.get_mut(&name) {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (name, value) in patch {
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let field = schema.and_then(|schema| schema.field(&name));
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                if field.is_some_and(|field| field.patch.replace) {
                    Value::Object(theirs)
                } else {
                    Value::Object(merge_map(field.and_then(|field| holds(&field.kind)), ours, theirs)?)
                }
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) => {
                if field.is_some_and(|field| field.patch.merge) {
                    Value::Array(merge_lists(field, ours, theirs)?)
                } else {
                    Value::Array(theirs)
                }
            }
            (_, other) => drop_directives(other),
        };
        original.insert(name, merged);
    }
    Ok(original)
}

/// The schema of what a field, or the items or values of it, hold.
fn holds(kind: &Kind) -> Option<&Schema> {
    match kind {
        Kind::Message(link) => Some(link.get()),
        Kind::List(list) => holds(&list.item),
        _ => None,
    }
}

fn unknown_directive(directive: &Value, mut patch: Object) -> PatchError {
    patch.insert(DIRECTIVE.into(), directive.clone());
    let shown = go_format(&Value::Object(patch));
    PatchError::Strategy(format!("unknown patch type: {} in map: {shown}", go_format(directive)))
}

fn take_prefixed(patch: &mut Object, prefix: &str) -> Vec<(String, Vec<Value>)> {
    let names: Vec<String> = patch.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let field = name.trim_start_matches(prefix).to_owned();
        if let Some(Value::Array(items)) = patch.remove(&name) {
            found.push((field, items));
        }
    }
    found
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(kept) = patch.remove(RETAIN) else { return Ok(()) };
    let Value::Array(kept) = kept else {
        return Err(PatchError::Strategy("the value of $retainKeys must be a list".into()));
    };
    let keeps = |name: &str| kept.iter().any(|one| one.as_str() == Some(name));
    if let Some(stray) = patch.keys().find(|name| !name.starts_with('$') && !keeps(name)) {
        return Err(PatchError::Strategy(format!("$retainKeys does not list {stray:?}, which the patch sets")));
    }
    original.retain(|name, _| keeps(name));
    Ok(())
}

fn merge_lists(field: Option<&Field>, ours: Vec<Value>, theirs: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let key = field.and_then(|field| field.patch.key.as_deref());
    let of_maps = ours.iter().chain(&theirs).next().is_some_and(Value::is_object);
    if !of_maps {
        let server = ours.clone();
        let mut merged: Vec<Value> = Vec::with_capacity(ours.len() + theirs.len());
        for item in ours.into_iter().chain(theirs.iter().cloned()) {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
        return Ok(ordered(merged, &theirs, &server, None));
    }
    let Some(key) = key else {
        let name = field.map(|field| field.name.to_string()).unwrap_or_default();
        return Err(PatchError::Strategy(format!("cannot merge lists without merge key for {name}")));
    };
    let server = ours.clone();
    let (mut merged, mut rest, mut replaces) = (ours, Vec::with_capacity(theirs.len()), false);
    for item in theirs {
        let Value::Object(mut map) = item else {
            return Err(PatchError::Strategy(format!("expected maps in a list that merges by {key}")));
        };
        let Some(directive) = map.remove(DIRECTIVE) else {
            rest.push(map);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let value = map.get(key).ok_or_else(|| no_key(&map, key))?;
                merged.retain(|item| item.get(key) != Some(value));
            }
            Some("replace") => replaces = true,
            Some("merge") => {
                return Err(PatchError::Strategy("merging lists cannot yet be specified in the patch".into()));
            }
            _ => return Err(unknown_directive(&directive, map)),
        }
    }
    if replaces {
        return Ok(rest.into_iter().map(Value::Object).collect());
    }
    let order: Vec<Value> = rest.iter().cloned().map(Value::Object).collect();
    for map in rest {
        let value = map.get(key).ok_or_else(|| no_key(&map, key))?;
        let found = merged.iter_mut().find(|item| item.get(key) == Some(value));
        match found {
            Some(item) => {
                let ours = match item.take() {
                    Value::Object(ours) => ours,
                    _ => Object::new(),
                };
                *item = Value::Object(merge_map(field.and_then(|field| holds(&field.kind)), ours, map)?);
            }
            None => merged.push(drop_directives(Value::Object(map))),
        }
    }
    Ok(ordered(merged, &order, &server, Some(key)))
}

fn no_key(map: &Object, key: &str) -> PatchError {
    let shown = go_format(&Value::Object(map.clone()));
    PatchError::Strategy(format!("map: {shown} does not contain declared merge key: {key}"))
}

/// Items of the patch in its order, the others in the server's; where both know two items, the server's order holds.
fn ordered(merged: Vec<Value>, patch: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for item in merged {
        match place(patch, &item) {
            Some(at) => right.push((at, item)),
            None => left.push((place(server, &item).unwrap_or(usize::MAX), item)),
        }
    }
    left.sort_by_key(|(at, _)| *at);
    right.sort_by_key(|(at, _)| *at);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut all = Vec::new();
    while let (Some((ours, _)), Some((_, theirs))) = (left.peek(), right.peek()) {
        let first = place(server, theirs).is_some_and(|place| *ours < place);
        all.extend(if first { left.next() } else { right.next() }.map(|(_, item)| item));
    }
    all.extend(left.chain(right).map(|(_, item)| item));
    all
}

fn dropped(items: Vec<Value>) -> Vec<Value> {
    match drop_directives(Value::Array(items)) {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// A value that meets nothing to merge with: directives and nulls have no effect and do not stay.
fn drop_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            if map.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                return Value::Object(Object::new());
            }
            let kept = map.into_iter().filter(|(name, value)| {
                let directive =
                    name == DIRECTIVE || name == RETAIN || name.starts_with(ORDER) || name.starts_with(DELETE);
                !directive && !value.is_null()
            });
            Value::Object(kept.map(|(name, value)| (name, drop_directives(value))).collect())
        }
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete"))
                .map(drop_directives)
                .filter(|item| !item.as_object().is_some_and(Object::is_empty) || item.is_array())
                .collect(),
        ),
        other => other,
    }
}

/// As Go's `%v` prints it, which upstream's messages show.
pub(super) fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_format).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_format(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
    }
}
