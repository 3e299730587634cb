//! Path elements: fields, items of lists by key or by value, places.

use std::fmt::Write as _;

use serde_json::Value;

use super::zero;
use crate::resource::Text;
use crate::schema::{Kind, List, ListMerge, Presence};

/// The element of an item of a list that merges; nothing where none of its keys is set or has a default.
pub(super) fn of_item(list: &List, item: &Value) -> Option<String> {
    match &list.merge {
        ListMerge::Atomic => None,
        ListMerge::Set => Some(format!("v:{item}")),
        ListMerge::Keys(keys) => of_keys(&list.item, keys, item),
    }
}

/// The element of an item of a list that merges, or why it has none, in upstream's words.
pub(super) fn named(list: &List, item: &Value) -> Result<String, String> {
    let why = match (&list.merge, item) {
        (ListMerge::Keys(_), Value::Null) => "associative list with keys may not have a null element",
        (ListMerge::Keys(keys), Value::Object(_)) => {
            return of_item(list, item).ok_or_else(|| {
                let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                    keys.join(" ")
                )
            });
        }
        (ListMerge::Keys(_), _) => "associative list with keys may not have non-map elements",
        (_, Value::Object(_)) => "associative list without keys has an element that's a map type",
        (_, Value::Array(_)) => "not supported: associative list with lists as elements",
        (_, Value::Null) => "associative list without keys has an element that's an explicit null",
        _ => return of_item(list, item).ok_or_else(|| "invalid indexing of non-associative list".to_owned()),
    };
    Err(why.to_owned())
}

fn of_keys(kind: &Kind, keys: &[Text], item: &Value) -> Option<String> {
    const BEGIN: &str = "k:{";
    let map = item.as_object()?;
    let mut sorted: Vec<&Text> = keys.iter().collect();
    sorted.sort();
    let mut text = String::from(BEGIN);
    for key in sorted {
        let default;
        let value = match map.get(&**key) {
            Some(value) => value,
            None => match key_default(kind, key) {
                Some(value) => {
                    default = value;
                    &default
                }
                None => continue,
            },
        };
        let comma = if text.len() > BEGIN.len() { "," } else { "" };
        let _infallible = write!(text, "{comma}\"{key}\":{value}");
    }
    let named = text.len() > BEGIN.len();
    text.push('}');
    named.then_some(text)
}

fn key_default(kind: &Kind, key: &str) -> Option<Value> {
    let Kind::Message(link) = kind else { return None };
    let field = link.get().field(key)?;
    match &field.default {
        Some(default) => Some(default.clone()),
        None if field.presence == Presence::Always => Some(zero(&field.kind)),
        None => None,
    }
}

/// Whether everything in `fieldsV1` is an element of a path, at every depth. Elements of an unknown type are, too: a later
/// version may know them.
pub(super) fn are_all(fields: &Value) -> bool {
    let Some(fields) = fields.as_object() else { return false };
    fields.iter().all(|(element, below)| element == "." || (is_one(element) && are_all(below)))
}

fn is_one(element: &str) -> bool {
    let mut characters = element.chars();
    let (Some(kind), Some(':')) = (characters.next(), characters.next()) else { return false };
    let rest = characters.as_str();
    match kind {
        'v' => serde_json::from_str::<Value>(rest).is_ok(),
        'k' => serde_json::from_str::<serde_json::Map<String, Value>>(rest).is_ok(),
        'i' => rest.parse::<i64>().is_ok(),
        _ => true,
    }
}

/// As upstream prints it: `.name`, `[name="c"]`, `[="v"]`, `[0]`.
pub(super) fn display(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let keys: serde_json::Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", shown.join(","))
        }
        Some((_, place)) => format!("[{place}]"),
        None => element.to_owned(),
    }
}
