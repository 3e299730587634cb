//! What calls cost when they are evaluated, as upstream counts it.

use super::{opaque::Opaque, value::Value};

/// Cost of reading a character.
pub(super) const PER_CHAR: f64 = 0.1;
/// Cost of a character of a pattern.
pub(super) const PER_PATTERN_CHAR: f64 = 0.25;
/// Cost of asking the authorizer: two questions fit in an expression.
pub(super) const AUTHORIZATION: u64 = 350_000;

/// `size * factor`, rounded up.
pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts saturate, and that is what is wanted of an estimate"
    )]
    let scaled = (size as f64 * factor).ceil() as u64;
    scaled
}

/// What is known before the result.
pub(super) fn before(function: &str, args: &[Value<'_>]) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    match function {
        "check" => AUTHORIZATION,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver"
        | "startsWith"
        | "endsWith"
        | "format"
        | "strings.quote"
        | "jsonpatch.escapeKey" => scaled(size(0), PER_CHAR),
        "ip" => match args {
            [Value::Opaque(Opaque::Cidr(_))] => 1,
            _ => scaled(size(0), PER_CHAR),
        },
        "ip.isCanonical" | "replace" | "split" => scaled(size(0), 2.0 * PER_CHAR),
        "join" => 0,
        "find" | "findAll" | "matches" => {
            scaled(size(0).saturating_add(1), PER_CHAR).saturating_mul(scaled(size(1), PER_PATTERN_CHAR))
        }
        "contains" => scaled(size(0), PER_CHAR).saturating_mul(scaled(size(1), PER_CHAR)),
        "containsIP" | "containsCIDR" => {
            let parsing = matches!(args.get(1), Some(Value::String(_)));
            let extra = if function == "containsCIDR" { 2 } else { 0 };
            1 + extra + if parsing { scaled(size(1), PER_CHAR) } else { 0 }
        }
        "validate" => scaled(size(1), PER_CHAR).max(1),
        "@in" => match args.get(1) {
            Some(Value::List(list)) => list.len() as u64,
            _ => 1,
        },
        "_==_" | "_!=_" => scaled(size(0).min(size(1)), PER_CHAR),
        "_<_" | "_<=_" | "_>_" | "_>=_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scaled(size(0).min(size(1)), PER_CHAR),
            _ => 1,
        },
        "_+_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scaled(size(0).saturating_add(size(1)), PER_CHAR),
            _ => 1,
        },
        "sets.contains" | "sets.equivalent" | "sets.intersects" => size(0).saturating_mul(size(1)).max(1),
        "string" | "bytes" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scaled(size(0), PER_CHAR),
            _ => 1,
        },
        _ => 1,
    }
}

/// What only the result tells.
pub(super) fn after(function: &str, result: &Value<'_>) -> u64 {
    if function == "join" { scaled(result.size(), 2.0 * PER_CHAR) } else { 0 }
}

/// What it costs to look at all of a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) | Value::Bytes(_) => value.size() / 10,
        Value::List(list) => list.iter().map(|item| traversal(&item)).fold(0, u64::saturating_add),
        Value::Map(map) => map
            .entries()
            .iter()
            .map(|(key, value)| traversal(key).saturating_add(traversal(value)))
            .fold(0, u64::saturating_add),
        _ => 1,
    }
}
