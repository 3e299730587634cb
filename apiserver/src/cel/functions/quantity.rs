//! Amounts such as `100m` and `1.5Gi`.

use martello_api::quantity::Quantity;

use super::{Fault, Library, fail, semver};
use crate::cel::{opaque::Opaque, value::Value};

pub(super) const LIBRARY: Library = &[
    ("quantity", &["string_to_quantity: (string) -> Quantity"], |args| match args {
        [Value::String(text)] => match text.parse::<Quantity>() {
            Ok(quantity) => Ok(Value::Opaque(Opaque::Quantity(quantity))),
            Err(error) => fail(error.to_string()),
        },
        _ => Err(Fault::NoOverload),
    }),
    ("isQuantity", &["is_quantity_string: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        _ => Err(Fault::NoOverload),
    }),
    ("sign", &["quantity_sign: (Quantity) -> int"], |args| {
        let own = one(args)?;
        Ok(Value::Int(if own.is_zero() {
            0
        } else if own.is_negative() {
            -1
        } else {
            1
        }))
    }),
    ("isInteger", &["quantity_is_integer: Quantity.() -> bool"], |args| Ok(Value::Bool(whole(&one(args)?).is_some()))),
    ("asInteger", &["quantity_get_int: Quantity.() -> int"], |args| {
        whole(&one(args)?).map_or_else(|| fail("cannot convert value to integer"), |number| Ok(Value::Int(number)))
    }),
    ("asApproximateFloat", &["quantity_get_float: Quantity.() -> double"], |args| {
        let own = one(args)?;
        #[expect(clippy::cast_precision_loss, reason = "approximate, as its name says")]
        let number = if let Some(number) = whole(&own) { number as f64 } else { own.millis() as f64 / 1000.0 };
        Ok(Value::Double(number))
    }),
    (
        "add",
        &["quantity_add: Quantity.(Quantity) -> Quantity", "quantity_add_int: Quantity.(int) -> Quantity"],
        |args| two(args).map(|(a, b)| Value::Opaque(Opaque::Quantity(a + b))),
    ),
    (
        "sub",
        &["quantity_sub: Quantity.(Quantity) -> Quantity", "quantity_sub_int: Quantity.(int) -> Quantity"],
        |args| two(args).map(|(a, b)| Value::Opaque(Opaque::Quantity(a - b))),
    ),
    (
        "isGreaterThan",
        &["quantity_is_greater_than: Quantity.(Quantity) -> bool", "semver_is_greater_than: Semver.(Semver) -> bool"],
        |args| order(args).map(|order| Value::Bool(order.is_gt())),
    ),
    (
        "isLessThan",
        &["quantity_is_less_than: Quantity.(Quantity) -> bool", "semver_is_less_than: Semver.(Semver) -> bool"],
        |args| order(args).map(|order| Value::Bool(order.is_lt())),
    ),
    (
        "compareTo",
        &["quantity_compare_to: Quantity.(Quantity) -> int", "semver_compare_to: Semver.(Semver) -> int"],
        |args| order(args).map(|order| Value::Int(order as i64)),
    ),
];

fn one(args: &[Value<'_>]) -> Result<Quantity, Fault> {
    match args {
        [Value::Opaque(Opaque::Quantity(own))] => Ok(*own),
        _ => Err(Fault::NoOverload),
    }
}

fn two(args: &[Value<'_>]) -> Result<(Quantity, Quantity), Fault> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok((*a, *b)),
        [Value::Opaque(Opaque::Quantity(a)), Value::Int(b)] => Ok((*a, Quantity::from_units(*b))),
        _ => Err(Fault::NoOverload),
    }
}

/// The number of units, if there is no fraction.
fn whole(quantity: &Quantity) -> Option<i64> {
    let units = quantity.units();
    (Quantity::from_units(units) == *quantity).then_some(units)
}

fn order(args: &[Value<'_>]) -> Result<std::cmp::Ordering, Fault> {
    if let [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] = args {
        return Ok(semver::Semver::precedence(a, b));
    }
    two(args).map(|(a, b)| a.cmp(&b))
}
