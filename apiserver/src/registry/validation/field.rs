//! A value of an object and where it is: what rules look at, and what they complain about.

use std::borrow::Cow;

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{internal, text::Faults};
use crate::registry::object;

/// The path of what is wrong with an object as a whole, as upstream prints a path without a name.
pub const NOWHERE: &str = "[]";

/// A value and its path in messages. What is missing is null.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its path.
    pub path: String,
}

impl<'a> Field<'a> {
    /// `value`, which messages call `path`.
    #[must_use]
    pub fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    /// The value under `key`; null where it is missing.
    #[must_use]
    pub fn at(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value: self.value.get(key).unwrap_or(&Value::Null), path }
    }

    /// The value under `key`, where there is one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Self> {
        let field = self.at(key);
        (!field.value.is_null()).then_some(field)
    }

    /// The items of the list under `key`.
    #[must_use]
    pub fn items(&self, key: &str) -> Vec<Self> {
        let list = self.at(key);
        let items = list.value.as_array().map_or(&[][..], Vec::as_slice);
        items.iter().enumerate().map(|(index, value)| Self::new(value, format!("{}[{index}]", list.path))).collect()
    }

    /// The entries of the map under `key`.
    #[must_use]
    pub fn entries(&self, key: &str) -> Vec<(&'a str, Self)> {
        let map = self.at(key);
        let entries = map.value.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.as_str(), Self::new(value, format!("{}[{key}]", map.path)))).collect()
    }

    /// This value as text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// This value as a whole number.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The text under `key`.
    #[must_use]
    pub fn str(&self, key: &str) -> &'a str {
        object::text(self.value, &[key])
    }

    /// The truth under `key`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        object::flag(self.value, &[key])
    }

    /// How many items the list under `key` has.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        object::list(self.value, &[key]).len()
    }

    /// Whether the value is null, empty or zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        object::is_zero(self.value)
    }

    /// Complains that the value is missing.
    pub fn required(&self, why: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::required(self.path.as_str(), why));
    }

    /// Complains of the value.
    pub fn invalid(&self, why: &str, causes: &mut Vec<Cause>) {
        let shown = if self.path.ends_with("labels") { sorted(self.value) } else { selector_shown(self.value) };
        causes.push(Cause::invalid(self.path.as_str(), &shown, why));
    }

    /// Complains that the value may not be there.
    pub fn forbidden(&self, why: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::forbidden(self.path.as_str(), why));
    }

    /// Complains that the value was there before.
    pub fn duplicate(&self, causes: &mut Vec<Cause>) {
        causes.push(Cause::duplicate(self.path.as_str(), self.value));
    }

    /// Complains that what the value names is not there.
    pub fn not_found(&self, causes: &mut Vec<Cause>) {
        let message = format!("Not found: {}", json!(self.text()));
        causes.push(Cause::new("FieldValueNotFound", self.path.as_str(), message));
    }

    /// Complains of more items than `limit`.
    pub fn too_many(&self, count: usize, limit: usize, causes: &mut Vec<Cause>) {
        let message = format!("Too many: {count}: must have at most {limit} items");
        causes.push(Cause::new("FieldValueTooMany", self.path.as_str(), message));
    }

    /// Complains of each fault that `rule` finds.
    pub fn check(&self, rule: impl Fn(&str) -> Faults, causes: &mut Vec<Cause>) {
        for fault in rule(self.text()) {
            self.string_invalid(&fault, causes);
        }
    }

    /// As [`Field::check`], where there is text.
    pub fn check_if_set(&self, rule: impl Fn(&str) -> Faults, causes: &mut Vec<Cause>) {
        if !self.text().is_empty() {
            self.check(rule, causes);
        }
    }

    /// As [`Field::check`], and there must be text.
    pub fn check_required(&self, rule: impl Fn(&str) -> Faults, causes: &mut Vec<Cause>) {
        if self.needs_text(causes) {
            self.check(rule, causes);
        }
    }

    /// Complains where there is no text; answers whether there is.
    pub fn needs_text(&self, causes: &mut Vec<Cause>) -> bool {
        if self.text().is_empty() {
            self.required("", causes);
        }
        !self.text().is_empty()
    }

    /// Complains where the text is not one of `supported`.
    pub fn one_of(&self, supported: &[&str], causes: &mut Vec<Cause>) {
        if !supported.contains(&self.text()) {
            causes.push(Cause::not_supported(self.path.as_str(), &json!(self.text()), supported));
        }
    }

    /// Complains where the text is missing, or not one of `supported`.
    pub fn needs_one_of(&self, supported: &[&str], causes: &mut Vec<Cause>) {
        if self.needs_text(causes) {
            self.one_of(supported, causes);
        }
    }

    /// Complains of a number below zero.
    pub fn not_negative(&self, causes: &mut Vec<Cause>) {
        if self.int().is_some_and(|number| number < 0) {
            self.invalid("must be greater than or equal to 0", causes);
        }
    }

    /// Complains where the text is not of the form `example.com/path`.
    pub fn domain_prefixed_path(&self, causes: &mut Vec<Cause>) {
        if !self.needs_text(causes) {
            return;
        }
        let parts = self.text().split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
        let Some((host, path)) = parts else {
            return self.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", causes);
        };
        for fault in super::text::dns1123_subdomain(host) {
            causes.push(Cause::invalid(self.path.as_str(), &json!(host), &fault));
        }
        let fits = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte));
        if !fits {
            let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
            causes.push(Cause::invalid(self.path.as_str(), &json!(path), why));
        }
    }

    fn string_invalid(&self, why: &str, causes: &mut Vec<Cause>) {
        causes.push(Cause::invalid(self.path.as_str(), &json!(self.text()), why));
    }
}

/// A value as Go's internal types show it in messages: every field by its Go name, in their order, null where unset.
#[must_use]
pub fn go_form(value: &Value, fields: &[(&str, &str, Value)]) -> Value {
    let shown = fields.iter().map(|(key, name, unset)| {
        let own = value.get(*key).filter(|own| !own.is_null());
        ((*name).to_owned(), own.map_or_else(|| unset.clone(), capitalized))
    });
    Value::Object(shown.collect())
}

/// A map as Go shows it, by its keys.
#[must_use]
pub fn sorted(map: &Value) -> Cow<'_, Value> {
    match map {
        Value::Object(entries) if entries.len() > 1 => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Cow::Owned(entries.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => Cow::Borrowed(other),
    }
}

/// A selector of labels as Go shows it, each part in its place. Anything else is shown as it is.
#[must_use]
pub fn selector_shown(selector: &Value) -> Cow<'_, Value> {
    const PARTS: [&str; 2] = ["matchLabels", "matchExpressions"];
    let Some(entries) = selector.as_object() else { return Cow::Borrowed(selector) };
    if entries.is_empty() || !entries.keys().all(|key| PARTS.contains(&key.as_str())) {
        return Cow::Borrowed(selector);
    }
    Cow::Owned(internal::of("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", selector))
}

/// A value as Go's internal types show it: keys begin with a capital.
#[must_use]
pub fn capitalized(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let mut letters = key.chars();
                    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                    (first.into_iter().chain(letters).collect(), capitalized(value))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(capitalized).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_selectors_are_shown_in_gos_order() {
        let labels = json!({"b": "1", "a": "2"});
        assert_eq!(sorted(&labels).to_string(), r#"{"a":"2","b":"1"}"#);
        let selector = json!({"matchExpressions": [{"key": "k"}], "matchLabels": {"b": "1", "a": "2"}});
        assert_eq!(
            selector_shown(&selector).to_string(),
            r#"{"matchLabels":{"a":"2","b":"1"},"matchExpressions":[{"key":"k","operator":""}]}"#
        );
    }

    #[test]
    fn paths_name_keys_and_places() {
        let value = json!({"a": [{"b": 1}], "m": {"x.y": "z"}});
        let field = Field::new(&value, "spec");
        let item = field.items("a").remove(0);
        assert_eq!(item.at("b").path, "spec.a[0].b");
        assert_eq!(field.entries("m")[0].1.path, "spec.m[x.y]");
        assert!(field.get("none").is_none());
    }

    #[test]
    fn internal_types_show_what_is_unset() {
        let shown = go_form(&json!({"add": ["A"]}), &[("drop", "Drop", Value::Null), ("add", "Add", Value::Null)]);
        assert_eq!(shown.to_string(), r#"{"Drop":null,"Add":["A"]}"#);
    }
}
