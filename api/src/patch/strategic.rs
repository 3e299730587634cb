//! Strategic merge patch: lists merge by key, and `$` directives replace, delete, retain and order.

use std::collections::{HashMap, HashSet};

use serde_json::{Map as JsonMap, Value};

use super::PatchError;
use crate::{
    go,
    schema::{Field, Kind, Schema},
};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

type Object = JsonMap<String, Value>;

/// Why a merged value does not fit what it should hold, in the words of upstream's conversion; nothing where it does.
pub(super) fn misfit(kind: &Kind, value: &Value) -> Option<String> {
    let unlike = |wanted: &str| Some(format!("cannot restore {wanted} {}", go::reflect_kind(value)));
    let scalar = |fits: bool, number: bool| match value {
        _ if fits => None,
        Value::Number(_) if number => Some(format!("cannot convert {} to {}", go::reflect_kind(value), kind.go_type())),
        _ => Some(format!("unrecognized type: {}", kind.go_type())),
    };
    match kind {
        _ if value.is_null() => None,
        Kind::Message(link) => match value {
            Value::Object(map) => misfit_in(link.get(), map),
            _ => unlike("struct from:"),
        },
        Kind::Map(map) => match value {
            Value::Object(entries) => entries.values().find_map(|value| misfit(&map.value, value)),
            _ => unlike("map from"),
        },
        Kind::List(list) => match value {
            Value::Array(items) => items.iter().find_map(|item| misfit(&list.item, item)),
            _ => unlike("slice from"),
        },
        Kind::Bytes if !value.is_string() => unlike("slice from"),
        Kind::Bool => scalar(value.is_boolean(), false),
        Kind::String => scalar(value.is_string(), value.is_i64()),
        Kind::Int32 | Kind::Int64 => scalar(value.as_f64().is_some_and(|number| number.fract() == 0.0), true),
        Kind::Double => scalar(value.is_number(), true),
        Kind::IntOrString => match value {
            Value::String(_) => None,
            Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => None,
            Value::Number(_) => Some(go::not_of_type(&format!("number {}", go::json(value)), "int32")),
            other => Some(go::not_of_type(go::json_kind(other), "int32")),
        },
        Kind::Time | Kind::MicroTime if !value.is_string() => Some(go::not_of_type(go::json_kind(value), "string")),
        // These read themselves, and say what is wrong.
        Kind::Bytes | Kind::Quantity | Kind::Time | Kind::MicroTime | Kind::Any | Kind::Raw => None,
    }
}

/// Like [`misfit`], of an object.
pub(super) fn misfit_in(schema: &Schema, map: &Object) -> Option<String> {
    // Upstream looks at the fields as they are declared, which their numbers tell best.
    let place = |field: &Field| field.outer.into_iter().find(|outer| *outer != 0).unwrap_or(field.number);
    let misfits = schema.fields().iter().filter_map(|field| {
        let value = map.get(&*field.name)?;
        let why = misfit(&field.kind, value)?;
        let is_named = matches!(field.kind, Kind::String) && value.is_number();
        let named = || format!("cannot convert {} to {}", go::reflect_kind(value), field.go_type_below(&field.kind, 0));
        Some((place(field), if is_named { named() } else { why }))
    });
    misfits.min_by_key(|(place, _)| *place).map(|(_, why)| why)
}

/// Go's name of the type that an untyped value has, as a message about strings shows it.
fn go_type(value: &Value) -> &'static str {
    if value.is_null() { "%!s(<nil>)" } else { go::type_name(value) }
}

/// A patch without the directives that are taken out of it as they are carried out: so upstream shows it afterwards.
pub(super) fn carried_out(patch: Value) -> Value {
    match patch {
        Value::Object(mut map) => {
            let ordered: Vec<String> =
                map.keys().filter_map(|name| name.strip_prefix(ORDER).map(str::to_owned)).collect();
            map.remove(RETAIN);
            for name in ordered {
                map.remove(&format!("{ORDER}{name}"));
                map.remove(&name);
            }
            if map.get(DIRECTIVE).and_then(Value::as_str) == Some("replace") {
                map.remove(DIRECTIVE);
            }
            Value::Object(map.into_iter().map(|(name, value)| (name, carried_out(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(carried_out).collect()),
        other => other,
    }
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
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered(schema, &mut original, &mut patch)?;
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

/// Merges the lists whose order the patch dictates, and takes them out of it.
fn merge_ordered(schema: Option<&Schema>, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let list = |value: Option<&Value>| match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(other) => {
            let why = format!("expected a []interface {{}}, but received a {}", go_type(other));
            Err(PatchError::Strategy(why))
        }
    };
    let names: Vec<String> = patch.keys().filter(|name| name.starts_with(ORDER)).cloned().collect();
    for directive in names {
        let order = list(patch.remove(&directive).as_ref())?.unwrap_or_default();
        let name = directive.trim_start_matches(ORDER);
        let field = schema.and_then(|schema| schema.field(name));
        let key = field.and_then(|field| field.patch.key.as_deref());
        let (ours, theirs) = (list(original.get(name))?, list(patch.get(name))?);
        if field.is_none() {
            let why = schema.map_or_else(
                || "merging an object in json but data type is not struct, instead is: map".to_owned(),
                |schema| {
                    let holder = schema.short_name();
                    format!("unable to find api field in struct {holder} for the json field {name:?}")
                },
            );
            return Err(PatchError::Strategy(why));
        }
        if let Some(theirs) = &theirs {
            check_order(theirs, &order, key)?;
        }
        let server = ours.clone().unwrap_or_default();
        let merged = match (ours, theirs) {
            (None, None) => continue,
            (Some(ours), None) => ours,
            (None, Some(theirs)) => dropped(theirs),
            (Some(ours), Some(theirs)) if field.is_some_and(|field| field.patch.merge) => {
                merge_lists(field, ours, theirs)?
            }
            (Some(_), Some(theirs)) => theirs,
        };
        if merged.is_empty() && server.is_empty() {
            return Err(PatchError::Strategy("no elements in any of the given slices".to_owned()));
        }
        original.insert(name.to_owned(), Value::Array(ordered(merged, &order, &server, key)));
        patch.remove(name);
    }
    Ok(())
}

/// Whether what the patch sets stands in the order that it dictates.
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if items.is_empty() || order.is_empty() {
        return Ok(());
    }
    let same = |item: &Value, place: &Value| match key {
        Some(key) => item.get(key) == place.get(key),
        None => item == place,
    };
    let mut places = order.iter();
    let stays = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete");
    if items.iter().filter(stays).all(|item| places.any(|place| same(item, place))) {
        return Ok(());
    }
    let shown = |items: &[Value]| go::plain(&Value::Array(items.to_vec()));
    Err(PatchError::Strategy(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
        shown(items),
        shown(order)
    )))
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
    let shown = go::plain(&Value::Object(patch));
    PatchError::Strategy(format!("unknown patch type: {} in map: {shown}", go::text(directive)))
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
    let bad = || PatchError::Directive("invalid patch format of retainKeys".into());
    let Value::Array(kept) = kept else { return Err(bad()) };
    let kept: HashSet<&str> = kept.iter().filter_map(Value::as_str).collect();
    let keeps = |name: &str| kept.contains(name);
    let is_set = |(name, value): &(&String, &Value)| {
        !value.is_null() && !name.starts_with(DELETE) && !name.starts_with(ORDER) && !keeps(name)
    };
    if patch.iter().any(|entry| is_set(&entry)) {
        return Err(bad());
    }
    original.retain(|name, _| keeps(name));
    Ok(())
}

fn merge_lists(field: Option<&Field>, ours: Vec<Value>, theirs: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let key = field.and_then(|field| field.patch.key.as_deref());
    check_alike(&ours, &theirs)?;
    let of_maps = ours.iter().chain(&theirs).next().is_some_and(Value::is_object);
    if !of_maps {
        let server = ours.clone();
        let mut known = HashSet::with_capacity(ours.len() + theirs.len());
        let all = ours.into_iter().chain(theirs.iter().cloned());
        let merged = all.filter(|item| known.insert(item.to_string())).collect();
        return Ok(ordered(merged, &theirs, &server, None));
    }
    let Some(key) = key else {
        let name = field.map(|field| field.name.to_string()).unwrap_or_default();
        return Err(PatchError::Strategy(format!("cannot merge lists without merge key for {name}")));
    };
    let server = ours.clone();
    let (mut merged, mut rest, mut replaces) = (ours, Vec::with_capacity(theirs.len()), false);
    let mut deleted = HashSet::new();
    for item in theirs {
        let Value::Object(mut map) = item else {
            return Err(PatchError::Strategy(format!("expected maps in a list that merges by {key}")));
        };
        let Some(directive) = map.remove(DIRECTIVE) else {
            rest.push(map);
            continue;
        };
        match directive.as_str() {
            Some("delete") => match map.get(key) {
                Some(value) => {
                    deleted.insert(value.to_string());
                }
                None => {
                    map.insert(DIRECTIVE.into(), directive);
                    return Err(no_key(&map, key));
                }
            },
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
    if !deleted.is_empty() {
        merged.retain(|item| item.get(key).is_none_or(|value| !deleted.contains(&value.to_string())));
    }
    let order: Vec<Value> = rest.iter().cloned().map(Value::Object).collect();
    let mut places = Places::of(&merged, Some(key)).by_identity;
    for map in rest {
        let value = map.get(key).ok_or_else(|| no_key(&map, key))?;
        let place = *places.entry(value.to_string()).or_insert(merged.len());
        match merged.get_mut(place) {
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

/// Items of one list are of one type, and that is no list.
fn check_alike(ours: &[Value], theirs: &[Value]) -> Result<(), PatchError> {
    let mut types = ours.iter().chain(theirs).map(go_type);
    let Some(first) = types.next() else { return Ok(()) };
    if first == "[]interface {}" {
        return Err(PatchError::Unprocessable("lists of lists are not supported"));
    }
    if types.all(|one| one == first) {
        return Ok(());
    }
    let shown = go::plain(&Value::Array(vec![Value::Array(ours.to_vec()), Value::Array(theirs.to_vec())]));
    Err(PatchError::Strategy(format!("list element types are not identical: {shown}")))
}

fn no_key(map: &Object, key: &str) -> PatchError {
    let shown = go::plain(&Value::Object(map.clone()));
    PatchError::Strategy(format!("map: {shown} does not contain declared merge key: {key}"))
}

/// Items of the patch in its order, the others in the server's; where both know two items, the server's order holds.
fn ordered(merged: Vec<Value>, patch: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let (patch, server) = (Places::of(patch, key), Places::of(server, key));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for item in merged {
        match patch.find(&item) {
            Some(at) => right.push((at, item)),
            None => left.push((server.find(&item).unwrap_or(usize::MAX), item)),
        }
    }
    left.sort_by_key(|(at, _)| *at);
    right.sort_by_key(|(at, _)| *at);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut all = Vec::new();
    while let (Some((ours, _)), Some((_, theirs))) = (left.peek(), right.peek()) {
        let first = server.find(theirs).is_some_and(|place| *ours < place);
        all.extend(if first { left.next() } else { right.next() }.map(|(_, item)| item));
    }
    all.extend(left.chain(right).map(|(_, item)| item));
    all
}

/// Where items first stand in a list, by what tells them apart: a long list costs no search per item.
struct Places<'k> {
    key: Option<&'k str>,
    by_identity: HashMap<String, usize>,
}

impl<'k> Places<'k> {
    fn of(list: &[Value], key: Option<&'k str>) -> Self {
        let mut places = Self { key, by_identity: HashMap::with_capacity(list.len()) };
        for (at, item) in list.iter().enumerate() {
            if let Some(identity) = places.identity(item) {
                places.by_identity.entry(identity).or_insert(at);
            }
        }
        places
    }

    /// The merge key's value, or all of the item; none for what lacks the key.
    fn identity(&self, item: &Value) -> Option<String> {
        match self.key {
            Some(key) => item.get(key).map(Value::to_string),
            None => Some(item.to_string()),
        }
    }

    fn find(&self, item: &Value) -> Option<usize> {
        self.by_identity.get(&self.identity(item)?).copied()
    }
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
