//! Whether the defaults of a schema fit it.

use martello_api::{schema::prune, status::Cause};
use serde_json::json;

use crate::{
    crd::{check::check as check_value, rules::Rules, shape, table::table},
    registry::validation::field::Field,
};

/// Checks every default of `schema` and of what is below it.
pub fn check(schema: &Field<'_>, is_root: bool, causes: &mut Vec<Cause>) {
    if let (false, Some(default)) = (is_root, schema.get("default")) {
        one(schema, &default, causes);
    }
    for key in ["items", "additionalProperties"] {
        let below = schema.at(key);
        if below.value.is_object() {
            check(&below, false, causes);
        }
    }
    for (name, property) in schema.entries("properties") {
        if !(is_root && matches!(name, "metadata" | "kind" | "apiVersion")) {
            check(&property, false, causes);
        }
    }
}

fn one(schema: &Field<'_>, default: &Field<'_>, causes: &mut Vec<Cause>) {
    let holder = table(&json!({"type": "object", "properties": {"default": schema.value}}), String::new());
    let mut pruned = json!({"default": default.value});
    prune(&holder, &mut pruned);
    if pruned.get("default") != Some(default.value) {
        default.invalid("must not have unknown fields", causes);
    }
    let rules = Rules::of(schema.value);
    check_value(&rules, default.value, None, &default.path, causes);
    let mut found = Vec::new();
    shape::embedded(&rules, default.value, &mut found);
    shape::lists(&rules, default.value, &mut found);
    causes.extend(found.into_iter().map(|cause| Cause { field: format!("{}.{}", default.path, cause.field), ..cause }));
}
