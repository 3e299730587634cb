//! Which item of a list was which: where items have keys, the old list is indexed once, so that a long list costs no search
//! per item.

use std::collections::HashMap;

use serde_json::Value;

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
            items.entry(identity(keys, item)).or_insert(item);
        }
        Some(Self { keys, items })
    }

    /// What an item was before.
    #[must_use]
    pub(super) fn of_item(&self, item: &Value) -> Option<&'v Value> {
        self.items.get(&identity(self.keys, item)).copied()
    }
}

/// The values of the keys as one text; what is missing counts as null.
fn identity(keys: &[String], item: &Value) -> String {
    let values = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null).to_string());
    values.collect::<Vec<_>>().join(",")
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
        assert_eq!(before.of_item(&json!({"a": 2, "b": null})), Some(&old[3]));
        assert!(before.of_item(&json!({"a": "1", "b": "x"})).is_none());
        assert!(Former::of(&keys, Some(&json!({}))).is_none());
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
