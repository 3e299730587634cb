//! What calls cost when they are evaluated, as upstream counts it.

use super::{opaque::Opaque, value::Value};

/// Cost of reading a character.
pub(super) const PER_CHAR: f64 = 0.1;
/// Cost of a character of a pattern.
pub(super) const PER_PATTERN_CHAR: f64 = 0.25;
/// Cost of asking the authorizer: two questions fit in an expression.
pub(super) const AUTHORIZATION: u64 = 350_000;

/// Cost of a call that makes a list, besides what its items cost.
pub(super) const LIST_CALL: u64 = 11;

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

/// Functions that cost by the length of their first text.
const BY_LENGTH: [&str; 17] = [
    "url",
    "lowerAscii",
    "upperAscii",
    "substring",
    "trim",
    "cidr",
    "isIP",
    "isCIDR",
    "quantity",
    "isQuantity",
    "semver",
    "isSemver",
    "startsWith",
    "endsWith",
    "format",
    "strings.quote",
    "jsonpatch.escapeKey",
];

/// What is known before the result; `meant`: the signature, where only one can be meant. What is there for several types costs
/// by size only where the type is known beforehand.
pub(super) fn before(function: &str, meant: Option<&str>, args: &[Value<'_>]) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    match function {
        "@in" if meant != Some("in_list") => 1,
        "_<_" | "_<=_" | "_>_" | "_>=_" | "_+_" if meant.is_none() => 1,
        "sort" | "@sortByAssociatedKeys" if meant.is_none() => 1,
        "slice" | "lists.range" | "reverse" => 0,
        "flatten" => match meant {
            None => 1,
            Some(_) => {
                let depth = match args.get(1) {
                    Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or(0),
                    _ => 1,
                };
                size(0).saturating_mul(depth).saturating_add(LIST_CALL)
            }
        },
        "distinct" | "sort" => against_itself(args.first()),
        "@sortByAssociatedKeys" => against_itself(args.get(1)),
        "string" | "bytes" if !matches!(meant, Some("bytes_to_string" | "string_to_bytes")) => 1,
        "check" => AUTHORIZATION,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        name if BY_LENGTH.contains(&name) => scaled(size(0), PER_CHAR),
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
        "validate" => match args.first() {
            Some(Value::Opaque(Opaque::Format(format))) => scaled(size(1).saturating_add(1), PER_CHAR)
                .saturating_mul(scaled(format.pattern_size(), PER_PATTERN_CHAR)),
            _ => 1,
        },
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
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).saturating_add(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1),
        "string" | "bytes" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => scaled(size(0), PER_CHAR),
            _ => 1,
        },
        _ => 1,
    }
}

/// What only the result tells.
pub(super) fn after(function: &str, result: &Value<'_>) -> u64 {
    match function {
        "join" => scaled(result.size(), 2.0 * PER_CHAR),
        "slice" | "lists.range" | "reverse" => LIST_CALL.saturating_add(result.size()),
        _ => 0,
    }
}

/// What it costs to hold all of a list's items against each other.
fn against_itself(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let per_pair = match list.get(0) {
        Some(Value::String(_) | Value::Bytes(_)) => 2.0 + PER_CHAR,
        _ => 2.0,
    };
    let pairs = (list.len() as u64).saturating_mul(list.len() as u64);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts saturate, and the fraction is dropped as upstream does"
    )]
    let cost = (pairs as f64 * per_pair) as u64;
    cost.saturating_add(LIST_CALL)
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
