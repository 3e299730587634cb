//! Signatures in short: `add_int64: (int, int) -> int`, or `size_list: list(A).() -> int` for what is called on a target.

use super::Overload;
use crate::cel::types::{OPTIONAL, Type};

/// Opaque types by their short names.
const OPAQUE: [(&str, &str); 11] = [
    ("Quantity", "kubernetes.Quantity"),
    ("IP", "net.IP"),
    ("CIDR", "net.CIDR"),
    ("URL", "kubernetes.URL"),
    ("Semver", "kubernetes.Semver"),
    ("NamedFormat", "kubernetes.NamedFormat"),
    ("Authorizer", "kubernetes.authorization.Authorizer"),
    ("PathCheck", "kubernetes.authorization.PathCheck"),
    ("GroupCheck", "kubernetes.authorization.GroupCheck"),
    ("ResourceCheck", "kubernetes.authorization.ResourceCheck"),
    ("Decision", "kubernetes.authorization.Decision"),
];

/// Reads a signature.
pub(super) fn parse(text: &'static str) -> Option<Overload> {
    let (id, rest) = text.split_once(": ")?;
    let (left, result) = rest.split_once(" -> ")?;
    let (target, list) = match left.strip_suffix(')')?.rsplit_once(".(") {
        Some((target, list)) => (Some(target), list),
        None => (None, left.strip_prefix('(')?.strip_suffix(')')?),
    };
    let mut args = Vec::new();
    if let Some(target) = target {
        args.push(ty(target)?);
    }
    for arg in split(list) {
        args.push(ty(arg)?);
    }
    let result = ty(result)?;
    let params = args.iter().chain([&result]).map(most).max().unwrap_or(0);
    Some(Overload { id, member: target.is_some(), args, result, params })
}

/// The opaque type of a short name.
#[must_use]
pub(super) fn opaque(short: &str) -> Option<Type> {
    OPAQUE.iter().find(|(own, _)| *own == short).map(|(_, name)| Type::Opaque(name, Vec::new()))
}

fn ty(text: &str) -> Option<Type> {
    let text = text.trim();
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let parts: Option<Vec<Type>> = split(inner).into_iter().map(ty).collect();
        return match (name, parts?.as_slice()) {
            ("list", [of]) => Some(Type::list(of.clone())),
            ("map", [key, value]) => Some(Type::map(key.clone(), value.clone())),
            ("optional", [of]) => Some(Type::Opaque(OPTIONAL, vec![of.clone()])),
            ("type", [of]) => Some(Type::Type(Some(of.clone().into()))),
            _ => None,
        };
    }
    Some(match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        other => return opaque(other),
    })
}

fn split(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut level, mut start) = (0_usize, 0);
    for (at, c) in list.char_indices() {
        match c {
            '(' => level += 1,
            ')' => level = level.saturating_sub(1),
            ',' if level == 0 => {
                parts.extend(list.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(list.get(start..).filter(|rest| !rest.trim().is_empty()));
    parts
}

/// One more than the highest parameter.
fn most(ty: &Type) -> u32 {
    match ty {
        Type::Param(number) => number + 1,
        Type::List(of) => most(of),
        Type::Map(key, value) => most(key).max(most(value)),
        Type::Opaque(_, parts) => parts.iter().map(most).max().unwrap_or(0),
        Type::Type(Some(of)) => most(of),
        _ => 0,
    }
}
