//! Kubernetes' functions on lists, and sets.

use std::cmp::Ordering;

use super::{Fault, Library, Outcome, fail, find};
use crate::cel::{
    compare,
    value::{List, Value},
};

pub(super) const LIBRARY: Library = &[
    (
        "isSorted",
        &[
            "list_int_is_sorted_bool: list(int).() -> bool",
            "list_uint_is_sorted_bool: list(uint).() -> bool",
            "list_double_is_sorted_bool: list(double).() -> bool",
            "list_bool_is_sorted_bool: list(bool).() -> bool",
            "list_duration_is_sorted_bool: list(duration).() -> bool",
            "list_timestamp_is_sorted_bool: list(timestamp).() -> bool",
            "list_string_is_sorted_bool: list(string).() -> bool",
            "list_bytes_is_sorted_bool: list(bytes).() -> bool",
        ],
        is_sorted,
    ),
    (
        "sum",
        &[
            "list_int_sum_int: list(int).() -> int",
            "list_uint_sum_uint: list(uint).() -> uint",
            "list_double_sum_double: list(double).() -> double",
            "list_duration_sum_duration: list(duration).() -> duration",
        ],
        sum,
    ),
    (
        "max",
        &[
            "list_int_max_int: list(int).() -> int",
            "list_uint_max_uint: list(uint).() -> uint",
            "list_double_max_double: list(double).() -> double",
            "list_bool_max_bool: list(bool).() -> bool",
            "list_duration_max_duration: list(duration).() -> duration",
            "list_timestamp_max_timestamp: list(timestamp).() -> timestamp",
            "list_string_max_string: list(string).() -> string",
            "list_bytes_max_bytes: list(bytes).() -> bytes",
        ],
        |args| extreme(args, "max", Ordering::Greater),
    ),
    (
        "min",
        &[
            "list_int_min_int: list(int).() -> int",
            "list_uint_min_uint: list(uint).() -> uint",
            "list_double_min_double: list(double).() -> double",
            "list_bool_min_bool: list(bool).() -> bool",
            "list_duration_min_duration: list(duration).() -> duration",
            "list_timestamp_min_timestamp: list(timestamp).() -> timestamp",
            "list_string_min_string: list(string).() -> string",
            "list_bytes_min_bytes: list(bytes).() -> bytes",
        ],
        |args| extreme(args, "min", Ordering::Less),
    ),
    ("sets.contains", &["list_sets_contains_list: (list(A), list(A)) -> bool"], |args| {
        sets(args, |a, b| b.iter().all(|item| has(a, &item)))
    }),
    ("sets.equivalent", &["list_sets_equivalent_list: (list(A), list(A)) -> bool"], |args| {
        sets(args, |a, b| b.iter().all(|item| has(a, &item)) && a.iter().all(|item| has(b, &item)))
    }),
    ("sets.intersects", &["list_sets_intersects_list: (list(A), list(A)) -> bool"], |args| {
        sets(args, |a, b| b.iter().any(|item| has(a, &item)))
    }),
];

fn has(list: &List<'_>, item: &Value<'_>) -> bool {
    list.iter().any(|own| compare::equal(&own, item))
}

fn sets<'a>(args: &[Value<'a>], test: impl Fn(&List<'a>, &List<'a>) -> bool) -> Outcome<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(test(a, b))),
        _ => Err(Fault::NoOverload),
    }
}

/// Place of the first or last item that is equal.
pub(super) fn index_of<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool) -> Value<'a> {
    let fits = |at: &usize| list.get(*at).is_some_and(|own| compare::equal(&own, wanted));
    let found = if last { (0..list.len()).rev().find(fits) } else { (0..list.len()).find(fits) };
    Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

/// Upstream looks at the first item to see whether a list is of the right kind.
fn of_kind(list: &List<'_>, add: bool) -> bool {
    list.get(0).is_none_or(|first| match first {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_) => true,
        Value::Bool(_) | Value::String(_) | Value::Bytes(_) | Value::Timestamp(_) => !add,
        _ => false,
    })
}

const UNLIKE: &str = "no such overload";

fn is_sorted<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return Err(Fault::NoOverload) };
    if !of_kind(list, false) {
        return Err(Fault::NoOverload);
    }
    let mut last: Option<Value<'a>> = None;
    for item in list.iter() {
        if let Some(last) = &last {
            match compare::order(last, &item) {
                Some(Some(Ordering::Greater)) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return fail(UNLIKE),
            }
        }
        last = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return Err(Fault::NoOverload) };
    let Some(add) = find("_+_").filter(|_| of_kind(list, true)) else { return Err(Fault::NoOverload) };
    let mut items = list.iter();
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    items.try_fold(first, |total, item| {
        (add.run)(&[total, item]).map_err(|fault| match fault {
            Fault::NoOverload => Fault::Message(UNLIKE.to_owned()),
            other => other,
        })
    })
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let [Value::List(list)] = args else { return Err(Fault::NoOverload) };
    if !of_kind(list, false) {
        return Err(Fault::NoOverload);
    }
    let mut items = list.iter();
    let Some(mut best) = items.next() else { return fail(format!("{name} called on empty list")) };
    for item in items {
        match compare::order(&item, &best) {
            Some(order) if order == Some(wanted) => best = item,
            Some(_) => {}
            None => return fail(UNLIKE),
        }
    }
    Ok(best)
}
