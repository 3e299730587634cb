//! Values that may be missing.

use super::{Fault, Library, Outcome, fail};
use crate::cel::value::Value;

pub(super) const LIBRARY: Library = &[
    ("optional.of", &["optional_of: (A) -> optional(A)"], |args| match args {
        [value] => Ok(Value::optional(Some(value.clone()))),
        _ => Err(Fault::NoOverload),
    }),
    ("optional.ofNonZeroValue", &["optional_ofNonZeroValue: (A) -> optional(A)"], |args| match args {
        [value] => Ok(Value::optional((!is_zero(value)).then(|| value.clone()))),
        _ => Err(Fault::NoOverload),
    }),
    ("optional.none", &["optional_none: () -> optional(A)"], |_| Ok(Value::Optional(None))),
    ("value", &["optional_value: optional(A).() -> A"], |args| match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => fail("optional.none() dereference"),
        _ => Err(Fault::NoOverload),
    }),
    ("hasValue", &["optional_hasValue: optional(A).() -> bool"], |args| match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => Err(Fault::NoOverload),
    }),
    ("first", &["list_first: list(A).() -> optional(A)"], |args| match args {
        [Value::List(list)] => Ok(Value::optional(list.get(0))),
        _ => Err(Fault::NoOverload),
    }),
    ("last", &["list_last: list(A).() -> optional(A)"], |args| match args {
        [Value::List(list)] => Ok(Value::optional(list.len().checked_sub(1).and_then(|at| list.get(at)))),
        _ => Err(Fault::NoOverload),
    }),
    ("optional.unwrap", &["optional_unwrap: (list(optional(A))) -> list(A)"], unwrapped),
    ("unwrapOpt", &["optional_unwrapOpt: list(optional(A)).() -> list(A)"], unwrapped),
    ("or", &["optional_or_optional: optional(A).(optional(A)) -> optional(A)"], chosen),
    ("orValue", &["optional_orValue_value: optional(A).(A) -> A"], chosen),
];

/// Both sides are there: the evaluator looks at the second only where it is needed.
fn chosen<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), other] => Ok(other.clone()),
        [own @ Value::Optional(Some(_)), Value::Optional(_)] => Ok(own.clone()),
        [Value::Optional(Some(own)), _] => Ok((**own).clone()),
        _ => Err(Fault::NoOverload),
    }
}

/// What the optionals of a list hold.
fn unwrapped<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return Err(Fault::NoOverload) };
    let mut held = Vec::new();
    for item in list.iter() {
        match item {
            Value::Optional(value) => held.extend(value.map(|value| (*value).clone())),
            _ => return Err(Fault::NoOverload),
        }
    }
    Ok(held.into())
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Int(number) | Value::Duration(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(data) => data.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(object) => object.fields.is_empty(),
        Value::Optional(value) => value.is_none(),
        _ => false,
    }
}
