//! What an expression may build.
//!
//! Cost is counted as upstream counts it, and that leaves out what results weigh: a short expression over a long text, or a
//! list that is doubled again and again, would take all memory for little. So a result is measured before it is built, and
//! all that an evaluation builds is counted besides.

use std::sync::Arc;

use super::{
    meter::{ErrorKind, EvalError},
    opaque::Opaque,
    value::{List, Map, Value},
};

/// Longest text that is made: thrice the largest request.
const MAX_TEXT_BYTES: usize = 10 << 20;
/// Most items of a list that is made, and most values in all depths of one: looking through it takes milliseconds.
pub(super) const MAX_ITEMS: usize = 1_000_000;
/// Most bytes that one evaluation makes, whether or not it still holds them.
pub(super) const MAX_BUILT_BYTES: usize = 128 << 20;
/// Of an item of a list, besides what it refers to.
const ITEM_BYTES: usize = 64;
/// Most that a number, an instant or a flag takes as text: a number has at most 309 digits before the point, and as many
/// behind it as `format` is asked for, a thousand.
const SCALAR_BYTES: usize = 1_536;
/// Deepest evaluation, variables within variables included: each level takes stack.
pub(super) const MAX_DEPTH: u32 = 320;

/// A value would be larger than it may be.
pub(super) fn too_large(what: &str) -> EvalError {
    let message = Arc::from(format!("operation cancelled: {what}"));
    EvalError { kind: ErrorKind::CostExceeded, message }
}

/// How many bytes a call will make; an error if one value would be too large.
pub(super) fn measure(function: &str, args: &[Value<'_>]) -> Result<usize, EvalError> {
    let (bytes, items) = match (function, args) {
        ("_+_", [Value::List(a), Value::List(b)]) => (0, a.len().saturating_add(b.len())),
        ("cel.@mapInsert", [Value::Map(map), ..]) => (0, map.len()),
        ("_+_", [Value::String(a), Value::String(b)]) => (a.len().saturating_add(b.len()), 0),
        ("_+_", [Value::Bytes(a), Value::Bytes(b)]) => (a.len().saturating_add(b.len()), 0),
        ("replace", [Value::String(own), Value::String(from), Value::String(to), times @ ..]) => {
            let most = limit(times.first());
            let places = own.matches(&**from).take(most).count();
            (own.len().saturating_add(places.saturating_mul(to.len())), 0)
        }
        ("split", [Value::String(own), Value::String(separator), times @ ..]) => {
            let parts = own.matches(&**separator).take(limit(times.first())).count().saturating_add(1);
            (own.len(), parts)
        }
        ("join", [Value::List(list), separator @ ..]) => {
            let between = separator.first().and_then(Value::as_str).map_or(0, str::len);
            let each = list.iter().map(|item| item.as_str().map_or(0, str::len).saturating_add(between));
            (each.fold(0, usize::saturating_add), 0)
        }
        ("lists.range", [Value::Int(end)]) => (0, usize::try_from(*end).unwrap_or(0)),
        ("slice" | "sort" | "reverse" | "distinct", [Value::List(list), ..]) => (0, list.len()),
        ("flatten", [own, depth @ ..]) => (0, flat(own, limit(depth.first().or(Some(&Value::Int(1)))))),
        ("format", [Value::String(pattern), Value::List(values)]) => {
            let mut left = MAX_TEXT_BYTES;
            let fits = values.iter().all(|value| written(&value, &mut left));
            (if fits { pattern.len().saturating_add(MAX_TEXT_BYTES - left) } else { usize::MAX }, 0)
        }
        (
            "lowerAscii"
            | "upperAscii"
            | "trim"
            | "substring"
            | "strings.quote"
            | "jsonpatch.escapeKey"
            | "find"
            | "findAll"
            | "bytes",
            [Value::String(own), ..],
        ) => (own.len(), 0),
        ("string", [Value::Bytes(own)]) => (own.len(), 0),
        (_, [Value::Opaque(Opaque::Url(url))]) => (url.text().len(), 0),
        _ => (0, 0),
    };
    if bytes > MAX_TEXT_BYTES {
        return Err(too_large(&format!("{function} would make more than {MAX_TEXT_BYTES} bytes")));
    }
    if items > MAX_ITEMS {
        return Err(too_large(&format!("{function} would make more than {MAX_ITEMS} items")));
    }
    // What is added to a map or list was counted when it was made; a copy of the rest is made anew.
    Ok(bytes.saturating_add(items_bytes(items)))
}

/// What items take besides what they refer to.
pub(super) fn items_bytes(items: usize) -> usize {
    items.saturating_mul(ITEM_BYTES)
}

/// How many times at most; any number below zero is no limit.
fn limit(times: Option<&Value<'_>>) -> usize {
    match times {
        Some(Value::Int(times)) => usize::try_from(*times).unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

/// How many items a list has once those within it are laid in it so many levels deep.
fn flat(of: &Value<'_>, depth: usize) -> usize {
    match of {
        Value::List(list) if depth == 0 => list.len(),
        Value::List(list) => list.iter().fold(0, |all, item| all.saturating_add(flat(&item, depth - 1))),
        _ => 1,
    }
}

/// Takes from `left` what a value takes as text; false once nothing is left.
fn written(value: &Value<'_>, left: &mut usize) -> bool {
    let own = match value {
        // Twice, since it may be written in hexadecimal digits.
        Value::String(text) | Value::Type(text) => text.len().saturating_mul(2),
        Value::Bytes(data) => data.len().saturating_mul(3),
        Value::List(_) | Value::Map(_) => 2,
        _ => SCALAR_BYTES,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match value {
        Value::List(list) => list.iter().all(|item| written(&item, left)),
        Value::Map(map) => map.entries().iter().all(|(key, value)| written(key, left) && written(value, left)),
        _ => true,
    }
}

/// Refuses a value that holds too many others: one that is made of a few, each of which is made of a few, is small in memory,
/// and endless to whoever walks through it. Answers how many were walked through, itself included: that takes time too.
pub(super) fn walkable(value: &Value<'_>) -> Result<u64, EvalError> {
    let mut left = MAX_ITEMS;
    if counted(value, &mut left) {
        return Ok(u64::try_from(MAX_ITEMS - left).unwrap_or(u64::MAX));
    }
    Err(too_large(&format!("a value would hold more than {MAX_ITEMS} others")))
}

fn counted(value: &Value<'_>, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    match value {
        Value::List(List::Made(items)) => items.iter().all(|item| counted(item, left)),
        Value::Map(Map::Made(entries)) => entries.list().iter().all(|(_, value)| counted(value, left)),
        Value::Object(object) => object.fields.iter().all(|(_, value)| counted(value, left)),
        Value::Optional(Some(inner)) => counted(inner, left),
        _ => true,
    }
}
