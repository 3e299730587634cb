//! When values are equal, and which is less.

use std::{
    cmp::Ordering,
    collections::HashMap,
    hash::{BuildHasher as _, Hash as _, Hasher, RandomState},
};

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
        Some(ListKind::Set) => {
            let own = Index::of(a.iter(), None);
            b.iter().all(|item| own.find(&item).is_some())
        }
        Some(ListKind::Keyed(keys)) => {
            let own = Index::of(a.iter(), Some(keys));
            b.iter().all(|item| own.find(&item).and_then(|at| own.items.get(at)).is_some_and(|own| equal(own, &item)))
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
    let keys = match kind(a) {
        Some(ListKind::Set) => None,
        Some(ListKind::Keyed(keys)) => Some(keys.as_slice()),
        _ => return a.iter().chain(b.iter()).collect(),
    };
    let mut index = Index::of(a.iter(), keys);
    for item in b.iter() {
        match index.find(&item).and_then(|at| index.items.get_mut(at)) {
            Some(own) if keys.is_some() => *own = item,
            Some(_) => {}
            None => index.push(item),
        }
    }
    index.items
}

/// Items that are found by what tells them apart, without a look at all of them.
struct Index<'a, 'k> {
    items: Vec<Value<'a>>,
    /// By the hash of the item, or of its keys.
    places: HashMap<u64, Vec<usize>>,
    /// By what items are told apart; none if by all that they are.
    keys: Option<&'k [String]>,
    state: RandomState,
}

impl<'a, 'k> Index<'a, 'k> {
    fn of(items: impl Iterator<Item = Value<'a>>, keys: Option<&'k [String]>) -> Self {
        let mut index = Self { items: Vec::new(), places: HashMap::new(), keys, state: RandomState::new() };
        items.for_each(|item| index.push(item));
        index
    }

    fn push(&mut self, item: Value<'a>) {
        self.places.entry(self.hash(&item)).or_default().push(self.items.len());
        self.items.push(item);
    }

    /// Place of the first that is the same.
    fn find(&self, item: &Value<'_>) -> Option<usize> {
        let same = |at: &&usize| {
            self.items.get(**at).is_some_and(|own| match self.keys {
                Some(keys) => same_keys(own, item, keys),
                None => equal(own, item),
            })
        };
        self.places.get(&self.hash(item))?.iter().find(same).copied()
    }

    fn hash(&self, item: &Value<'_>) -> u64 {
        let mut hasher = self.state.build_hasher();
        match (self.keys, item) {
            (Some(keys), Value::Map(map)) => keys.iter().for_each(|key| {
                let name = super::schema::escape(key).unwrap_or_else(|| key.clone());
                self.feed(&map.field(&name).unwrap_or(Value::Null), &mut hasher);
            }),
            (Some(_), _) => {}
            (None, item) => self.feed(item, &mut hasher),
        }
        hasher.finish()
    }

    /// Values that are equal are told the same. What is not told apart here is only slower to find.
    fn feed(&self, value: &Value<'_>, hasher: &mut impl Hasher) {
        let apart = |values: &[&Value<'_>]| {
            let mut hasher = self.state.build_hasher();
            values.iter().for_each(|value| self.feed(value, &mut hasher));
            hasher.finish()
        };
        match value {
            // The order of entries does not count, and that of items only in some lists.
            Value::List(list) => list.iter().map(|item| apart(&[&item])).fold(0, u64::wrapping_add).hash(hasher),
            Value::Map(map) => {
                map.entries().iter().map(|(key, value)| apart(&[key, value])).fold(0, u64::wrapping_add).hash(hasher);
            }
            Value::Timestamp(time) => time.as_nanosecond().hash(hasher),
            Value::Duration(nanos) => nanos.hash(hasher),
            Value::Bytes(data) => data.hash(hasher),
            Value::String(text) => (**text).hash(hasher),
            Value::Bool(flag) => flag.hash(hasher),
            number => nearest(number).hash(hasher),
        }
    }
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

/// The floating number that is nearest: equal numbers have the same, whatever their types.
#[expect(clippy::cast_precision_loss, reason = "numbers that are not told apart are only slower to find")]
fn nearest(value: &Value<'_>) -> Option<u64> {
    let number = match value {
        Value::Int(number) => *number as f64,
        Value::Uint(number) => *number as f64,
        Value::Double(number) => *number,
        _ => return None,
    };
    // Zero has two forms.
    Some((number + 0.0).to_bits())
}
