//! From nodes and a value to what is found.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value;

use super::Node;

/// More values than this are not followed: descents multiply.
const MAX_FOUND: usize = 10_000;
/// No filter looks at more items.
const MAX_LOOKED_AT: usize = 1_000_000;

/// A path asks of a value what it has not.
#[derive(Debug)]
pub(super) struct Unfit;

type Found<'v> = Vec<Cow<'v, Value>>;

/// What nodes find, one behind the other.
pub(super) fn all<'v>(nodes: &[Node], mut found: Found<'v>) -> Result<Found<'v>, Unfit> {
    for node in nodes {
        found = walk(node, found)?;
        if found.len() > MAX_FOUND {
            return Err(Unfit);
        }
    }
    Ok(found)
}

fn walk<'v>(node: &Node, input: Found<'v>) -> Result<Found<'v>, Unfit> {
    match node {
        Node::Known(text @ Value::String(_)) => Ok(vec![Cow::Owned(text.clone())]),
        Node::Known(value) => Ok(input.iter().map(|_| Cow::Owned(value.clone())).collect()),
        Node::Field(name) => Ok(input.into_iter().filter_map(|value| field(value, name)).collect()),
        Node::Wildcard => Ok(input.into_iter().flat_map(children).take(MAX_FOUND + 1).collect()),
        Node::Descend => {
            let mut found = Vec::new();
            for value in input {
                descend(value, &mut found)?;
            }
            Ok(found)
        }
        Node::Index(at) => each_list(&input, |items| {
            let place = if *at < 0 { *at + items.len() as i64 } else { *at };
            let item = usize::try_from(place).ok().and_then(|place| items.get(place)).ok_or(Unfit)?;
            Ok(vec![item])
        }),
        Node::Slice(bounds) => each_list(&input, |items| slice(items, bounds)),
        Node::Union(parts) => {
            let mut found = Vec::new();
            for part in parts {
                found.extend(all(part, input.clone())?);
                within(found.len(), MAX_FOUND)?;
            }
            Ok(found)
        }
        Node::Exists(left) => {
            filtered(&input, |item| Ok(all(left, vec![Cow::Borrowed(item)]).is_ok_and(|found| !found.is_empty())))
        }
        Node::Filter(left, operator, right) => filtered(&input, |item| compare(item, left, operator, right)),
        Node::Word => Err(Unfit),
    }
}

fn field<'v>(value: Cow<'v, Value>, name: &str) -> Option<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
        _ => None,
    }
}

/// What is in a value; of a text its octets.
fn children(value: Cow<'_, Value>) -> Found<'_> {
    match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        other => {
            let octets = other.as_str().unwrap_or_default().bytes();
            octets.take(MAX_FOUND).map(|octet| Cow::Owned(octet.into())).collect()
        }
    }
}

/// Whatever holds something, and what is in it.
fn descend<'v>(value: Cow<'v, Value>, found: &mut Found<'v>) -> Result<(), Unfit> {
    let children = children(value.clone());
    if children.is_empty() {
        return Ok(());
    }
    found.push(value);
    if found.len() > MAX_FOUND {
        return Err(Unfit);
    }
    children.into_iter().try_for_each(|child| descend(child, found))
}

/// Of each list what is picked; null is passed over, and anything else does not fit.
fn each_list<'v>(
    input: &Found<'v>,
    pick: impl Fn(&'v [Value]) -> Result<Vec<&'v Value>, Unfit>,
) -> Result<Found<'v>, Unfit> {
    let mut found = Vec::new();
    for value in input {
        match value {
            Cow::Borrowed(Value::Array(items)) => found.extend(pick(items)?.into_iter().map(Cow::Borrowed)),
            other if other.is_null() => {}
            _ => return Err(Unfit),
        }
        within(found.len(), MAX_FOUND)?;
    }
    Ok(found)
}

fn within(count: usize, most: usize) -> Result<(), Unfit> {
    if count > most { Err(Unfit) } else { Ok(()) }
}

fn slice<'v>(items: &'v [Value], [from, to, stride]: &[Option<i64>; 3]) -> Result<Vec<&'v Value>, Unfit> {
    let count = i64::try_from(items.len()).map_err(|_| Unfit)?;
    let from = from.map_or(0, |from| if from < 0 { from + count } else { from });
    let to = to.map_or(count, |to| if to < 0 { to + count } else { to });
    if from == to {
        return Ok(Vec::new());
    }
    if !(0..count).contains(&from) || !(from..=count).contains(&to) {
        return Err(Unfit);
    }
    let stride = usize::try_from(stride.unwrap_or(1)).ok().filter(|stride| *stride > 0).ok_or(Unfit)?;
    let bounds = usize::try_from(from).map_err(|_| Unfit)?..usize::try_from(to).map_err(|_| Unfit)?;
    Ok(items.get(bounds).unwrap_or_default().iter().step_by(stride).collect())
}

fn filtered<'v>(input: &Found<'v>, holds: impl Fn(&'v Value) -> Result<bool, Unfit>) -> Result<Found<'v>, Unfit> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    for value in input {
        let Cow::Borrowed(Value::Array(items)) = value else { return Err(Unfit) };
        looked_at += items.len();
        within(looked_at, MAX_LOOKED_AT)?;
        for item in items {
            if holds(item)? {
                found.push(Cow::Borrowed(item));
            }
        }
    }
    Ok(found)
}

/// Whether a comparison holds of an item. What is not there is neither like nor unlike anything; values of different types
/// can't be compared.
fn compare(item: &Value, left: &[Node], operator: &str, right: &[Node]) -> Result<bool, Unfit> {
    let one = |nodes: &[Node]| match all(nodes, vec![Cow::Borrowed(item)])?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone().into_owned())),
        _ => Err(Unfit),
    };
    let Some(left) = one(left)? else { return Ok(false) };
    let Some(right) = one(right)? else { return Ok(false) };
    let order = match (&left, &right) {
        (Value::Bool(left), Value::Bool(right)) if matches!(operator, "==" | "!=") => left.cmp(right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
            match (left.as_i128(), right.as_i128()) {
                (Some(left), Some(right)) => left.cmp(&right),
                _ => {
                    left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right)).ok_or(Unfit)?
                }
            }
        }
        _ => return Err(Unfit),
    };
    Ok(match operator {
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        ">=" => order != Ordering::Less,
        _ => return Err(Unfit),
    })
}
