//! Lists that are made of lists: parts of them, and other orders.

use std::cmp::Ordering;

use super::{Fault, Library, Outcome, fail};
use crate::cel::{
    compare,
    value::{List, Value},
};

pub(super) const LIBRARY: Library = &[
    ("slice", &["list_slice: list(A).(int, int) -> list(A)"], slice),
    (
        "flatten",
        &["list_flatten: list(list(A)).() -> list(A)", "list_flatten_int: list(dyn).(int) -> list(dyn)"],
        flatten,
    ),
    (
        "sort",
        &[
            "list_int_sort: list(int).() -> list(int)",
            "list_uint_sort: list(uint).() -> list(uint)",
            "list_double_sort: list(double).() -> list(double)",
            "list_bool_sort: list(bool).() -> list(bool)",
            "list_google.protobuf.Duration_sort: list(duration).() -> list(duration)",
            "list_google.protobuf.Timestamp_sort: list(timestamp).() -> list(timestamp)",
            "list_string_sort: list(string).() -> list(string)",
            "list_bytes_sort: list(bytes).() -> list(bytes)",
        ],
        |args| match args {
            [Value::List(list)] => sorted(list, list),
            _ => Err(Fault::NoOverload),
        },
    ),
    (
        "@sortByAssociatedKeys",
        &[
            "list_int_sortByAssociatedKeys: list(A).(list(int)) -> list(A)",
            "list_uint_sortByAssociatedKeys: list(A).(list(uint)) -> list(A)",
            "list_double_sortByAssociatedKeys: list(A).(list(double)) -> list(A)",
            "list_bool_sortByAssociatedKeys: list(A).(list(bool)) -> list(A)",
            "list_google.protobuf.Duration_sortByAssociatedKeys: list(A).(list(duration)) -> list(A)",
            "list_google.protobuf.Timestamp_sortByAssociatedKeys: list(A).(list(timestamp)) -> list(A)",
            "list_string_sortByAssociatedKeys: list(A).(list(string)) -> list(A)",
            "list_bytes_sortByAssociatedKeys: list(A).(list(bytes)) -> list(A)",
        ],
        |args| match args {
            [Value::List(list), Value::List(keys)] => sorted(list, keys),
            _ => Err(Fault::NoOverload),
        },
    ),
    ("lists.range", &["lists_range: (int) -> list(int)"], |args| match args {
        [Value::Int(end)] => Ok((0..*end).map(Value::Int).collect::<Vec<_>>().into()),
        _ => Err(Fault::NoOverload),
    }),
    ("reverse", &["list_reverse: list(A).() -> list(A)"], |args| match args {
        [Value::List(list)] => {
            let mut items: Vec<Value<'_>> = list.iter().collect();
            items.reverse();
            Ok(items.into())
        }
        _ => Err(Fault::NoOverload),
    }),
    ("distinct", &["list_distinct: list(A).() -> list(A)"], |args| match args {
        [Value::List(list)] => {
            let mut kept: Vec<Value<'_>> = Vec::new();
            for item in list.iter() {
                if !kept.iter().any(|own| compare::equal(own, &item)) {
                    kept.push(item);
                }
            }
            Ok(kept.into())
        }
        _ => Err(Fault::NoOverload),
    }),
];

fn slice<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return Err(Fault::NoOverload) };
    let refused = |why: &str| fail(format!("cannot slice({start}, {end}), {why}"));
    if *start < 0 || *end < 0 {
        return refused("negative indexes not supported");
    }
    if start > end {
        return refused("start index must be less than or equal to end index");
    }
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else { return Err(Fault::NoOverload) };
    if list.len() < to {
        return refused(&format!("list is length {}", list.len()));
    }
    Ok((from..to).filter_map(|at| list.get(at)).collect::<Vec<_>>().into())
}

fn flatten<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        [own] => return fail(format!("no such overload: {}.flatten()", own.type_name())),
        [own, depth] => {
            return fail(format!("no such overload: {}.flatten({})", own.type_name(), depth.type_name()));
        }
        _ => return Err(Fault::NoOverload),
    };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut flat = Vec::new();
    lay(list, depth, &mut flat);
    Ok(flat.into())
}

/// Adds the items, and those of lists among them instead of these.
fn lay<'a>(list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>) {
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => lay(&inner, depth - 1, flat),
            other => flat.push(other),
        }
    }
}

/// An order of all values of a type: sorting wants one. What is no number comes last.
fn in_order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    let is_none = |value: &Value<'_>| matches!(value, Value::Double(number) if number.is_nan());
    compare::order(a, b).flatten().unwrap_or_else(|| is_none(a).cmp(&is_none(b)))
}

/// The items in the order of their keys.
fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    let keys: Vec<Value<'a>> = keys.iter().collect();
    let Some(first) = keys.first() else { return Ok(Vec::new().into()) };
    if compare::order(first, first).is_none() {
        return fail("list elements must be comparable");
    }
    if keys.len() > 1 && keys.iter().any(|key| key.type_name() != first.type_name()) {
        return fail("list elements must have the same type");
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().cloned().zip(list.iter()).collect();
    pairs.sort_by(|(a, _), (b, _)| in_order(a, b));
    Ok(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without an order of all of them, sorting panics.
    #[test]
    fn numbers_are_sorted_among_what_is_none() {
        let numbers: Vec<Value<'_>> =
            (0..100).map(|at| Value::Double(if at % 3 == 0 { f64::NAN } else { f64::from(100 - at) })).collect();
        let Value::List(list) = Value::from(numbers) else { panic!("a list") };
        let Ok(Value::List(sorted)) = sorted(&list, &list) else { panic!("a list") };
        let found: Vec<f64> =
            sorted.iter().map(|item| if let Value::Double(number) = item { number } else { 0.0 }).collect();
        assert!(found[..66].is_sorted() && found[66..].iter().all(|number| number.is_nan()), "{found:?}");
    }
}
