//! Conditions of requests that a write of the status leaves as they were.

use serde_json::Value;

use crate::registry::object;

/// Makes the conditions of these types what they were, unless there are more or fewer of a type: that is for validation to
/// judge.
pub(super) fn keep(request: &mut Value, old: &Value, types: &[&str]) {
    for kept in types {
        let is_one = |one: &&Value| object::text(one, &["type"]) == *kept;
        let before: Vec<Value> = object::list(old, &["status", "conditions"]).iter().filter(is_one).cloned().collect();
        let now = object::list(request, &["status", "conditions"]).iter().filter(is_one).count();
        if before.len() != now {
            continue;
        }
        let mut before = before.into_iter();
        for condition in object::list_mut(request, &["status", "conditions"]).into_iter().flatten() {
            if object::text(condition, &["type"]) == *kept
                && let Some(one) = before.next()
            {
                *condition = one;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_kept_where_none_came_or_went() {
        let request = |conditions: Value| json!({"status": {"conditions": conditions}});
        let approved = |reason: &str| json!({"type": "Approved", "status": "True", "reason": reason});
        let old = request(json!([approved("First")]));
        let mut new = request(json!([{"type": "Failed"}, approved("Second")]));
        keep(&mut new, &old, &["Approved", "Denied"]);
        assert_eq!(new, request(json!([{"type": "Failed"}, approved("First")])));
        let mut more = request(json!([approved("Second"), approved("Third")]));
        let asked = more.clone();
        keep(&mut more, &old, &["Approved", "Denied"]);
        assert_eq!(more, asked);
    }
}
