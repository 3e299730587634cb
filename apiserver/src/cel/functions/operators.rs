//! Operators. Whole numbers that overflow are errors.

use std::{cmp::Ordering, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{Fault, Library, Outcome, fail, text};
use crate::cel::{
    compare, read,
    value::{Entries, List, Map, Value},
};

pub(super) const LIBRARY: Library = &[
    ("_?_:_", &["conditional: (bool, A, A) -> A"], lazily),
    ("_&&_", &["logical_and: (bool, bool) -> bool"], lazily),
    ("_||_", &["logical_or: (bool, bool) -> bool"], lazily),
    ("@not_strictly_false", &["not_strictly_false: (bool) -> bool"], lazily),
    ("!_", &["logical_not: (bool) -> bool"], not),
    ("_==_", &["equals: (A, A) -> bool"], |args| with_two(args, |a, b| equal(a, b).map(Value::Bool))),
    ("_!=_", &["not_equals: (A, A) -> bool"], |args| {
        with_two(args, |a, b| Ok(Value::Bool(!equal(a, b).unwrap_or(false))))
    }),
    (
        "_<_",
        &[
            "less_bool: (bool, bool) -> bool",
            "less_int64: (int, int) -> bool",
            "less_int64_double: (int, double) -> bool",
            "less_int64_uint64: (int, uint) -> bool",
            "less_uint64: (uint, uint) -> bool",
            "less_uint64_double: (uint, double) -> bool",
            "less_uint64_int64: (uint, int) -> bool",
            "less_double: (double, double) -> bool",
            "less_double_int64: (double, int) -> bool",
            "less_double_uint64: (double, uint) -> bool",
            "less_string: (string, string) -> bool",
            "less_bytes: (bytes, bytes) -> bool",
            "less_timestamp: (timestamp, timestamp) -> bool",
            "less_duration: (duration, duration) -> bool",
        ],
        |args| ordered(args, Ordering::is_lt),
    ),
    (
        "_<=_",
        &[
            "less_equals_bool: (bool, bool) -> bool",
            "less_equals_int64: (int, int) -> bool",
            "less_equals_int64_double: (int, double) -> bool",
            "less_equals_int64_uint64: (int, uint) -> bool",
            "less_equals_uint64: (uint, uint) -> bool",
            "less_equals_uint64_double: (uint, double) -> bool",
            "less_equals_uint64_int64: (uint, int) -> bool",
            "less_equals_double: (double, double) -> bool",
            "less_equals_double_int64: (double, int) -> bool",
            "less_equals_double_uint64: (double, uint) -> bool",
            "less_equals_string: (string, string) -> bool",
            "less_equals_bytes: (bytes, bytes) -> bool",
            "less_equals_timestamp: (timestamp, timestamp) -> bool",
            "less_equals_duration: (duration, duration) -> bool",
        ],
        |args| ordered(args, Ordering::is_le),
    ),
    (
        "_>_",
        &[
            "greater_bool: (bool, bool) -> bool",
            "greater_int64: (int, int) -> bool",
            "greater_int64_double: (int, double) -> bool",
            "greater_int64_uint64: (int, uint) -> bool",
            "greater_uint64: (uint, uint) -> bool",
            "greater_uint64_double: (uint, double) -> bool",
            "greater_uint64_int64: (uint, int) -> bool",
            "greater_double: (double, double) -> bool",
            "greater_double_int64: (double, int) -> bool",
            "greater_double_uint64: (double, uint) -> bool",
            "greater_string: (string, string) -> bool",
            "greater_bytes: (bytes, bytes) -> bool",
            "greater_timestamp: (timestamp, timestamp) -> bool",
            "greater_duration: (duration, duration) -> bool",
        ],
        |args| ordered(args, Ordering::is_gt),
    ),
    (
        "_>=_",
        &[
            "greater_equals_bool: (bool, bool) -> bool",
            "greater_equals_int64: (int, int) -> bool",
            "greater_equals_int64_double: (int, double) -> bool",
            "greater_equals_int64_uint64: (int, uint) -> bool",
            "greater_equals_uint64: (uint, uint) -> bool",
            "greater_equals_uint64_double: (uint, double) -> bool",
            "greater_equals_uint64_int64: (uint, int) -> bool",
            "greater_equals_double: (double, double) -> bool",
            "greater_equals_double_int64: (double, int) -> bool",
            "greater_equals_double_uint64: (double, uint) -> bool",
            "greater_equals_string: (string, string) -> bool",
            "greater_equals_bytes: (bytes, bytes) -> bool",
            "greater_equals_timestamp: (timestamp, timestamp) -> bool",
            "greater_equals_duration: (duration, duration) -> bool",
        ],
        |args| ordered(args, Ordering::is_ge),
    ),
    (
        "_+_",
        &[
            "add_bytes: (bytes, bytes) -> bytes",
            "add_double: (double, double) -> double",
            "add_duration_duration: (duration, duration) -> duration",
            "add_duration_timestamp: (duration, timestamp) -> timestamp",
            "add_timestamp_duration: (timestamp, duration) -> timestamp",
            "add_int64: (int, int) -> int",
            "add_list: (list(A), list(A)) -> list(A)",
            "add_string: (string, string) -> string",
            "add_uint64: (uint, uint) -> uint",
        ],
        |args| with_two(args, add),
    ),
    (
        "_-_",
        &[
            "subtract_double: (double, double) -> double",
            "subtract_duration_duration: (duration, duration) -> duration",
            "subtract_int64: (int, int) -> int",
            "subtract_timestamp_duration: (timestamp, duration) -> timestamp",
            "subtract_timestamp_timestamp: (timestamp, timestamp) -> duration",
            "subtract_uint64: (uint, uint) -> uint",
        ],
        |args| with_two(args, subtract),
    ),
    (
        "_*_",
        &[
            "multiply_double: (double, double) -> double",
            "multiply_int64: (int, int) -> int",
            "multiply_uint64: (uint, uint) -> uint",
        ],
        |args| with_two(args, multiply),
    ),
    (
        "_/_",
        &[
            "divide_double: (double, double) -> double",
            "divide_int64: (int, int) -> int",
            "divide_uint64: (uint, uint) -> uint",
        ],
        |args| with_two(args, divide),
    ),
    ("_%_", &["modulo_int64: (int, int) -> int", "modulo_uint64: (uint, uint) -> uint"], |args| with_two(args, modulo)),
    ("-_", &["negate_double: (double) -> double", "negate_int64: (int) -> int"], negate),
    ("@in", &["in_list: (A, list(A)) -> bool", "in_map: (A, map(A, B)) -> bool"], |args| with_two(args, contains)),
    (
        "_[_]",
        &[
            "index_list: (list(A), int) -> A",
            "index_map: (map(A, B), A) -> B",
            "optional_list_index_int: (optional(list(A)), int) -> optional(A)",
            "optional_map_index_value: (optional(map(A, B)), A) -> optional(B)",
        ],
        |args| with_two(args, index),
    ),
    (
        "_[?_]",
        &[
            "list_optindex_optional_int: (list(A), int) -> optional(A)",
            "optional_list_optindex_optional_int: (optional(list(A)), int) -> optional(A)",
            "map_optindex_optional_value: (map(A, B), A) -> optional(B)",
            "optional_map_optindex_optional_value: (optional(map(A, B)), A) -> optional(B)",
        ],
        |args| with_two(args, try_index),
    ),
    (
        "cel.@mapInsert",
        &[
            "@mapInsert_map_map: (map(A, B), map(A, B)) -> map(A, B)",
            "@mapInsert_map_key_value: (map(A, B), A, B) -> map(A, B)",
        ],
        insert,
    ),
];

fn with_two<'a>(args: &[Value<'a>], run: impl Fn(&Value<'a>, &Value<'a>) -> Outcome<'a>) -> Outcome<'a> {
    match args {
        [a, b] => run(a, b),
        _ => Err(Fault::NoOverload),
    }
}

/// Whether two values are equal. Things of a library can't be held against anything else.
fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Fault> {
    match a {
        Value::Opaque(_) if matches!(b, Value::Null) => Ok(false),
        Value::Opaque(own) if own.type_name() != b.type_name() || !own.is_comparable() => Err(Fault::NoOverload),
        _ => Ok(compare::equal(a, b)),
    }
}

/// Whose arguments are not all looked at: the evaluator does it.
fn lazily<'a>(_: &[Value<'a>]) -> Outcome<'a> {
    Err(Fault::NoOverload)
}

fn not<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(flag)] => Ok(Value::Bool(!flag)),
        _ => Err(Fault::NoOverload),
    }
}

fn ordered<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Outcome<'a> {
    with_two(args, |a, b| match compare::order(a, b) {
        Some(order) => Ok(Value::Bool(order.is_some_and(wanted))),
        None => Err(Fault::NoOverload),
    })
}

const OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map_or_else(|| fail(OVERFLOW), |value| Ok(Value::Int(value)))
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map_or_else(|| fail(UINT_OVERFLOW), |value| Ok(Value::Uint(value)))
}

fn span<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map_or_else(|| fail(OVERFLOW), |value| Ok(Value::Duration(value)))
}

fn shifted<'a>(time: Timestamp, nanos: Option<i64>) -> Outcome<'a> {
    let shifted = nanos.and_then(|nanos| time.checked_add(SignedDuration::from_nanos(nanos)).ok());
    let shifted = shifted.filter(|time| time.as_second() >= read::FIRST_SECOND);
    shifted.map_or_else(|| fail(TIMESTAMP_OVERFLOW), |time| Ok(Value::Timestamp(time)))
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(text([&**a, &**b].concat())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::List(a), Value::List(b)) => Ok(compare::concat(a, b).into()),
        (Value::Duration(a), Value::Duration(b)) => span(a.checked_add(*b)),
        (Value::Timestamp(time), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(time)) => {
            shifted(*time, Some(*span))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn subtract<'a>(a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => span(a.checked_sub(*b)),
        (Value::Timestamp(time), Value::Duration(span)) => shifted(*time, span.checked_neg()),
        (Value::Timestamp(a), Value::Timestamp(b)) => match i64::try_from(a.as_nanosecond() - b.as_nanosecond()) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(_) => fail(OVERFLOW),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn multiply<'a>(a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(Fault::NoOverload),
    }
}

fn divide<'a>(a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => fail("division by zero"),
        (Value::Int(a), Value::Int(b)) => int(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(Fault::NoOverload),
    }
}

fn modulo<'a>(a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => fail("modulus by zero"),
        (Value::Int(a), Value::Int(b)) => int(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_rem(*b)),
        _ => Err(Fault::NoOverload),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        [Value::Duration(value)] => span(value.checked_neg()),
        _ => Err(Fault::NoOverload),
    }
}

fn contains<'a>(item: &Value<'a>, within: &Value<'a>) -> Outcome<'a> {
    match within {
        Value::List(list) => Ok(Value::Bool(list.iter().any(|own| compare::equal(&own, item)))),
        Value::Map(map) => Ok(Value::Bool(map.get(item).is_some())),
        _ => Err(Fault::NoOverload),
    }
}

fn index<'a>(operand: &Value<'a>, at: &Value<'a>) -> Outcome<'a> {
    match operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => try_index(inner, at),
        _ => match found(operand, at)? {
            Some(value) => Ok(value),
            None if matches!(operand, Value::List(_)) => fail(format!("index out of bounds: {}", plain(at))),
            None => fail(format!("no such key: {}", plain(at))),
        },
    }
}

fn try_index<'a>(operand: &Value<'a>, at: &Value<'a>) -> Outcome<'a> {
    match operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => try_index(inner, at),
        _ => Ok(Value::optional(found(operand, at)?)),
    }
}

fn found<'a>(operand: &Value<'a>, at: &Value<'a>) -> Result<Option<Value<'a>>, Fault> {
    match operand {
        Value::List(list) => {
            let place = match at {
                Value::Int(place) => Some(*place),
                Value::Uint(place) => Some(i64::try_from(*place).unwrap_or(i64::MAX)),
                Value::Double(place) if place.fract() == 0.0 && place.abs() < 9e15 => {
                    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in bounds")]
                    let place = *place as i64;
                    Some(place)
                }
                _ => None,
            };
            match place {
                None if matches!(at, Value::Double(_)) => {
                    fail(format!("unsupported index value {} in list", plain(at)))
                }
                Some(place) => Ok(usize::try_from(place).ok().and_then(|place| list.get(place))),
                None => fail(format!("unsupported index type '{}' in list", at.type_name())),
            }
        }
        Value::Map(map) => Ok(map.get(at)),
        _ => Ok(None),
    }
}

fn plain(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => read::number(*number),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_owned(),
        other => other.type_name().to_owned(),
    }
}

fn insert<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (first, added) = match args {
        [Value::Map(first), Value::Map(second)] => (first, second.entries()),
        [Value::Map(first), key, value] => (first, vec![(key.clone(), value.clone())]),
        _ => return Err(Fault::NoOverload),
    };
    let mut entries = match first {
        Map::Made(entries) => (**entries).clone(),
        other => {
            let mut entries = Entries::default();
            other.entries().into_iter().for_each(|(key, value)| {
                entries.insert(key, value);
            });
            entries
        }
    };
    put(&mut entries, added)?;
    Ok(Value::Map(Map::Made(Arc::new(entries))))
}

fn put<'a>(entries: &mut Entries<'a>, added: Vec<(Value<'a>, Value<'a>)>) -> Result<(), Fault> {
    for (key, value) in added {
        if !entries.insert(key.clone(), value) {
            return fail(format!("insert failed: key {} already exists", plain(&key)));
        }
    }
    Ok(())
}

/// Adds to a list or a map that nobody else holds, without a copy of what it holds already; hands all back where that can't
/// be.
pub(crate) fn grow<'a>(mut accu: Value<'a>, mut added: Vec<Value<'a>>) -> Result<Outcome<'a>, Vec<Value<'a>>> {
    match (&mut accu, added.as_slice()) {
        (Value::List(List::Made(items)), [Value::List(more)]) => {
            if let Some(own) = Arc::get_mut(items) {
                own.extend(more.iter());
                return Ok(Ok(accu));
            }
        }
        (Value::Map(Map::Made(entries)), [Value::Map(_)] | [_, _]) => {
            if let Some(own) = Arc::get_mut(entries) {
                let added = match added.as_slice() {
                    [Value::Map(more)] => more.entries(),
                    [key, value] => vec![(key.clone(), value.clone())],
                    _ => Vec::new(),
                };
                return Ok(put(own, added).map(|()| accu));
            }
        }
        _ => {}
    }
    added.insert(0, accu);
    Err(added)
}
