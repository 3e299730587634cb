//! Which item of a list was which: where items have keys, the old list is indexed once, so that a long list costs no search
//! per item.

use std::collections::HashMap;

use serde_json::Value;

use super::rules::{ListKind, Rules};

/// The items of an old list by their keys.
pub(super) struct Former<'v> {
    keys: &'v [String],
    items: HashMap<String, &'v Value>,
}

impl<'v> Former<'v> {
    /// Of what stood where the list stands now; none if that is no list.
    #[must_use]
    pub(super) fn of(keys: &'v [String], old: Option<&'v Value>) -> Option<Self> {
        let old = old?.as_array()?;
        let mut items = HashMap::with_capacity(old.len());
        for item in old {
            if let Some(identity) = identity(keys, item) {
                items.entry(identity).or_insert(item);
            }
        }
        Some(Self { keys, items })
    }

    /// What an item was before.
    #[must_use]
    pub(super) fn of_item(&self, item: &Value) -> Option<&'v Value> {
        self.items.get(&identity(self.keys, item)?).copied()
    }
}

/// The values of the keys as one text; none where one is missing or no plain value.
fn identity(keys: &[String], item: &Value) -> Option<String> {
    let plain = |value: &&Value| !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
    let values = keys.iter().map(|key| item.get(key).filter(plain).map(Value::to_string));
    Some(values.collect::<Option<Vec<_>>>()?.join(","))
}

/// Whether a value is what it was, as far as its schema can tell: fields that the schema does not know, and items that can't be
/// told apart where they have keys, count as changed.
pub(super) fn unchanged(rules: &Rules, old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Array(before), Value::Array(items)) if before.len() == items.len() && !items.is_empty() => {
            let (ListKind::Map(keys), Some(of)) = (&rules.list.kind, &rules.list.items) else { return before == items };
            let former = Former::of(keys, Some(old));
            let same = |item: &Value| {
                let before = former.as_ref().and_then(|former| former.of_item(item));
                before.is_some_and(|before| unchanged(of, before, item))
            };
            items.iter().all(same)
        }
        (Value::Object(before), Value::Object(fields)) if before.len() == fields.len() => {
            fields.iter().all(|(name, value)| {
                let of = rules.object.fields.get(name).or(rules.object.others.as_deref());
                of.zip(before.get(name)).is_some_and(|(of, before)| unchanged(of, before, value))
            })
        }
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_found_by_all_of_their_keys() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let old = json!([{"a": 1, "b": "x"}, {"a": 1, "b": "y", "n": 1}, {"a": 1, "b": "y", "n": 2}, {"a": 2}]);
        let before = Former::of(&keys, Some(&old)).unwrap();
        assert_eq!(before.of_item(&json!({"a": 1, "b": "y"})).unwrap()["n"], 1);
        assert!(before.of_item(&json!({"a": 2, "b": null})).is_none(), "what has no key is nobody's");
        assert!(before.of_item(&json!({"a": "1", "b": "x"})).is_none());
        assert!(Former::of(&keys, Some(&json!({}))).is_none());
    }

    #[test]
    fn what_the_schema_does_not_know_counts_as_changed() {
        let rules = Rules::of(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                  "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
            "l": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        }}));
        let same = |value: Value| unchanged(&rules, &value, &value);
        assert!(same(json!({"m": [{"k": "a", "v": 1}, {"k": "b"}], "l": [{"x": 1}]})));
        assert!(same(json!({"m": [], "l": null})));
        for value in
            [json!({"other": 1}), json!({"m": [{"v": 1}]}), json!({"m": ["a"]}), json!({"m": [{"k": "a", "z": 1}]})]
        {
            assert!(!same(value.clone()), "{value}");
        }
        assert!(!same(json!({"m": [{"k": "a", "v": 1}, {"k": "a", "v": 2}]})), "the second is told from the first");
        let (one, other) = (json!([{"k": "a"}, {"k": "b"}]), json!([{"k": "b"}, {"k": "a"}]));
        assert!(unchanged(&rules, &json!({"m": one}), &json!({"m": other})), "their order does not matter");
    }

    /// One search per item would take minutes.
    #[test]
    fn a_long_list_is_matched_without_a_search_per_item() {
        let keys = ["k".to_owned()];
        let list: Vec<Value> = (0..80_000).map(|at| json!({"k": at.to_string()})).collect();
        let list = Value::Array(list);
        let before = Former::of(&keys, Some(&list)).unwrap();
        assert!(list.as_array().unwrap().iter().rev().all(|item| before.of_item(item) == Some(item)));
    }
}
