//! Lists in forms for people, YAML and JSON in lines: made object by object while they are sent, in the request's seat and time.
//! A large collection as a value in memory takes ten times its bytes, for each who asks, and for as long as they take to read
//! it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::list::without_kind;
use crate::{
    http::{body::BoxError, joined::Part, negotiate::Encoding, yaml},
    registry::call::Call,
};

/// A form for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// YAML.
    Yaml,
    /// JSON, a field a line.
    Lines,
}

/// Before the items of a list in YAML.
const ITEMS: &str = "items:\n";

impl Style {
    /// The form that a client asked for, if it is one of these.
    #[must_use]
    pub fn of(call: &Call) -> Option<Self> {
        match call.accepted.encoding {
            Encoding::Yaml => Some(Self::Yaml),
            Encoding::Json if call.pretty() => Some(Self::Lines),
            _ => None,
        }
    }

    fn text(self, value: &Value) -> Result<String, BoxError> {
        match self {
            Self::Yaml => yaml::encode(value).map_err(BoxError::from),
            Self::Lines => Ok(serde_json::to_string_pretty(value)?),
        }
    }

    /// A list without items: up to where its first would stand, and from there on. In lines, `items` is its last field.
    fn around(self, list: &Value) -> Result<[String; 2], BoxError> {
        let whole = self.text(list)?;
        let parts = match self {
            Self::Yaml => whole.split_once("\nitems: []\n").map(|(head, tail)| (format!("{head}\n{ITEMS}"), tail)),
            Self::Lines => whole.strip_suffix("[]\n}").map(|head| (format!("{head}[\n"), "\n  ]\n}")),
        };
        let (head, tail) = parts.ok_or("a list does not say where its items are")?;
        Ok([head, tail.to_owned()])
    }

    /// An object in its place in a list.
    fn item(self, object: Value, is_first: bool) -> Result<String, BoxError> {
        match self {
            Self::Yaml => {
                let text = self.text(&json!({"items": [object]}))?;
                Ok(text.strip_prefix(ITEMS).ok_or("an object in a list is not where it must be")?.to_owned())
            }
            Self::Lines => {
                let lines = self.text(&object)?.replace('\n', "\n    ");
                Ok(format!("{}    {lines}", if is_first { "" } else { ",\n" }))
            }
        }
    }
}

/// The frames of a list: `list` without items, and the JSON of its objects. Those of custom kinds say what they are.
///
/// # Errors
/// When the list can't be put into words.
pub fn frames(
    style: Style,
    list: &Value,
    objects: Vec<Bytes>,
    is_custom: bool,
) -> Result<impl Iterator<Item = Part> + Send + use<>, BoxError> {
    let around = if objects.is_empty() { [style.text(list)?, String::new()] } else { style.around(list)? };
    let items = objects.into_iter().enumerate().map(move |(at, json)| {
        let object: Value = serde_json::from_slice(&json)?;
        let object = if is_custom { object } else { without_kind(object) };
        style.item(object, at == 0).map(Bytes::from)
    });
    let [head, end]: [Part; 2] = around.map(|text| Ok(Bytes::from(text)));
    Ok(std::iter::once(head).chain(items).chain(std::iter::once(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(style: Style, list: &Value, objects: &[Value]) -> String {
        let objects = objects.iter().map(|object| Bytes::from(object.to_string())).collect();
        let frames: Vec<Bytes> = frames(style, list, objects, true).unwrap().map(Result::unwrap).collect();
        String::from_utf8(frames.concat()).unwrap()
    }

    #[test]
    fn a_list_made_object_by_object_is_the_list() {
        let long = "a word and another ".repeat(20);
        let objects = [
            json!({"metadata": {"name": "a", "annotations": {"long": long, "lines": "one\n  two\n\nthree\n", "empty": ""}}}),
            json!({"spec": {"list": [{"x": [[1, 2], []], "y": {}}, "text", null, true, 1.5], "key: odd": "- no list"}}),
            json!({}),
            json!({"data": {"tab": "\tx", "quote": "\"'", "number": "0123", "items": []}}),
        ];
        for style in [Style::Yaml, Style::Lines] {
            for count in 0..=objects.len() {
                let objects = objects.get(..count).unwrap_or_default();
                let list = |items: &[Value]| json!({"kind": "XList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
                assert_eq!(
                    told(style, &list(&[]), objects),
                    style.text(&list(objects)).unwrap(),
                    "{style:?} of {count}"
                );
            }
        }
    }
}
