//! When values are equal, and which is less.

use std::cmp::Ordering;

use super::{
    schema::{ListKind, Schema, Shape},
    value::{List, Map, Value},
};

/// Whether two values are equal; of different types they are not, but numbers are compared by what they say.
#[must_use]
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) | (Value::Type(a), Value::Type(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists(a, b),
        (Value::Map(a), Value::Map(b)) => maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Value::Object(a), Value::Object(b)) => {
            a.name == b.name
                && a.fields.len() == b.fields.len()
                && a.fields
                    .iter()
                    .all(|(name, value)| b.fields.iter().any(|(other, own)| other == name && equal(value, own)))
        }
        (Value::Opaque(a), Value::Opaque(b)) => a.equal(b),
        _ => order(a, b) == Some(Some(Ordering::Equal)),
    }
}

fn lists(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match kind(a) {
        Some(ListKind::Set) => b.iter().all(|item| a.iter().any(|own| equal(&own, &item))),
        Some(ListKind::Keyed(keys)) => {
            b.iter().all(|item| a.iter().find(|own| same_keys(own, &item, keys)).is_some_and(|own| equal(&own, &item)))
        }
        _ => a.iter().zip(b.iter()).all(|(a, b)| equal(&a, &b)),
    }
}

/// How the items of a list are told apart.
fn kind<'a>(list: &List<'a>) -> Option<&'a ListKind> {
    match list {
        List::View(_, Some(Schema { shape: Shape::List(_, kind), .. })) => Some(kind),
        _ => None,
    }
}

fn same_keys(a: &Value<'_>, b: &Value<'_>, keys: &[String]) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return false };
    keys.iter().all(|key| {
        let key = super::schema::escape(key).unwrap_or_else(|| key.clone());
        match (a.field(&key), b.field(&key)) {
            (Some(a), Some(b)) => equal(&a, &b),
            (None, None) => true,
            _ => false,
        }
    })
}

/// Two lists as one: sets take no item twice, and items with keys replace those of the same keys.
#[must_use]
pub(crate) fn concat<'a>(a: &List<'a>, b: &List<'a>) -> Vec<Value<'a>> {
    let mut items: Vec<Value<'a>> = a.iter().collect();
    for item in b.iter() {
        match kind(a) {
            Some(ListKind::Set) if items.iter().any(|own| equal(own, &item)) => {}
            Some(ListKind::Keyed(keys)) => match items.iter_mut().find(|own| same_keys(own, &item, keys)) {
                Some(own) => *own = item,
                None => items.push(item),
            },
            _ => items.push(item),
        }
    }
    items
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> bool {
    let entries = a.entries();
    let typed = |map: &Map<'_>| matches!(map, Map::View(_, Some(Schema { shape: Shape::Object(_), .. })));
    if entries.len() != b.len() {
        return false;
    }
    if typed(a) && typed(b) {
        let others = b.entries();
        return entries
            .iter()
            .all(|(name, value)| others.iter().any(|(other, own)| equal(name, other) && equal(value, own)));
    }
    entries.iter().all(|(key, value)| b.get(key).is_some_and(|own| equal(value, &own)))
}

/// Which is less; the inner is none for what is no number, the outer for what can't be compared.
#[must_use]
#[expect(clippy::option_option, reason = "not comparable and not a number are two things")]
pub(crate) fn order(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => with_whole(*a, i128::from(*b)),
        (Value::Double(a), Value::Uint(b)) => with_whole(*a, i128::from(*b)),
        (Value::Int(a), Value::Double(b)) => with_whole(*b, i128::from(*a)).map(Ordering::reverse),
        (Value::Uint(a), Value::Double(b)) => with_whole(*b, i128::from(*a)).map(Ordering::reverse),
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => return None,
    })
}

/// A floating number against a whole one, without losing digits.
fn with_whole(number: f64, whole: i128) -> Option<Ordering> {
    if number.is_nan() {
        return None;
    }
    if number >= 1e20 {
        return Some(Ordering::Greater);
    }
    if number <= -1e20 {
        return Some(Ordering::Less);
    }
    #[expect(clippy::cast_possible_truncation, reason = "in bounds of 128 bits")]
    let floor = number.floor() as i128;
    Some(floor.cmp(&whole).then(if number.fract() == 0.0 { Ordering::Equal } else { Ordering::Greater }))
}
